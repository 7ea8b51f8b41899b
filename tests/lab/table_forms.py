"""Tables written in every form: CSV and its kin, JSON, Parquet. Nothing here reads a table."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.written_tables import Column, Made

DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = (
    ("utf-8", False), ("utf-8", False), ("utf-8", False), ("utf-8-sig", False), ("utf-16", False),
    ("utf-16-be", False), ("utf-32", False), ("latin-1", True), ("cp1252", True),
)  # fmt: skip


@dataclass
class Written:
    """Where each row of the table begins, and in which file; what the file leaves open."""

    paths: list[Path]
    lines: list[int] = field(default_factory=list)
    unit: str = "line"
    delimiter: str = ""
    ambiguous: bool = False  # another delimiter fits as well: `delimiter` must be told
    keys: dict[str, Any] = field(default_factory=dict)  # what a person must say to have it read


def write(rng: random.Random, made: Made, form: str, folder: Path) -> Written:
    """One file, or one for training and one for testing, whose columns may be in another order."""
    if form == "csv":
        return _delimited(rng, made, folder)
    ending = {"lines": "jsonl", "array": "json", "parquet": "parquet"}[form]
    written = Written([], unit="line" if form == "lines" else "row")
    for part, (columns, rows) in enumerate(_parts(rng, made)):
        path = folder / f"{'test' if part else 'train'}.{ending}"
        if form == "parquet":
            _parquet(columns, rows, path)
        else:
            objects = [_object(rng, columns, row, row == rows[0]) for row in rows]
            words = [json.dumps(one, ensure_ascii=rng.random() < 0.5) for one in objects]
            gap = rng.choice(("\n", "\r\n"))
            text = gap.join(words) + gap if form == "lines" else f"[{(',' + gap).join(words)}]"
            path.write_bytes(text.encode("utf-8"))
        written.paths.append(path)
        written.lines += range(1, len(rows) + 1)
    return written


def _parts(rng: random.Random, made: Made) -> list[tuple[list[Column], range]]:
    parts = [(made.columns, range(made.first))]
    if made.rows > made.first:
        columns, told = list(made.columns), made.settings
        places = any(isinstance(place, int) for place in told.get("drop", ()))
        named = isinstance(told.get("label"), str) and all(column.name for column in columns)
        if made.header and named and not places and rng.random() < 0.7:
            rng.shuffle(columns)
        parts.append((columns, range(made.first, made.rows)))
    return parts


def _value(column: Column, row: int) -> Any:
    cell = column.cells[row]
    return cell.typed if column.typed else cell.written


def _object(rng: random.Random, columns: list[Column], row: int, whole: bool) -> dict[str, Any]:
    found = {}
    for column in columns:
        value = _value(column, row)
        if value is None and rng.random() < 0.5:
            value = float("nan")
        elif value in (None, "") and not whole and rng.random() < 0.3:
            continue  # an absent key is a gap
        elif value == "" and rng.random() < 0.5:
            value = None
        found[column.name] = value
    return found


def _parquet(columns: list[Column], rows: range, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = {}
    for column in columns:
        values = [_value(column, row) for row in rows]
        if column.typed and any(isinstance(value, float) for value in values):
            values = [None if value is None else float(value) for value in values]
        cells[column.name] = pa.array(values)
    pq.write_table(pa.table(cells), path)


# --- rows with something between the cells -------------------------------------------------------


def quoted(text: str, delimiter: str, style: str) -> str:
    plain = not any(sign in text for sign in (delimiter, "\n", "\r")) and text[:1] != '"'
    word = not text.strip().replace(".", "").replace("-", "").isdigit()
    if plain and (style == "minimal" or (style == "words" and not word)):
        return text
    return '"' + text.replace('"', '""') + '"'


def _delimited(rng: random.Random, made: Made, folder: Path) -> Written:
    delimiter = rng.choice(DELIMITERS)
    style = rng.choice(("minimal", "minimal", "words", "all"))
    written = Written([], delimiter=delimiter)
    cells = [c for column in made.columns for c in column.cells]
    spaced = (
        delimiter == "," and style == "minimal" and rng.random() < 0.2
        and all(quoted(c.written, ",", style)[:1] != '"' for c in cells)
        and all(quoted(column.name, ",", style)[:1] != '"' for column in made.columns)
    )  # fmt: skip
    told = rng.random() < 0.08  # a first line sep=;
    encoding, key = rng.choice(ENCODINGS)
    end = rng.choice(("\n", "\n", "\r\n")) if told else rng.choice(("\n", "\n", "\r\n", "\r"))
    ending = rng.choice(("csv", "csv", "txt", "data") if delimiter != "\t" else ("tsv", "csv"))
    for part, (columns, rows) in enumerate(_parts(rng, made)):
        text, line = f"sep={delimiter}{end}" if told else "", 1 + told
        own = [_row([c.name for c in columns], delimiter, style)] if made.header else []
        own += [_row([_padded(rng, c, r) for c in columns], delimiter, style) for r in rows]
        raw: list[str] = []
        for number, row in enumerate(own):
            if not made.header or number:
                written.lines.append(line)
            between = ", " if spaced else delimiter
            full = between.join(row) + end
            if rng.random() < 0.03 and (number or made.header):
                blank = rng.choice((end, delimiter * (len(row) - 1) + end))
                full += blank
                raw.append(blank)
            text += full
            raw.append(between.join(row))
            line += _ends(full)
        if rng.random() < 0.2:
            text += end * rng.randint(1, 3)
        elif rng.random() < 0.3 and made.columns[-1].name:
            text = text.removesuffix(end)
        if not told:
            _other_delimiters([row for row in raw if row.strip()], written)
        path = folder / f"{'test' if part else 'train'}.{ending}"
        encoding, key = _encodable(text, encoding, key)
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        path.write_bytes((mark + text).encode(encoding))
        written.paths.append(path)
    if key:
        written.keys["encoding"] = encoding
    return written


def _row(cells: list[str], delimiter: str, style: str) -> list[str]:
    return [quoted(cell, delimiter, style) for cell in cells]


def _padded(rng: random.Random, column: Column, row: int) -> str:
    """Spaces around a cell are no part of it; those around labels are left as they are."""
    text = column.cells[row].written
    if rng.random() < 0.05 and type(column) is Column and '"' not in text:
        return f"{rng.choice(('', ' '))}{text}{rng.choice(('', '  '))}"
    return text


def _ends(text: str) -> int:
    return text.replace("\r\n", "\n").replace("\r", "\n").count("\n")


def _encodable(text: str, encoding: str, key: bool) -> tuple[str, bool]:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "utf-8", False
    return encoding, key


def _other_delimiters(rows: list[str], written: Written) -> None:
    """Names and cells may leave it open which of two delimiters it is."""
    for other in set(DELIMITERS) - {written.delimiter}:
        counts = {row.count(other) for row in rows}
        if 0 in counts:
            continue
        if len(counts) == 1 and not any('"' in row or "\n" in row for row in rows):
            written.ambiguous = True
        else:
            written.keys["delimiter"] = written.delimiter
