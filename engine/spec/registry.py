"""Finds attacks, methods, audits, models and data sets, in our folders and by entry point.

A component file is any module of the kind's folder whose name does not start with an underscore.
Adding one touches nothing here.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from engine.spec.component import KINDS, Component
from engine.spec.errors import BadInput, unknown
from engine.spec.plugins import Skipped, add_plugins


def component_name(cls: type[Component]) -> str:
    """The word a preset uses for this component."""
    return str(cls.model_fields["name"].default)


@cache
def registered(kind: str) -> dict[str, type[Component]]:
    """All components of one kind ("data", "model", "attack", "method", "audit"), by name."""
    return _all(kind)[0]


def skipped(kind: str) -> list[Skipped]:
    """The entry points of one kind that are not what they are said to be."""
    return _all(kind)[1]


@cache
def _all(kind: str) -> tuple[dict[str, type[Component]], list[Skipped]]:
    """What there is and what was skipped, of which the first to ask is told on stderr."""
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
    left_out = add_plugins(found, spec)
    for one in left_out:
        sys.stderr.write(f"chelate: {one}.\n")
    return dict(sorted(found.items())), left_out


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
        left_out = [one for one in skipped(kind) if one.entry.rpartition(":")[2] == name]
        if left_out:
            raise BadInput(f"unknown {kind} {name!r}: {left_out[0]}.")
        raise BadInput(unknown(kind, name, classes))
    return classes[name]


def union(kind: str) -> Any:
    """The discriminated union (by `name`) of all components of a kind, as a pydantic field type."""
    classes = list(registered(kind).values())
    if len(classes) == 1:
        return classes[0]
    return Annotated[reduce(or_, classes), Field(discriminator="name")]  # type: ignore[arg-type]
