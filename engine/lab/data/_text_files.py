"""Files of labelled texts, row by row: TSV, CSV, JSON lines, Parquet.

Nothing in a text is taken for a sign: rows of TSV and JSON lines end at "\\n" and nowhere else
(not at U+2028 or U+0085, where `splitlines` breaks), TSV has no quoting, "NA" is a word.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.spec.errors import BadInput, nearest

Format = Literal["tsv", "csv", "jsonl", "parquet"]
ENDINGS: dict[str, Format] = {
    ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
TEXT_NAMES = (
    "sentence",
    "text",
    "review",
)  # of columns, when none is told: the first that is there
LABEL_NAMES = ("label", "sentiment", "class")
LONGEST = 2**31 - 1  # characters of one CSV cell


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


def rows_of(
    path: Path, where: str, columns: Columns, form: Format | None, encoding: str
) -> list[Row]:
    """All rows of a file. Raises BadInput that begins with `where` and names line and column."""
    form = form or ENDINGS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(ENDINGS)
        raise BadInput(f"{where}: ends in none of {known}; say what it is with data.format.")
    content = content_of(path, where)
    if form == "parquet":
        return list(_parquet(content, where, columns))
    text = decoded(content, encoding, where)
    if form == "jsonl":
        return list(_json_lines(text, where, columns))
    table = _tab_separated(text) if form == "tsv" else _comma_separated(text, where)
    return list(_delimited(table, where, columns))


def content_of(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror}.") from None


def decoded(content: bytes, encoding: str, where: str) -> str:
    """Without a byte order mark. Raises BadInput naming the first line that is broken."""
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "ignore")
        line = before.count("\n") + 1
        raise BadInput(
            f"{where}: line {line} is not {encoding.upper()} (byte {error.start}: {error.reason}); "
            "data.encoding says which it is."
        ) from None
    except UnicodeError as error:
        raise BadInput(f"{where}: is not {encoding.upper()}: {error}.") from None


def known_encoding(name: str) -> str:
    """`name`, if it is an encoding of texts. Raises ValueError."""
    try:
        "a".encode(name)  # Python's codecs of bytes, such as base64, refuse a text
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(
            f"{name!r} is no encoding of texts; utf-8, utf-16, latin-1 and cp1252 are some"
        ) from None
    return name


def _tab_separated(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line:
            yield number, line.split("\t")


def _comma_separated(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """A quote that is never closed, or that ends before the cell does, is an error: read leniently
    it would swallow the rows behind it."""
    before = csv.field_size_limit(LONGEST)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            for cells in rows:
                if cells:
                    yield line, cells
                line = rows.line_num + 1
        except csv.Error as error:
            raise BadInput(f"{where}: line {line} is no CSV: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _delimited(
    table: Iterable[tuple[int, list[str]]], where: str, columns: Columns
) -> Iterator[Row]:
    rows = iter(table)
    first = next(rows, None)
    if first is None:
        raise BadInput(f"{where}: holds no row.")
    names = [cell.strip() for cell in first[1]]
    headed = _headed(names, columns) if columns.header is None else columns.header
    text, label = _places(names if headed else None, len(names), where, columns)
    body = rows if headed else _again(first, rows)
    for line, cells in body:
        if len(cells) != len(names):
            other = "the header" if headed else f"line {first[0]}"
            raise BadInput(f"{where}: line {line} has {len(cells)} columns, {other} {len(names)}.")
        yield Row(line, cells[text], cells[label].strip() or None)


def _again(
    first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


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
    for key, place in zip(("text", "label"), found, strict=True):
        if place is None:
            raise BadInput(f"{where}: which column is the {key}? Say it with data.{key}. {there}")
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


def _json_lines(text: str, where: str, columns: Columns) -> Iterator[Row]:
    """One object a line; data.text and data.label are keys."""
    places: tuple[str, str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: line {number} is no JSON: {error}.") from None
        if not isinstance(told, dict):
            raise BadInput(f"{where}: line {number} is no JSON object; one a line is needed.")
        names = list(told)
        if places is None:
            text_at, label_at = _places(names, len(names), where, columns)
            places = names[text_at], names[label_at]
        missing = [name for name in places if name not in told]
        if missing:
            raise BadInput(
                f"{where}: line {number} has no {missing[0]!r}. {_there(names, len(names))}"
            )
        yield Row(number, *_values(told[places[0]], told[places[1]], f"{where}: line {number}"))


def _parquet(content: bytes, where: str, columns: Columns) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput(
            f"{where}: Parquet needs the package pyarrow: pip install 'chelate[parquet]'."
        ) from None
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = list(file.schema_arrow.names)
        text_at, label_at = _places(names, len(names), where, columns)
        wanted = [names[text_at], names[label_at]]
        number = 0
        for batch in file.iter_batches(columns=wanted):
            pairs = zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
            for text, label in pairs:
                number += 1
                yield Row(number, *_values(text, label, f"{where}: row {number}"))
    except (pa.ArrowException, OSError) as error:
        told = " ".join(str(error).split())[:200]
        raise BadInput(f"{where}: is no Parquet file that can be read: {told}.") from None


def _values(text: Any, label: Any, where: str) -> tuple[str | None, str | None]:
    if text is not None and not isinstance(text, str):
        raise BadInput(f"{where}: its text is {text!r}, which is no text.")
    return text, label_of(label, where)


def label_of(value: Any, where: str) -> str | None:
    """A label as a word: 1 and 1.0 are "1"; None and NaN are none. Raises BadInput."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str):
        return value.strip() or None
    raise BadInput(f"{where}: its label is {value!r}; a word or a whole number is needed.")
