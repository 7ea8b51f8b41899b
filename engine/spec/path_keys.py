"""Keys of a preset that are paths, and what becomes of `~` and of relative paths.

A path in a preset is relative to the folder that chelate is called in. Planning makes it absolute,
so that a run can be gone on with from anywhere; what the person wrote is kept beside it (`written`)
for whatever leaves the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel

from engine.spec.marks import marks_of
from engine.spec.places import expanded

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]  # of a value in a preset's data: ("attacks", 0, "image")


@dataclass(frozen=True, slots=True)
class NamesPath:
    """Marks an annotation whose values are paths; `or_name`: or else a name that is no path, which
    a folder of that name goes before."""

    or_name: bool = False


PathKey = Annotated[str, NamesPath()]
FolderOrName = Annotated[str, NamesPath(or_name=True)]


def path_keys(model: type[BaseModel]) -> dict[str, NamesPath]:
    """Key → its mark, of the keys annotated `PathKey` or `FolderOrName`."""
    found = {}
    for name, field in model.model_fields.items():
        mark = next((one for one in marks_of(field) if isinstance(one, NamesPath)), None)
        if mark is not None:
            found[name] = mark
    return found


def placed(model: M, where: str) -> M:
    """With absolute paths in the annotated keys, also in the lists of a `grid`. Raises BadInput;
    `where` is the table in the words of errors: "data", "attacks.badnets"."""
    keys = path_keys(type(model))
    found = {}
    for key, mark in keys.items():
        value = getattr(model, key)
        told = _absolute(value, mark, f"{where}.{type(model).model_fields[key].alias or key}")
        if told != value:
            found[key] = told
    grid = getattr(model, "grid", None)
    if isinstance(grid, dict) and keys.keys() & grid.keys():
        found["grid"] = {
            key: _absolute(values, keys[key], f"{where}.grid.{key}") if key in keys else values
            for key, values in grid.items()
        }
    return model.model_copy(update=found) if found else model


def _absolute(value: Any, mark: NamesPath, where: str) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_absolute(item, mark, where) for item in value)
    if not isinstance(value, str):
        return value
    path = expanded(value, where)
    if mark.or_name and not value.startswith(("~", "/", ".")) and not path.is_dir():
        return value
    told = str(path.absolute())
    try:
        told.encode()
    except UnicodeEncodeError:  # a preset cannot hold it: the run can be resumed from here only
        return value
    return told


# --- what was written ----------------------------------------------------------------------------


def changes(before: Any, after: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """(place, text before) of every text that differs in two sets of data of one form."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from changes(value, after.get(key), (*place, key))
    elif isinstance(before, list) and isinstance(after, list):
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from changes(one, other, (*place, number))
    elif isinstance(before, str) and before != after:
        yield place, before


def value_at(data: Any, place: Place) -> Any:
    """None where there is none."""
    for part in place:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def put_at(data: Any, place: Place, text: str) -> None:
    """Replace the text at `place`, if there is one."""
    if place and isinstance(value_at(data, place), str):
        value_at(data, place[:-1])[place[-1]] = text


def in_words(place: Place) -> str:
    """A place as a message names it: attacks[0].image."""
    told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return told.removeprefix(".")


def is_relative(text: str) -> bool:
    return not text.startswith(("~", os.sep))
