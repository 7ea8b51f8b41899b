"""Files of labelled texts, row by row: TSV, CSV, JSON lines, Parquet.

Nothing in a text is taken for a sign: rows of TSV and JSON lines end at "\\n" and nowhere else
(not at U+2028 or U+0085, where `splitlines` breaks), TSV has no quoting, "NA" is a word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.lab.data._delimited import Record, delimited, refuse_repeated_header, tab_separated
from engine.lab.data._files import Format, decoded, form_of
from engine.lab.data._records import ABSENT, Records, json_records, parquet_records
from engine.spec.errors import BadInput, nearest
from engine.spec.files import content_of

TEXT_NAMES = (
    "sentence",
    "text",
    "review",
)  # of columns, when none is told: the first that is there
LABEL_NAMES = ("label", "sentiment", "class")


class Row(NamedTuple):
    """`text` and `label` as they stand, or None where there is nothing; `line` counts from 1."""

    line: int
    text: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns: by name or by position from 0; None: what the file's own names suggest."""

    text: str | int | None = None
    label: str | int | None = None
    header: bool | None = None  # None: there is one where a name of a column stands in it
    delimiter: str | None = None


class Rows(NamedTuple):
    """`told`: how the file was read, where that is not plain, a sentence each; `unnamed`: the first
    row's cells, where it was read as a row though it might name the columns."""

    rows: list[Row]
    told: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()


def rows_of(path: Path, where: str, columns: Columns, form: Format | None, encoding: str) -> Rows:
    """All rows of a file. Raises BadInput that begins with `where` and names line and column."""
    form = form_of(path, form, where)
    content = content_of(path, where)
    if form == "parquet":
        return Rows(_named(parquet_records(content, where), where, columns))
    text = decoded(content, encoding, where)
    if form == "jsonl":
        return Rows(_named(json_records(text, where), where, columns))
    if form == "tsv" and columns.delimiter in (None, "\t"):
        rows, _ = _cells(tab_separated(text), where, columns)
        return rows._replace(told=(*rows.told, *_quotes(rows.rows)))
    if not text.strip():
        raise BadInput(f"{where}: holds no row.")
    found = delimited(text, where, columns.delimiter)
    rows, label = _cells(found.records, where, columns)
    found.refuse_swallowed(text, label, where)
    return rows._replace(told=(*found.told, *rows.told))


def _quotes(rows: Sequence[Row]) -> list[str]:
    """TSV as some programs write it has quotes around cells, as CSV has."""
    count = sum(len(row.text or "") > 1 and row.text[0] == row.text[-1] == '"' for row in rows)  # type: ignore[index]
    told = f"{count} texts begin and end with a quote, which is read as part of them; "
    return [told + 'data.format = "csv" reads quotes'] if count else []


def _cells(records: Sequence[Record], where: str, columns: Columns) -> tuple[Rows, int]:
    """The rows, and the place of the label among their cells."""
    if not records:
        raise BadInput(f"{where}: holds no row.")
    first = records[0]
    names = [cell.strip() for cell in first.cells]
    headed = _headed(names, columns) if columns.header is None else columns.header
    text, label = _places(names if headed else None, len(names), where, columns)
    body = records[1:] if headed else records
    for record in body:
        if len(record.cells) != len(names):
            other = "the header" if headed else f"line {first.line}"
            raise BadInput(
                f"{where}: line {record.line} has {len(record.cells)} columns, {other} {len(names)}."
            )
    rows = [
        Row(r.line, r.cells[text], r.cells[label] if r.cells[label].strip() else None) for r in body
    ]
    if headed:
        refuse_repeated_header(body, names, where)
        told = f"line {first.line} names the columns: texts in {names[text]!r}, labels in "
        return Rows(rows, (f"{told}{names[label]!r}",)), label
    return Rows(rows, unnamed=tuple(names)), label


def _headed(names: Sequence[str], columns: Columns) -> bool:
    """Whether the first row holds names of columns: those told, or the usual ones."""
    told = [name for name in (columns.text, columns.label) if isinstance(name, str)]
    if any(name in names or not name.isdecimal() for name in told):
        return True
    if columns.text is not None or columns.label is not None:
        return False
    lower = [name.lower() for name in names]
    return any(name in lower for name in TEXT_NAMES) and any(n in lower for n in LABEL_NAMES)


def _places(
    names: Sequence[str] | None, width: int, where: str, columns: Columns
) -> tuple[int, int]:
    """Positions of text and label. Raises BadInput that says which columns there are."""
    found = [
        _place(key, told, names, width, where, usual)
        for key, told, usual in (
            ("text", columns.text, TEXT_NAMES),
            ("label", columns.label, LABEL_NAMES),
        )
    ]
    if names is None and columns.text is columns.label is None and width == 2:
        found = [0, 1]
    there = _there(names, width)
    missing = [key for key, place in zip(("text", "label"), found, strict=True) if place is None]
    if missing:
        what = "which column is the text, and which the label"
        what = what if len(missing) > 1 else f"which column is the {missing[0]}"
        keys = " and ".join(f"data.{key}" for key in missing)
        hint = " If none of these is, data.delimiter or data.format." if width == 1 else ""
        raise BadInput(f"{where}: {what}? Say it with {keys}. {there}{hint}")
    text, label = found
    assert text is not None and label is not None
    if text == label:
        raise BadInput(f"{where}: data.text and data.label are the same column. {there}")
    return text, label


def _place(
    key: str,
    told: str | int | None,
    names: Sequence[str] | None,
    width: int,
    where: str,
    usual: Sequence[str],
) -> int | None:
    there = _there(names, width)
    if isinstance(told, str) and told.isdecimal() and told not in (names or ()):
        told = int(told)  # a form's field holds words
    if isinstance(told, int):
        if not told < width:
            raise BadInput(f"data.{key} = {told}: {where} has no such column. {there}")
        return told
    if told is not None:
        if names is None or told not in names:
            guess = nearest(told, names or ())
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise BadInput(f"data.{key} = {told!r}: {where} has no such column.{hint} {there}")
        if list(names).count(told) > 1:
            raise BadInput(f"data.{key} = {told!r}: {where} has two columns of that name. {there}")
        return names.index(told)
    lower = [name.lower() for name in names or ()]
    return next((lower.index(name) for name in usual if name in lower), None)


def _there(names: Sequence[str] | None, width: int) -> str:
    if names is None:
        return f"It has no header and {width} columns, 0 to {width - 1}."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"It has {', '.join(repr(name) for name in names[:20])}{more}."


def _named(records: Records, where: str, columns: Columns) -> list[Row]:
    """Rows of JSON or Parquet; data.text and data.label are keys."""
    found = []
    text, label = -1, -1
    for line, values in records.rows:
        place = f"{where}: {records.unit} {line}"
        if text < 0:
            text, label = _places(records.names, len(records.names), where, columns)
        for at in (text, label):
            if values[at] is ABSENT:
                raise BadInput(f"{place} has no {records.names[at]!r}.")
        found.append(Row(line, *_values(values[text], values[label], place)))
    if not found:
        raise BadInput(f"{where}: holds no row.")
    return found


def _values(text: Any, label: Any, where: str) -> tuple[str | None, str | None]:
    if text is not None and not isinstance(text, str):
        raise BadInput(f"{where}: its text is {text!r}, which is no text.")
    return text, label_of(label, where)


def label_of(value: Any, where: str) -> str | None:
    """A label as a word; None and NaN are none. Raises BadInput."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, str):
        return value if value.strip() else None
    raise BadInput(f"{where}: its label is {value!r}; a word or a number is needed.")
