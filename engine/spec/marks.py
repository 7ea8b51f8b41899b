"""What annotations of a preset's keys say beside a type: that a key names a class, or a path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo


def marks_of(field: FieldInfo) -> Iterator[Any]:
    """The marks of a key's annotation, and of whatever is inside of it (a list's items, a union)."""
    yield from field.metadata
    yield from _inside(field.annotation)


def _inside(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _inside(part)
