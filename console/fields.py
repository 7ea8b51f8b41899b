"""A form from pydantic's fields: what each key of a preset takes, and text in and out of it.

Text is read as TOML, as `--set` reads it; what is no TOML value stays a string, so that the
preset's own check says what is wrong with it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.spec import toml
from engine.spec.component import Metric

Kind = Literal["number", "choice", "bool", "text", "list", "table"]
BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


@dataclass(frozen=True, slots=True)
class Field:
    """One key. `takes` says in words what it takes; `default` is shown where nothing is set.

    `scalar` is False where only a list or a table will do. `grid`: several values with commas
    stand for a grid of variants. `mixed`: a number and a text mean different things (a class's
    index, and its name), so a text that looks like a number is written in quotes.
    """

    key: str
    kind: Kind
    takes: str
    default: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    description: str = ""
    scalar: bool = True
    grid: bool = False
    mixed: bool = False

    def read(self, text: str) -> Any:
        """The value that `text` stands for; nothing is refused here."""
        text = text.strip()
        if self.kind == "text":
            return text
        value = _toml(text)
        if self.mixed and not _plain_toml(value):
            value = None  # a class may be called 2024-01-01, or true
        if value is None and "," in text:
            value = _toml(f"[{text}]")
        if value is None:
            value = [_part(part) for part in text.split(",")] if "," in text else text
        return [value] if not self.scalar and self.kind == "list" and _plain(value) else value

    def written(self, value: Any) -> str:
        """A value as a person types it, such that reading it gives the value again."""
        text = written(value)
        if not self.mixed or value is None:
            return text
        many = isinstance(value, list | tuple)
        if self.read(text) == (list(value) if many else value):
            return text
        return ", ".join(map(toml.inline, value)) if many else toml.inline(value)

    def is_grid(self, value: Any) -> bool:
        """Whether what was read stands for several variants."""
        if not self.grid or not isinstance(value, list):
            return False
        return self.kind != "list" or any(isinstance(item, list) for item in value)


def _toml(text: str) -> Any:
    try:
        found = toml.loads(f"value = {text}", "it")
    except ValueError:  # what is too large, too: the preset's own check says so
        return None
    return found["value"] if len(found) == 1 else None  # a line break could smuggle in more


def _plain_toml(value: Any) -> bool:
    """Whether it is a number, a text, or a list, which may hold both."""
    return isinstance(value, int | float | str | list) and not isinstance(value, bool)


def _part(text: str) -> Any:
    value = _toml(text.strip())
    return text.strip() if value is None else value


def _plain(value: Any) -> bool:
    return not isinstance(value, list | dict)


def written(value: Any) -> str:
    """A value as a person types it: 0.1, cosine, or 0.02, 0.04 for a list."""
    if isinstance(value, list | tuple):
        return ", ".join(_nested(item) for item in value)
    return _nested(value) if isinstance(value, dict) else _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _nested(value: Any) -> str:
    """A value inside a list, or a table: as TOML unless it is a bare word."""
    return toml.inline(value) if isinstance(value, list | tuple | dict) else _scalar(value)


def fields_of(
    model: type[BaseModel], grid: bool = False, without: tuple[str, ...] = ()
) -> list[Field]:
    """The keys of a table, in their order, `name` and those in `without` aside."""
    return [
        _field(info.alias or name, info, grid and name != "label")
        for name, info in model.model_fields.items()
        if name not in ("name", *without)
    ]


def margin_field(audit: str, name: str, metric: Metric) -> Field:
    """The key of [verdicts] for an audit's primary metric."""
    below = "" if metric.span is None else f", < {metric.span:g}"
    return Field(
        key=f"{audit}.{name}",
        kind="number",
        takes=f"number > 0{below}",
        default=written(metric.margin),
        description="Equivalence margin that verdicts go by; default: the shipped one. It changes no "
        "measurement, but makes another run.",
    )


def _field(key: str, info: FieldInfo, grid: bool) -> Field:
    members = list(_members(info.annotation))
    types_ = [member for member in members if member is not type(None)]
    words = tuple(
        str(word).lower() if isinstance(word, bool) else str(word)
        for member in types_
        if get_origin(member) is Literal
        for word in get_args(member)
    )
    origins = {get_origin(member) or member for member in types_}
    tables = [one for one in origins if isinstance(one, type) and issubclass(one, BaseModel)]
    if tables:  # a table inside this one is typed as TOML: { partition = "gpu" }
        origins = {dict}
    scalar = bool(origins - {list, tuple, dict})
    inner = {one for member in types_ for part in get_args(member) for one in _members(part)}
    mixed = origins >= {int, str} or (bool(origins & {list, tuple}) and inner >= {int, str})
    kind: Kind
    if dict in origins:
        kind = "table"
    elif origins & {list, tuple}:
        kind = "list"
    elif words or origins >= {bool, Literal}:
        kind = "choice"
    elif origins == {bool}:
        kind = "bool"
    elif mixed:
        kind = "number"
    else:
        kind = "number" if origins <= {int, float} else "text"
    if bool in origins:
        words = ("true", "false", *words)
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        default = default.model_dump(mode="json", exclude_none=True)
    takes = _takes(kind, words, origins, scalar)
    if kind == "table" and all(one is str or get_origin(one) is Literal for one in inner):
        takes = 'table of texts: { "a" = "b" }'
    if tables:
        takes = f"table of {', '.join(tables[0].model_fields)}"
    return Field(
        key=key,
        kind=kind,
        takes=(_takes_mixed(kind) if mixed else takes) + _bounds(info),
        default=written(default) if default not in (None, {}) else "",
        required=info.is_required(),
        choices=words if kind in ("choice", "bool") else (),
        description=info.description or "",
        scalar=scalar,
        grid=grid,
        mixed=mixed,
    )


def _members(annotation: Any) -> Iterator[Any]:
    """The types a union is made of, without their annotations."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _takes(kind: Kind, words: tuple[str, ...], origins: set[Any], scalar: bool) -> str:
    if kind == "choice":
        return ", ".join(words)
    if kind == "list":
        alone = [*words, *(["number"] if origins & {int, float} else [])]
        return " or ".join([", ".join(alone), "list"]) if scalar and alone else "list: 0.1, 0.2"
    number = "number" if float in origins else "whole number"
    return {"bool": "true, false", "text": "text", "table": "table of lists"}.get(kind, number)


def _takes_mixed(kind: Kind) -> str:
    return "list: 3, dog" if kind == "list" else "whole number or text"


def _bounds(info: FieldInfo) -> str:
    told = [
        f"{sign} {getattr(rule, name):g}"
        for rule in info.metadata
        for name, sign in BOUNDS
        if isinstance(getattr(rule, name, None), int | float)
    ]
    return f" {', '.join(told)}" if told else ""
