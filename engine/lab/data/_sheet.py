"""A file of rows as names and cells, whatever its form: CSV and its kin, JSON, Parquet."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.lab.data._delimited import delimited, refuse_repeated_header
from engine.lab.data._files import Format, content_of, decoded, form_of
from engine.lab.data._records import ABSENT, Records, json_records, parquet_records
from engine.spec.errors import BadInput, nearest

Place = str | int  # a column, by its name or by its place from 0
LABEL_NAMES = ("label", "labels", "class", "target", "y")  # usual ones of the column of classes


@dataclass(frozen=True, slots=True)
class Sheet:
    """`rows` are (line or row from 1, cells, as many as `names`); cells are as the file has them.

    `where` begins errors; `unit` is what the number of a row counts. `typed` are the places of
    columns whose cells were numbers before they were written out here. `told` says how the file was
    read where that is not plain from it, a sentence each.
    """

    where: str
    names: list[str]
    rows: list[tuple[int, list[str]]]
    unit: str = "line"
    typed: frozenset[int] = frozenset()
    told: tuple[str, ...] = ()
    label: int = -1  # the place of the column of classes
    kept: frozenset[str] = frozenset()  # names of columns that a person wants read

    def at(self, line: int) -> str:
        """Such as "line 7"."""
        return f"{self.unit} {line}"

    def ordered(self, names: Sequence[str]) -> Sheet:
        """With its columns in the order of `names`. Raises BadInput where they are others."""
        if self.names == list(names):
            return self
        if odd := sorted(set(self.names) ^ set(names))[:5]:
            raise BadInput(f"{self.where}: its columns differ from those of the other file: {odd}.")
        order = [self.names.index(name) for name in names]
        return replace(
            self,
            names=list(names),
            rows=[(line, [cells[at] for at in order]) for line, cells in self.rows],
            typed=frozenset(at for at, old in enumerate(order) if old in self.typed),
            label=order.index(self.label),
            told=(*self.told, "its columns stand in another order; they go by their names"),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """How a person says a file is to be read; None: as the file itself suggests.

    The `second` file need not have the columns to drop: those who cut off test rows often did.
    """

    label: Place | None = None
    header: bool = True
    form: Format | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    drop: tuple[Place, ...] = ()
    keep: tuple[Place, ...] = ()
    second: bool = False


@dataclass(slots=True)
class _Raw:
    names: list[str]
    rows: list[tuple[int, list[str]]]
    unit: str = "line"
    typed: frozenset[int] = frozenset()
    told: list[str] = field(default_factory=list)


def sheet_of(path: Path, where: str, reading: Reading) -> Sheet:
    """A file's rows, blank ones left out, without the columns that are dropped.

    Raises BadInput that begins with `where` and names the line.
    """
    form = form_of(path, reading.form, where, default="csv")
    content = content_of(path, where)
    if form == "parquet":
        raw = _typed(parquet_records(content, where), where)
    else:
        text = decoded(content, reading.encoding, where)
        if not text.strip():
            raise BadInput(f"{where}: holds no row; the first line must name at least two columns.")
        if form == "jsonl":
            raw = _typed(json_records(text, where), where)
        else:
            raw = _delimited(text, where, form, reading)
    return _chosen(raw, where, reading)


def _delimited(text: str, where: str, form: Format, reading: Reading) -> _Raw:
    found = delimited(text, where, reading.delimiter, "\t" if form == "tsv" else ",")
    records = found.records
    if reading.header:
        names = [cell.strip() for cell in records[0].cells]
        refuse_repeated_header(records[1:], names, where)
    else:
        names = [str(place) for place in range(len(records[0].cells))]
    if reading.label in (None, *names) or isinstance(reading.label, int):
        found.refuse_swallowed(text, _label_place(names, reading.label, where), where)
    rows, blank = [], 0
    for record in records[1:] if reading.header else records:
        if any(cell.strip() for cell in record.cells):
            rows.append((record.line, record.cells))
        else:
            blank += 1
    raw = _Raw(names, rows, told=list(found.told))
    raw.told += [f"{blank} rows without any value left out"] * (blank > 0)
    return raw


def _typed(records: Records, where: str) -> _Raw:
    names = [str(name) for name in records.names]
    rows: list[tuple[int, list[str]]] = []
    typed = set(range(len(names)))
    for line, values in records.rows:
        typed -= {
            at for at, value in enumerate(values)
            if not (value is None or value is ABSENT or _is_number(value))
        }  # fmt: skip
        place = f"{where}: {records.unit} {line}"
        cells = [
            _cell(value, f"{place}, column {name!r}")
            for name, value in zip(names, values, strict=True)
        ]
        if any(cells):
            rows.append((line, cells))
    return _Raw(names, rows, records.unit, frozenset(typed))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


def _cell(value: Any, where: str) -> str:
    """A value written out; None, NaN and what is not there are gaps. Raises BadInput."""
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, str | int | decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    shown = repr(value)[:60]
    raise BadInput(
        f"{where}: is {shown}, which is neither a number nor a word; data.drop can name it."
    )


def _chosen(raw: _Raw, where: str, reading: Reading) -> Sheet:
    """Without dropped and empty nameless columns; every other one must have a name, or be kept."""
    names = list(raw.names)
    twins = sorted({name for name in names if name and names.count(name) > 1})
    drop = set(_places(reading.drop, names, "drop", where, strict=not reading.second))
    keep = set(_places(reading.keep, names, "keep", where, strict=not reading.second))
    if twins and not all(at in drop for at, name in enumerate(names) if name == twins[0]):
        hint = " If the file has no header, data.header = false." if _is_like_data(names) else ""
        raise BadInput(f"{where}: two columns are called {twins[0]!r}.{hint}")
    told = list(raw.told)
    for at, name in enumerate(names):
        if name or at in drop:
            continue
        if all(not cells[at].strip() for _, cells in raw.rows):
            drop.add(at)
            told.append(f"column {at}, which has neither name nor values, left out")
        elif at in keep:
            names[at] = f"column {at}"
        else:
            line, cells = raw.rows[0]
            raise BadInput(
                f"{where}: column {at} (counted from 0) has no name; {raw.unit} {line} has "
                f"{cells[at].strip()[:40]!r} there. Such a column often numbers the rows, which "
                f"gives classes away: data.drop = [{at}] leaves it out, data.keep = [{at}] reads it."
            )
    left = [at for at in range(len(names)) if at not in drop]
    kept = [names[at] for at in left]
    label = reading.label
    if label is None:
        likely = [name for name in kept if name.lower() in LABEL_NAMES]
        if likely and likely[-1] != kept[-1]:
            raise BadInput(
                f"{where}: the last column is {kept[-1]!r}, and there is {likely[-1]!r}; data.label "
                "says which holds the classes."
            )
        told.append(f"labels in the last column, {kept[-1]!r}")
    if isinstance(label, int) or (label not in kept and str(label).isdecimal()):
        place = int(str(label))
        if place not in left:
            raise BadInput(f"data.label = {label}: {where} has no such column. {_there(kept)}")
        label = names[place]
    return Sheet(
        where,
        kept,
        [(line, [cells[at] for at in left]) for line, cells in raw.rows],
        raw.unit,
        frozenset(new for new, at in enumerate(left) if at in raw.typed),
        tuple(told),
        _label_place(kept, label, where),
        frozenset(names[at] for at in keep),
    )


def _label_place(names: list[str], label: Place | None, where: str) -> int:
    if len(names) < 2:
        raise BadInput(f"{where}: the first line must name at least two columns.")
    if label is None:
        return max(at for at, name in enumerate(names) if name or at == 0)
    if isinstance(label, int):
        return min(label, len(names) - 1)
    if label not in names:
        guess = nearest(label, names)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise BadInput(f"data.label = {label!r}: {where} has no such column.{hint} {_there(names)}")
    return names.index(label)


def _places(
    wanted: Sequence[Place], names: Sequence[str], key: str, where: str, strict: bool
) -> list[int]:
    """Positions of columns told by name or by place from 0. Raises BadInput if `strict`."""
    found = []
    for one in wanted:
        if isinstance(one, int) and one < len(names):
            found.append(one)
        elif one in names:
            found += [at for at, name in enumerate(names) if name == one]
        elif strict:
            guess = nearest(str(one), names)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise BadInput(
                f"data.{key} = {one!r}: {where} has no such column.{hint} {_there(names)}"
            )
    return found


def _is_like_data(names: Sequence[str]) -> bool:
    from engine.lab.data._numbers import POINT

    return any(POINT.fullmatch(name) for name in names)


def _there(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"It has {', '.join(repr(name) for name in names[:20])}{more}."
