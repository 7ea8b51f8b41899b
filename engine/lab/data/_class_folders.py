"""Which folders of train/ and test/ are classes: order, litter, names that are one class.

Nothing here opens a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.lab.data._labels import Classes, classes_of, number
from engine.spec.errors import BadInput

PARTS = ("train", "test")
LITTER_FILES = ("thumbs.db", "desktop.ini", "icon\r")  # of file managers, in lower case
LITTER_FOLDERS = (
    "__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information",
    "lost+found",
)  # fmt: skip
NAMED = 12  # classes, or folders, that a sentence names


@dataclass(frozen=True, slots=True)
class Layout:
    """`folders` holds, for each part, (folder's name, class) in the order of the rows; `skipped` what
    is no class, as "train/__MACOSX"; `aside` folders beside train and test."""

    classes: Classes
    folders: Mapping[str, Sequence[tuple[str, int]]]
    skipped: tuple[str, ...]
    aside: tuple[str, ...]

    def told(self) -> list[str]:
        """How the folders were read where that is not plain from them, a sentence each."""
        return [
            *_order(self.classes.names),
            *self.classes.told,
            *([f"skipped, as no class: {listed(self.skipped)}"] if self.skipped else []),
            *([f"beside train and test, not read: {listed(self.aside)}"] if self.aside else []),
        ]


def layout_of(root: Path, joins: Mapping[str, str]) -> Layout:
    """`joins` is the key data.labels. Raises BadInput where train and test have different classes,
    a file lies in no class, or two folders may be one class."""
    found: dict[str, list[str]] = {}
    skipped = []
    for part in PARTS:
        kept, left = entries_of(root / part)
        stray = [entry.path for entry in kept if not entry.is_dir()]
        if stray:
            raise BadInput(f"data.path: {stray[0]} lies in no class folder.")
        for entry in kept:
            if not entry.name.isascii() and not _is_text(entry.name):
                raise BadInput(f"data.path: {entry.path!r}: the folder's name is not UTF-8.")
        found[part] = [entry.name for entry in kept]
        skipped += [f"{part}/{name}" for name in left]
    if not found["train"]:
        raise BadInput(f"data.path: {root / 'train'} must hold at least two classes; found none.")
    seen = {name: f"{part}/{name}" for part in reversed(PARTS) for name in found[part]}
    classes = classes_of({name: seen[name] for name in sorted(seen)}, joins)
    own = {part: {classes.index[name] for name in names} for part, names in found.items()}
    if len(own["train"]) < 2:
        only = classes.names[own["train"].pop()]
        raise BadInput(
            f"data.path: {root / 'train'} must hold at least two classes; found only {only!r}."
        )
    if not own["test"]:
        raise BadInput(f"data.path: {root / 'test'} holds no images.")
    if own["train"] != own["test"]:
        raise BadInput(_disagreement(root, classes.names, own))
    folders = {
        part: sorted(((name, classes.index[name]) for name in names), key=lambda one: one[::-1])
        for part, names in found.items()
    }
    return Layout(classes, folders, tuple(skipped), _aside(root))


def entries_of(folder: Path) -> tuple[list[os.DirEntry[str]], list[str]]:
    """What lies in a folder and is meant to be there, by name; and names of folders that are not:
    hidden ones, and those that programs leave behind. Raises BadInput."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BadInput(f"data.path: {folder} cannot be read: {error.strerror}.") from None
    kept, skipped = [], []
    for entry in found:
        name = entry.name.lower()
        if name[0] != "." and name not in LITTER_FILES and name not in LITTER_FOLDERS:
            kept.append(entry)
        elif name not in LITTER_FILES and entry.is_dir():
            skipped.append(entry.name)
    return kept, skipped


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _aside(root: Path) -> tuple[str, ...]:
    kept, skipped = entries_of(root)
    names = [entry.name for entry in kept if entry.is_dir() and entry.name not in PARTS]
    return tuple(sorted([*names, *skipped]))


def _disagreement(root: Path, names: Sequence[str], own: Mapping[str, set[int]]) -> str:
    """Both lists, and which classes only one of them has."""
    lists = {part: [names[label] for label in sorted(labels)] for part, labels in own.items()}
    only = {
        part: [names[label] for label in sorted(own[part] - own[other])]
        for part, other in zip(PARTS, reversed(PARTS), strict=True)
    }
    told = [f"only {part} has {listed(map(repr, own))}" for part, own in only.items() if own]
    both = [f"{part} has {len(own)}: {listed(map(repr, own))}" for part, own in lists.items()]
    return (
        f"data.path: train and test in {root} have different classes: {' and '.join(told)}. "
        f"{'; '.join(both)}. Classes without test images need an empty folder in test; "
        "data.labels joins a folder with the class it belongs to."
    )


def _order(names: Sequence[str]) -> list[str]:
    """How the classes are ordered, where that is not the order of their letters."""
    numbers = [name for name in names if number(name) is not None]
    if not numbers:
        return []
    how = "numeric order of their folders"
    if len(numbers) < len(names):
        how = "order of their folders, numbers by value, then words"
    text = f"classes in {how}: {listed(names)}"
    odd = [(place, name) for place, name in enumerate(names) if name != str(place)]
    if len(numbers) == len(names) and odd:
        text += f" (class {odd[0][1]!r} has index {odd[0][0]})"
    return [text]


def listed(words: Iterable[str]) -> str:
    """Words with commas between, the middle left out of many."""
    told = list(words)
    if len(told) > NAMED:
        told = [*told[: NAMED - 1], "…", told[-1]]
    return ", ".join(told)
