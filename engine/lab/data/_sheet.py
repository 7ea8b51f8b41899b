"""A file of rows as names and cells, whatever its form: CSV and its kin, JSON, Parquet."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.lab.data._delimited import Delimited, delimited, refuse_repeated_header
from engine.lab.data._files import Format, decoded, form_of
from engine.lab.data._numbers import POINT
from engine.lab.data._records import ABSENT, Records, json_records, parquet_records
from engine.spec.errors import BadInput, nearest
from engine.spec.files import content_of

Place = str | int  # a column, by its name or by its place from 0
HALF = re.compile("[\ud800-\udfff]")  # JSON can spell what no file can hold
LABEL_NAMES = ("label", "labels", "class", "target", "y")  # usual ones of the column of classes


@dataclass(frozen=True, slots=True)
class Sheet:
    """`rows` are (line or row from 1, cells, as many as `names`); cells are as the file has them.

    `where` begins errors; `unit` is what the number of a row counts; `label` the place of the column
    of classes. `typed` are the places of columns that hold numbers which are no texts (JSON,
    Parquet). `told` says how the file was read where that is not plain from it, a sentence each.
    `raw_names` are all names in the file, also of columns that were dropped.
    """

    where: str
    names: list[str]
    rows: list[tuple[int, list[str]]]
    unit: str = "line"
    typed: frozenset[int] = frozenset()
    told: tuple[str, ...] = ()
    label: int = -1
    kept: frozenset[str] = frozenset()  # names of columns that a person wants read
    raw_names: tuple[str, ...] = ()
    delimiter: str = ""
    headed: bool = True  # whether the names are the file's own

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
    """How a person says a file is to be read; None: as the file itself suggests."""

    label: Place | None = None
    header: bool = True
    form: Format | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    drop: tuple[Place, ...] = ()
    keep: tuple[Place, ...] = ()
    strict: bool = True  # whether every column to drop or keep must be there

    def of_second(self, first: Sheet) -> Reading:
        """For a file of test rows: columns go by the names of the first file, and it need not have
        those to drop, which who cut off the test rows may have left out."""

        def named(places: tuple[Place, ...]) -> tuple[Place, ...]:
            names = first.raw_names
            return tuple(
                names[one] or one if isinstance(one, int) and one < len(names) else one
                for one in places
            )

        label = first.names[first.label]
        return replace(
            self, label=label, drop=named(self.drop), keep=named(self.keep), strict=False
        )


@dataclass(slots=True)
class _Raw:
    """A file's rows with every column; of a dropped one, cells may be empty."""

    names: list[str]
    rows: list[tuple[int, list[str]]]
    unit: str = "line"
    typed: frozenset[int] = frozenset()
    told: list[str] = field(default_factory=list)
    late: frozenset[str] = frozenset()  # keys that the first object of a JSON file lacks
    delimiter: str = ""


def sheet_of(path: Path, where: str, reading: Reading) -> Sheet:
    """A file's rows, blank ones left out, without the columns that are dropped.

    Raises BadInput that begins with `where` and names the line.
    """
    form = form_of(path, reading.form, where, default="csv")
    content = content_of(path, where)
    if form == "parquet":
        return _chosen(_typed(parquet_records(content, where), where, reading), where, reading)
    text = decoded(content, reading.encoding, where)
    if not text.strip():
        raise BadInput(f"{where}: holds no row; the first line must name at least two columns.")
    if form == "jsonl":
        return _chosen(_typed(json_records(text, where), where, reading), where, reading)
    found = delimited(text, where, reading.delimiter, "\t" if form == "tsv" else ",")
    sheet = _chosen(_delimited(found, where, reading), where, reading)
    place = len(sheet.raw_names) - 1
    if sheet.names[sheet.label] in sheet.raw_names:
        place = sheet.raw_names.index(sheet.names[sheet.label])
    found.refuse_swallowed(text, place, where)
    return sheet


