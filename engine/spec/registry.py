"""Finds attacks, methods, audits, models and data sets, in our folders and by entry point.

A component file is any module of the kind's folder whose name does not start with an underscore.
Adding one touches nothing here.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, reduce
from importlib.metadata import entry_points
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from engine.spec.component import KINDS, Component
from engine.spec.errors import BadInput, unknown


def component_name(cls: type[Component]) -> str:
    """The word a preset uses for this component."""
    return str(cls.model_fields["name"].default)


@cache
def registered(kind: str) -> dict[str, type[Component]]:
    """All components of one kind ("data", "model", "attack", "method", "audit"), by name."""
    spec = KINDS[kind]
    found: dict[str, type[Component]] = {}
    folder = importlib.import_module(spec.folder)
    for info in pkgutil.iter_modules(folder.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{spec.folder}.{info.name}")
        for value in vars(module).values():
            if is_component(value, spec.base) and value.__module__ == module.__name__:
                _add(found, kind, value)
    for entry in entry_points(group=spec.entry_points):
        value = entry.load()
        if not is_component(value, spec.base):
            raise BadInput(
                f"entry point {entry.name!r} of {entry.group}: {entry.value} is not a subclass of "
                f"engine.spec.component.{spec.base.__name__} with a `name`."
            )
        _add(found, kind, value)
    return dict(sorted(found.items()))


def is_component(value: object, base: type[Component]) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and "name" in value.model_fields
    )


def _add(found: dict[str, type[Component]], kind: str, cls: type[Component]) -> None:
    name = component_name(cls)
    if name in found:
        raise BadInput(
            f"two {kind}s are called {name!r}: {found[name].__module__} and {cls.__module__}."
        )
    found[name] = cls


def find(kind: str, name: str) -> type[Component]:
    """The component called `name`. Raises BadInput with the nearest right name and the list."""
    classes = registered(kind)
    if name not in classes:
        raise BadInput(unknown(kind, name, classes))
    return classes[name]


def union(kind: str) -> Any:
    """The discriminated union (by `name`) of all components of a kind, as a pydantic field type."""
    classes = list(registered(kind).values())
    if len(classes) == 1:
        return classes[0]
    return Annotated[reduce(or_, classes), Field(discriminator="name")]  # type: ignore[arg-type]
