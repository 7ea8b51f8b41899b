"""Your own images: train/<class>/… and test/<class>/…, decoded once."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from engine.lab.data._class_folders import PARTS, Layout, entries_of, layout_of, listed
from engine.lab.data._images import in_threads, pixels, read_file, upright_size
from engine.spec.component import Card, Data, DataInfo
from engine.spec.data_report import DataReport
from engine.spec.errors import BadInput
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded

if TYPE_CHECKING:
    import numpy as np

LOOK = 2  # raise it when a look at a folder checks or digests something else


class File(NamedTuple):
    """One image; `name` is its path inside the root, with "/"."""

    name: str
    path: str
    label: int


class ImageFolder(Data):
    """A folder with `train` and `test`, each holding one folder of images a class.

    Symbolic links are followed, to files and to folders, also out of the root: subsets of a large
    collection are often made of them, and the digest is of what they lead to. Hidden files and
    folders and what file managers and archives leave behind are skipped; anything else that is no
    image is an error. Classes are in the order of their folders' names, numbers by their value.
    """

    name: Literal["image-folder"] = "image-folder"
    path: PathKey = Field(description="The folder that holds train/ and test/; ~ is understood.")
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")
    limit_test: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")
    size: int | None = Field(
        default=None, ge=4, le=1024, description="Resize to size×size; default: all must agree."
    )
    grey: bool = Field(default=False, description="One channel instead of three.")
    labels: dict[str, str] = Field(
        default_factory=dict,
        description='Folder = its class, where that is not its name: { "Cat" = "cat" } joins two.',
    )

    version: ClassVar = 2
    packages: ClassVar = ("pillow",)
    card: ClassVar = Card(
        title="Image folder",
        summary="Any images in train/<class>/ and test/<class>/, read once into a cache.",
        reference="the layout of torchvision's ImageFolder",
        needs="the folder",
        cost="the first look reads every file; later ones only sizes and times",
        deviations="EXIF orientation is applied, alpha is laid on white, 16-bit grey is scaled; "
        "torchvision ignores, drops and clips them",
    )

    def inspect(self) -> DataInfo:
        root = self._root()
        layout = self._layout(root)
        classes = layout.classes.names
        chosen, skipped = self._chosen(root, layout)
        digest, size = self._look(root, [file for part in PARTS for file in chosen[part]])
        height, width = (self.size, self.size) if self.size else size
        counts = {part: [0] * len(classes) for part in PARTS}
        for part, files in chosen.items():
            for file in files:
                counts[part][file.label] += 1
        told = layout.told()
        if skipped:
            told.append(f"skipped in class folders: {listed(skipped)}")
        report = DataReport(
            kind="image",
            classes=list(classes),
            train={"rows": len(chosen["train"]), "per_class": counts["train"]},
            test={"rows": len(chosen["test"]), "per_class": counts["test"]},
            read=told,
        )
        return DataInfo(
            digest=digest,
            train=len(chosen["train"]),
            test=len(chosen["test"]),
            shape=(1 if self.grey else 3, height, width),
            classes=classes,
            train_per_class=tuple(counts["train"]),
            report=report,
        )

    def identity(self) -> dict[str, Any]:
        told = super().identity()
        if not self.labels:
            del told["labels"]  # the key came after the first results
        return told

    def read(self) -> dict[str, np.ndarray]:
        import numpy as np

        root = self._root()
        arrays: dict[str, np.ndarray] = {}
        chosen, _ = self._chosen(root, self._layout(root))
        shape = self._decode(chosen["train"][0]).shape
        for part, files in chosen.items():
            rows = np.empty((len(files), *shape), dtype=np.uint8)
            size = Path(files[0].path).stat().st_size
            for _ in in_threads(partial(self._fill, files, rows), len(files), file_size=size):
                pass
            arrays[f"{part}_x"] = rows
            arrays[f"{part}_y"] = np.array([file.label for file in files], dtype=np.int64)
        return arrays

    def _fill(self, files: list[File], rows: np.ndarray, start: int, stop: int) -> None:
        for row in range(start, stop):
            image = self._decode(files[row])
            if image.shape != rows.shape[1:]:
                raise BadInput(_odd_size(files[row], image.shape[1:], rows.shape[2:]))
            rows[row] = image

    def _decode(self, file: File) -> np.ndarray:
        return pixels(file.path, read_file(file.path), self.grey, self.size)

    def _root(self) -> Path:
        root = expanded(self.path, "data.path")
        if not root.is_dir():
            raise BadInput(f"data.path = {self.path!r}: no such folder.")
        for part in PARTS:
            if not (root / part).is_dir():
                deeper = [one for one in sorted(root.glob("*/train")) if one.is_dir()]
                hint = f"; is {str(deeper[0].parent)!r} meant?" if deeper else ""
                raise BadInput(
                    f"data.path = {self.path!r}: it has no folder {part!r}; expected "
                    f"train/<class>/… and test/<class>/…{hint}"
                )
        return root.resolve()

    def _layout(self, root: Path) -> Layout:
        return layout_of(root, self.labels)

    def _chosen(self, root: Path, layout: Layout) -> tuple[dict[str, list[File]], list[str]]:
        """The rows in use, for each part, in a fixed order; folders in class folders that were
        skipped."""
        import numpy as np

        from engine.lab.selection import stratified

        chosen, skipped = {}, []
        for part, limit in zip(PARTS, (self.limit_train, self.limit_test), strict=True):
            files: list[File] = []
            for name, label in layout.folders[part]:
                folder = root / part / name
                entries, left = entries_of(folder)
                files += [File(f"{part}/{name}/{e.name}", e.path, label) for e in entries]
                skipped += [f"{part}/{name}/{one}" for one in left]
                if part == "train" and not entries:
                    raise BadInput(f"data.path: {folder} is empty; every class needs images.")
            if not files:
                raise BadInput(f"data.path: {root / part} holds no images.")
            labels = np.array([file.label for file in files])
            chosen[part] = [files[row] for row in stratified(labels, limit)]
        return chosen, skipped

    def _look(self, root: Path, files: list[File]) -> tuple[str, tuple[int, int]]:
        """Content digest of `files` and the first one's (height, width). Raises BadInput.

        Reading tens of thousands of files takes seconds, so what was found is remembered under
        the signature of the files: names, sizes, times. (A file can be replaced by one of equal
        size and modification time; nothing sets back the time of the change of its entry.)
        """
        states = _states(files)
        signature = hashlib.sha256(
            json.dumps([LOOK, bool(self.size), str(root), states]).encode()
        ).hexdigest()
        memory = _memory_folder() / f"{signature}.json"
        try:
            told = json.loads(memory.read_text())
            return str(told["digest"]), (int(told["height"]), int(told["width"]))
        except (OSError, ValueError, KeyError):
            pass
        digest = hashlib.sha256()
        first: tuple[int, int] | None = None
        look = partial(_seen, files)
        for chunk in in_threads(look, len(files), file_size=states[0][1]):
            for file, content, size in chunk:
                first = first or size
                if size != first and not self.size:
                    raise BadInput(_odd_size(file, size, first))
                digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape") + content)
        assert first is not None
        told = {"digest": digest.hexdigest(), "height": first[0], "width": first[1]}
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            memory.write_text(json.dumps(told))
        except OSError:
            pass  # only a memory: without it the next start reads the files again
        return digest.hexdigest(), first


def _seen(files: list[File], start: int, stop: int) -> list[tuple[File, bytes, tuple[int, int]]]:
    """(the file, sha256 of its content, height and width) of some files."""
    found = []
    for file in files[start:stop]:
        content = read_file(file.path)
        size = upright_size(file.path, content)
        found.append((file, hashlib.sha256(content).digest(), size))
    return found


def _states(files: list[File]) -> list[tuple[str, int, int, int]]:
    """(name, size, modified, changed) of each. Raises BadInput for what is not a regular file."""
    states: list[tuple[str, int, int, int]] = []
    for file in files:
        try:
            found = os.stat(file.path)  # noqa: PTH116  # Path costs as much as the call
        except OSError as error:
            raise BadInput(f"data.path: {file.path} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(found.st_mode):
            what = "is a folder" if stat.S_ISDIR(found.st_mode) else "is not a regular file"
            raise BadInput(f"data.path: {file.path} {what}; a class folder holds images only.")
        states.append((file.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return states


def _odd_size(file: File, found: Sequence[int], first: Sequence[int]) -> str:
    return (
        f"data image-folder: {file.path} is {found[1]}×{found[0]}, the first image "
        f"{first[1]}×{first[0]}; set data.size to resize them all."
    )


def _memory_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("chelate") / "image-folders"
