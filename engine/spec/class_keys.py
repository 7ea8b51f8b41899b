"""Keys of a preset that name a class of the data: by its index, or by its name.

A whole number is the index, always; text is the name, always, as the data set tells it: "7" is the
class called 7, wherever it stands. Planning puts indices in the place of names, once the data are
known, so that both spellings are one config and one content key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from engine.spec.errors import BadInput, nearest
from engine.spec.marks import marks_of
from engine.spec.toml import inline

LISTED = 20  # classes that a message names


@dataclass(frozen=True, slots=True)
class NamesClass:
    """Marks an annotation whose values are classes."""


def _index_or_name(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(
            "must be a class: its index (a whole number) or its name (text, in quotes)"
        )
    return value


ClassKey = Annotated[int | str, BeforeValidator(_index_or_name), NamesClass()]


def index(key: int | str) -> int:
    """The index that planning put in the place of a class's name."""
    if isinstance(key, str):
        raise TypeError(f"class {key!r} has not been looked up: ask `resolved(data)` for a config")
    return key


def class_keys(model: type[BaseModel]) -> list[str]:
    """The keys that name a class, or several in a list."""
    return [name for name, field in model.model_fields.items() if _names_class(field)]


def _names_class(field: FieldInfo) -> bool:
    return any(isinstance(mark, NamesClass) for mark in marks_of(field))


def indices(component: BaseModel, classes: Sequence[str], where: str) -> dict[str, Any]:
    """Key → value with indices in the place of names, for the keys where that is another value.

    `where` is the component in the words of errors: "attacks.badnets". Raises BadInput for a name
    that no class has, or several.
    """
    found = {}
    for key in class_keys(type(component)):
        value = getattr(component, key)
        told = _indices(value, classes, f"{where}.{key}")
        if told != value:
            found[key] = told
    return found


def _indices(value: Any, classes: Sequence[str], where: str) -> Any:
    if isinstance(value, str):
        return class_index(value, classes, where)
    if isinstance(value, list | tuple):
        return type(value)(_indices(item, classes, where) for item in value)
    return value


def class_index(name: str, classes: Sequence[str], where: str) -> int:
    """The index of the class called `name`. Raises BadInput; `where` is the key."""
    found = [number for number, one in enumerate(classes) if one == name]
    if len(found) == 1:
        return found[0]
    if found:
        told = " and ".join(map(str, found))
        raise BadInput(f"{where} = {name!r}: classes {told} are both called that; give an index.")
    guess = nearest(name, classes)
    hint = f" Did you mean {guess!r}?" if guess else ""
    if name.isdecimal() and int(name) < len(classes):
        hint += f" Without quotes, {int(name)} is an index: class {classes[int(name)]!r}."
    raise BadInput(f"{where} = {name!r}: no class is called that.{hint} {known_classes(classes)}")


def known_classes(classes: Sequence[str]) -> str:
    """A sentence with names and their indices, cut where there are many."""
    told = [f"{number} {name!r}" for number, name in enumerate(classes[:LISTED])]
    if len(classes) > LISTED:
        told.append(f"… {len(classes) - 1} {classes[-1]!r}")
    return f"Classes: {', '.join(told)}."


def not_an_index(classes: Sequence[str]) -> str:
    """What is wrong with an index outside the data's classes."""
    last = len(classes) - 1
    return (
        f"must be a class index from 0 to {last} ({classes[0]!r} … {classes[last]!r}) or a class's "
        "name in quotes"
    )


def misleading(component: BaseModel, classes: Sequence[str], where: str) -> list[str]:
    """A sentence for each index that is the name of another class: with folders 1 … 10 as classes,
    7 is the one called 8."""
    told = []
    for key in class_keys(type(component)):
        value = getattr(component, key)
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(one, int) or not 0 <= one < len(classes):
                continue
            name = str(one)
            if classes[one] != name and name in classes:
                told.append(
                    f"{where}.{key} = {one} is an index and means class {classes[one]!r}; the class "
                    f"called {name!r} is written {inline(name)}."
                )
    return told
