"""Published image sets: the user's own copy or a download, read only when its checksum is right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from engine.spec.component import Data, DataInfo
from engine.spec.errors import BadInput
from engine.spec.files import content_of
from engine.spec.keys import digest
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded
from engine.spec.registry import component_name

if TYPE_CHECKING:
    import numpy as np

TIMEOUT = 20.0  # seconds without a byte from the network


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a data set without having it; a test puts a small one in its place.

    md5: of every file that may be read. url: the web folder that holds `downloads`.
    system: where a package of the operating system puts the files.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_per_class: tuple[int, ...]
    test_per_class: tuple[int, ...]
    md5: Mapping[str, str]
    url: str
    downloads: tuple[str, ...]
    system: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A copy of the data: its files, and which of the publisher's forms they are."""

    form: str
    files: tuple[Path, ...]


class PublishedData(Data):
    """Config and steps that such data sets share; subclasses know their files' names and layout.

    Whatever is parsed has a checksum of `published.md5`, so the digest is a constant and planning
    needs no files.
    """

    root: PathKey | None = Field(
        default=None,
        min_length=1,
        description="Folder of your own copy; default: the cache folder, filled from the network.",
    )
    limit_train: int | None = Field(default=None, description="Rows kept, classes balanced.")
    limit_test: int | None = Field(default=None, description="Rows kept, classes balanced.")

    published: ClassVar[Published]
    default_form: ClassVar[str]  # the form of `published.downloads`

    @field_validator("limit_train", "limit_test")
    @classmethod
    def _within(cls, limit: int | None, info: Any) -> int | None:
        facts = cls.published
        rows = sum(facts.train_per_class if "train" in info.field_name else facts.test_per_class)
        if limit is not None and not len(facts.classes) <= limit <= rows:
            raise ValueError(f"must be from {len(facts.classes)} (one a class) to {rows} (all)")
        return limit

    def inspect(self) -> DataInfo:
        """Constants. Raises BadInput when `root` is given and holds no copy."""
        facts = self.published
        found = self._find()
        form = found.form if found else self.default_form
        train = kept_per_class(facts.train_per_class, self.limit_train)
        test = kept_per_class(facts.test_per_class, self.limit_test)
        return DataInfo(
            digest=digest(
                {
                    "md5": {name: facts.md5[name] for name in facts.downloads},
                    "form": form,  # the forms may differ in the order of their rows
                    "limits": [self.limit_train, self.limit_test],
                }
            ),
            train=sum(train),
            test=sum(test),
            shape=facts.shape,
            classes=facts.classes,
            train_per_class=train,
        )

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"root"})

    def read(self) -> dict[str, np.ndarray]:
        """Raises BadInput for a damaged copy, Failed when there is none and no network."""
        import numpy as np

        from engine.lab.selection import stratified

        facts = self.published
        arrays = self._decode(self._find() or self._download())
        for part, limit, expected in (
            ("train", self.limit_train, facts.train_per_class),
            ("test", self.limit_test, facts.test_per_class),
        ):
            labels = arrays[f"{part}_y"]
            counts = np.bincount(labels, minlength=len(expected)).tolist()
            if counts != list(expected):
                raise BadInput(
                    f"data {self._name}: {part} has {counts} rows a class, not {list(expected)}."
                )
            if limit is not None:
                rows = stratified(labels, limit)
                for key in (f"{part}_x", f"{part}_y"):
                    arrays[key] = arrays[key][rows]
        return arrays

    def _found_in(self, folder: Path) -> Found | None:
        """The best copy in `folder`, if there is one; looks at names only."""
        raise NotImplementedError

    def _decode(self, found: Found) -> dict[str, np.ndarray]:
        """All rows, as `read` gives them. Raises BadInput; parses nothing but `verified` bytes."""
        raise NotImplementedError

    def _wanted(self) -> str:
        """The files one may have, for people."""
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return component_name(type(self))

    def _find(self) -> Found | None:
        if self.root is None:
            places = [self._cache(), *map(Path, self.published.system)]
            return next((found for place in places if (found := self._found_in(place))), None)
        root = expanded(self.root, "data.root")
        if not root.is_dir():
            raise BadInput(f"data.root = {self.root!r}: no such folder.")
        found = self._found_in(root)
        if found is None:
            raise BadInput(
                f"data.root = {self.root!r}: holds no {self._name}; looked for {self._wanted()}."
            )
        return found

    def _cache(self) -> Path:
        import platformdirs

        return platformdirs.user_cache_path("chelate") / "datasets" / self._name

    def _download(self) -> Found:
        from http.client import HTTPException

        from engine.lab.context import Failed

        facts, folder = self.published, self._cache()
        missing = [name for name in facts.downloads if not (folder / name).is_file()]
        try:
            for name in missing:
                fetch(facts.url + name, folder / name, facts.md5[name])
        except (OSError, HTTPException, ValueError) as why:
            files = " ".join(facts.url + name for name in missing)
            reason = getattr(why, "reason", None) or why
            raise Failed(
                f"its files are not here and cannot be downloaded ({reason}). Put {files} into "
                f"{folder}, or set data.root to the folder of your own copy."
            ) from None
        found = self._found_in(folder)
        assert found is not None, "the downloads are a form that is looked for"
        return found


def kept_per_class(counts: Sequence[int], limit: int | None) -> tuple[int, ...]:
    """Rows of each class that `engine.lab.selection.stratified` keeps, by arithmetic."""
    if limit is None or limit >= sum(counts):
        return tuple(counts)
    level = 0  # rows that every class gives, if it has them
    while sum(min(count, level + 1) for count in counts) <= limit:
        level += 1
    kept = [min(count, level) for count in counts]
    rest = limit - sum(kept)
    for label, count in enumerate(counts):
        if rest and count > level:
            kept[label] += 1
            rest -= 1
    return tuple(kept)


def verified(path: Path, md5: str) -> bytes:
    """The file's bytes, once their checksum is the published one. Raises BadInput."""
    content = file_bytes(path)
    found = md5_of(content)
    if found != md5:
        raise BadInput(damaged(path, found, md5))
    return content


def file_bytes(path: Path) -> bytes:
    return content_of(path, f"{path}: cannot be read")


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()  # what the publishers give


def damaged(path: Path, found: str, expected: str) -> str:
    return (
        f"{path}: is damaged or not the published file: its md5 is {found}, expected {expected}. "
        "Nothing of it was read; remove it or fetch it again. (Changed data go into image-folder.)"
    )


def fetch(url: str, target: Path, md5: str) -> None:
    """Download to a temporary name, check, rename. Raises OSError, HTTPException or ValueError."""
    import secrets
    from urllib.request import urlopen

    if not url.startswith("https://"):
        raise ValueError(f"{url} is not https")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    seen = hashlib.md5(usedforsecurity=False)
    try:
        with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as file:  # noqa: S310
            while block := answer.read(1 << 20):
                seen.update(block)
                file.write(block)
        if seen.hexdigest() != md5:
            raise ValueError(f"{url} gave a file with md5 {seen.hexdigest()}, expected {md5}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
