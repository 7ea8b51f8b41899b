"""The Large Movie Review data set as unpacked: aclImdb/{train,test}/{pos,neg}, a file a review."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from engine.lab.data._files import decoded
from engine.lab.data._texts import EMPTY, TextData, Texts
from engine.spec.component import Card
from engine.spec.errors import BadInput
from engine.spec.files import content_at_once
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded

PARTS = ("train", "test")
CLASSES = {"neg": "negative", "pos": "positive"}
BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


class State(NamedTuple):
    """A review's file, and what changes when its content does; the name is inside the folder."""

    name: str
    size: int
    modified: int
    changed: int


class ImdbFolder(TextData):
    """Reviews in order of their files' names, first the negative ones.

    train/unsup has no labels and is skipped. `<br />` becomes a line break. A symbolic link may
    lead anywhere inside the folder, not out of it.
    """

    name: Literal["imdb-folder"] = "imdb-folder"
    path: PathKey = Field(description="aclImdb, which holds train/ and test/; ~ is understood.")
    max_tokens: int = Field(
        default=256, ge=2, le=8192, description="Longer texts are cut, and counted in the report."
    )

    card: ClassVar = Card(
        title="IMDb folder",
        summary="25,000/25,000 film reviews, negative or positive: aclImdb as unpacked.",
        reference="Maas et al. 2011, Learning word vectors for sentiment analysis",
        needs="the folder",
        cost="planning reads every file once a session",
        deviations="<br /> becomes a line break",
    )

    def _texts(self) -> Texts:
        import numpy as np

        root = self._root()
        parts = {part: self._files(root, part) for part in PARTS}
        states = {part: tuple(state for state, _ in files) for part, files in parts.items()}
        found = {}
        dropped = 0
        for part, files in parts.items():
            texts = _read(root, f"data.path = {self.path!r}", states[part])
            rows = [row for row, text in enumerate(texts) if text.strip()]
            dropped += len(texts) - len(rows)
            labels = np.array([files[row][1] for row in rows], dtype=np.int64)
            found[part] = [texts[row] for row in rows], labels
        return Texts(
            *found["train"],
            *found["test"],
            tuple(CLASSES.values()),
            {EMPTY: dropped} if dropped else {},
        )

    def _root(self) -> Path:
        root = expanded(self.path, "data.path")
        if not root.is_dir():
            raise BadInput(f"data.path = {self.path!r}: no such folder.")
        if not (root / "train").is_dir() and (root / "aclImdb").is_dir():
            root = root / "aclImdb"
        for part in PARTS:
            for name in CLASSES:
                if not (root / part / name).is_dir():
                    raise BadInput(
                        f"data.path = {self.path!r}: it has no folder {part}/{name}; expected "
                        "train/{pos,neg} and test/{pos,neg} with a .txt file a review."
                    )
        return root.resolve()

    def _files(self, root: Path, part: str) -> list[tuple[State, int]]:
        """The reviews of a part with their labels. Raises BadInput for links out of the folder."""
        found = []
        for label, name in enumerate(CLASSES):
            try:
                with os.scandir(root / part / name) as entries:
                    texts = sorted(
                        (e for e in entries if e.name.endswith(".txt") and e.name[0] != "."),
                        key=lambda entry: entry.name,
                    )
            except OSError as error:
                raise BadInput(
                    f"data.path = {self.path!r}: {part}/{name} cannot be read: {error.strerror}."
                ) from None
            for entry in texts:
                place = f"{part}/{name}/{entry.name}"
                if entry.is_symlink() or (root / part / name).is_symlink():
                    _refuse_outside(root, place)
                try:
                    told = entry.stat()
                except OSError as error:
                    raise BadInput(
                        f"data.path: {place} cannot be read: {error.strerror}."
                    ) from None
                state = State(place, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
                found.append((state, label))
            if not texts:
                raise BadInput(f"data.path = {self.path!r}: {part}/{name} holds no .txt file.")
        return found


def _refuse_outside(root: Path, place: str) -> None:
    if not (root / place).resolve().is_relative_to(root):
        raise BadInput(f"data.path: {place} is a link that leads out of the folder.")


@lru_cache(maxsize=len(PARTS))
def _read(root: Path, where: str, states: tuple[State, ...]) -> list[str]:
    """The texts of some files; remembered in this process while no file changes."""
    texts = []
    for name, *_ in states:
        told = f"{where}: {name}"
        texts.append(BREAK.sub("\n", decoded(content_at_once(root / name, told), "utf-8", told)))
    return texts