def _delimited(found: Delimited, where: str, reading: Reading) -> _Raw:
    records = found.records
    if reading.header:
        names = [cell.strip() for cell in records[0].cells]
        refuse_repeated_header(records[1:], names, where)
    else:
        names = [str(place) for place in range(len(records[0].cells))]
    rows = [(record.line, record.cells) for record in records[1 if reading.header else 0 :]]
    raw = _Raw(names, rows, told=list(found.told), delimiter=found.delimiter)
    raw.told += [f"{found.blank} rows without any value left out"] * (found.blank > 0)
    return raw


def _typed(records: Records, where: str, reading: Reading) -> _Raw:
    names = [_cell(name, f"{where}: a column's name") for name in records.names]
    skip = set(_places(reading.drop, names, "drop", where, reading.strict))
    rows: list[tuple[int, list[str]]] = []
    typed: set[int] = set()
    late: frozenset[str] | None = None
    for line, values in records.rows:
        if late is None:
            late = frozenset(n for n, v in zip(names, values, strict=True) if v is ABSENT)
        cells = []
        for at, value in enumerate(values):
            cell = ""
            if at not in skip:
                cell = _cell(value, f"{where}: {records.unit} {line}, column {names[at]!r}")
                if _is_number(value):
                    typed.add(at)
            cells.append(cell)
        if any(cells):
            rows.append((line, cells))
    return _Raw(names, rows, records.unit, frozenset(typed), late=late or frozenset())


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
    if isinstance(value, str):
        if HALF.search(value):
            raise BadInput(f"{where}: holds half a surrogate pair, which is no character.")
        return value
    if isinstance(value, int | decimal.Decimal):
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
    drop = set(_places(reading.drop, names, "drop", where, reading.strict))
    keep = set(_places(reading.keep, names, "keep", where, reading.strict))
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
    counts = Counter(kept)
    _refuse_twins(kept, [at for at in left if counts[names[at]] > 1], where)
    if len(kept) < 2:
        raise BadInput(
            f"{where}: the first line must name at least two columns, the classes' and another; "
            f"it leaves {kept}."
        )
    label = _label_place(raw, names, left, where, reading.label)
    if reading.label is None:
        told.append(f"labels in the last column, {kept[label]!r}")
    return Sheet(
        where,
        kept,
        [(line, [cells[at] for at in left]) for line, cells in raw.rows],
        raw.unit,
        frozenset(new for new, at in enumerate(left) if at in raw.typed),
        tuple(told),
        label,
        frozenset(names[at] for at in keep),
        tuple(raw.names),
        raw.delimiter,
        reading.header or not raw.delimiter,
    )


def _refuse_twins(kept: Sequence[str], places: Sequence[int], where: str) -> None:
    twins = [name for name, count in Counter(kept).items() if count > 1]
    if not twins:
        return
    more = f", and {len(twins) - 1} more names stand twice" if len(twins) > 1 else ""
    hint = " If the file has no header, data.header = false." if _is_like_data(twins) else ""
    raise BadInput(
        f"{where}: two columns are called {twins[0]!r}{more}; data.drop leaves out those at places "
        f"{', '.join(map(str, places[1:10]))}, say.{hint}"
    )


def _label_place(
    raw: _Raw, names: Sequence[str], left: Sequence[int], where: str, label: Place | None
) -> int:
    """The place of the column of classes among those that are left. Raises BadInput."""
    kept = [names[at] for at in left]
    if label is None:
        likely = [name for name in kept if name.lower() in LABEL_NAMES]
        if likely and likely[-1] != kept[-1]:
            raise BadInput(
                f"{where}: the last column is {kept[-1]!r}, and there is {likely[-1]!r}; data.label "
                "says which holds the classes."
            )
        if kept[-1] in raw.late:
            raise BadInput(
                f"{where}: the last key is {kept[-1]!r}, which the first object lacks; data.label "
                "says which holds the classes."
            )
        return len(kept) - 1
    if label in kept:
        return kept.index(str(label))
    if str(label).isdecimal() and int(label) in left:
        return list(left).index(int(label))
    guess = nearest(str(label), kept)
    hint = f" Did you mean {guess!r}?" if guess else ""
    raise BadInput(f"data.label = {label!r}: {where} has no such column.{hint} {_there(kept)}")


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
    return any(POINT.fullmatch(name) for name in names)


def _there(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"It has {', '.join(repr(name) for name in names[:20])}{more}."
