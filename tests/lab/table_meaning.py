"""What is meant by a written table under a preset's keys: its values, or why the rules refuse it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.lab.table_forms import Written
from tests.lab.written_tables import Column, Labels, Made

Settings = dict[str, Any]


@dataclass
class Meaning:
    names: list[str]
    values: np.ndarray  # NaN in gaps that are to be filled
    labels: list[str]  # the name of each row's class
    classes: list[str]
    parts: list[int]


def used(made: Made, settings: Settings) -> Iterator[tuple[Column, str]]:
    """Columns of features that are neither dropped nor empty, with their names."""
    drop = settings.get("drop", [])
    for at, column in enumerate(made.columns):
        if at == made.label or at in drop or (column.name and column.name in drop):
            continue
        if column.name or not column.empty():
            yield column, column.name or f"column {at}"


def by_hand(name: str, settings: Settings) -> bool:
    return settings.get("columns", {}).get(name) == "categorical"


def value(column: Column, name: str, row: int, settings: Settings) -> float | str | None:
    cell = column.cells[row]
    if by_hand(name, settings):
        written = cell.written.strip() if not column.typed else str(cell.typed)
        return written or None
    return cell.value


def complete(made: Made, settings: Settings) -> list[int]:
    """The rows that are used, where gaps are neither refused nor an error."""
    label = made.columns[made.label]
    filled = "impute" in settings
    return [
        row for row in range(made.rows)
        if label.cells[row].value is not None
        and (filled or all(value(c, n, row, settings) is not None for c, n in used(made, settings)))
    ]  # fmt: skip


def meant(made: Made, settings: Settings) -> Meaning:
    rows = complete(made, settings)
    names, blocks = [], []
    for column, name in used(made, settings):
        own = [value(column, name, row, settings) for row in rows]
        if column.numeric and not by_hand(name, settings):
            names.append(name)
            blocks.append([float("nan") if v is None else v for v in own])
            continue
        words = sorted({str(v or "") for v in own})
        names += [f"{name}={word}" for word in words]
        blocks += [[float((v or "") == word) for v in own] for word in words]
    label = made.columns[made.label]
    labels = [str(label.cells[row].value) for row in rows]
    try:
        classes = sorted(set(labels), key=float)
    except ValueError:
        classes = sorted(set(labels))
    first = sum(row < made.first for row in rows)
    parts = [first, len(rows) - first] if made.rows > made.first else [first]
    return Meaning(names, np.array(blocks, dtype=float).T, labels, classes, parts)


def troubles(made: Made, written: Written, settings: Settings) -> dict[str, str]:
    """Why the rules refuse the table: what → a pattern that its line of the refusal fits. The file
    comes first, then the columns' names, then all the rest at once."""
    found: dict[str, str] = {}
    tabs = written.delimiter == "\t" and written.paths[0].suffix == ".tsv"
    if written.ambiguous and not tabs and "delimiter" not in settings:
        return {"delimiter": r"every row has the same number of cells.*data\.delimiter"}
    keep = settings.get("keep", [])
    for at, column in enumerate(made.columns):
        if column.name or column.empty() or at in settings.get("drop", []) or at in keep:
            continue
        return {"nameless": rf"column {at} \(counted from 0\) has no name.*data\.drop = \[{at}\]"}
    columns = list(used(made, settings))
    signs = {
        c.sign for c, n in columns
        if c.sign and not c.typed and not by_hand(n, settings)
    }  # fmt: skip
    for column, name in columns:
        where = rf": column {re.escape(repr(name))}"
        if column.trouble in ("mixed", "number-like") and not by_hand(name, settings):
            found[name] = rf"(line|row) \d+{where}: .*data\.columns"
        if column.trouble == "unclear" and not signs and "decimal" not in settings:
            cells = [cell.written.strip() for cell in column.cells if cell.value is not None]
            commas = any("," in cell for cell in cells)
            whole = any(re.fullmatch(r"[+-]?\d+", cell) for cell in cells)
            if commas or whole or written.delimiter == ";":
                found[name] = rf"(line|row) \d+{where}: .* may be .*data\.decimal"
        kept = name in keep or (not column.name and made.place(column) in keep)
        if column.trouble == "counts" and not kept:
            where = rf": column {re.escape(repr(name))}"
            found[name] = rf"{where} .*gives classes away.*data\.drop.*data\.keep"
    found |= _gap(made, written, settings, columns)
    label = made.columns[made.label]
    if isinstance(label, Labels) and label.twins and "labels" not in settings:
        rows = complete(made, settings)
        if _alike({label.cells[row].written for row in rows}):
            found["labels"] = r"labels .* differ only in .*data\.labels"
    return found


def _alike(labels: set[str]) -> bool:
    """Whether any are one but for what the generator changes in twins."""
    import unicodedata

    def plain(word: str) -> str:
        return unicodedata.normalize("NFC", " ".join(word.lower().split())).removesuffix(".")

    return len({plain(label) for label in labels}) < len(labels)


def _gap(
    made: Made, written: Written, settings: Settings, columns: list[tuple[Column, str]]
) -> dict[str, str]:
    """The first gap that nothing is to be done about."""
    if "missing" in settings:
        return {}
    label = made.columns[made.label]
    for row in range(made.rows):
        own = [label.name] if label.cells[row].value is None else []
        if "impute" not in settings:
            own += [n for c, n in columns if value(c, n, row, settings) is None]
        if own:
            file = "test_path" if row >= made.first else "path"
            where = rf"data\.{file} = .*: {written.unit} {written.lines[row]}, "
            names = "|".join(re.escape(repr(name)) for name in own)
            return {"gap": rf"{where}column ({names}): no value.*data\.missing"}
    return {}


def remedies(told: str) -> list[tuple[str, Any]]:
    """The keys that a refusal gives as TOML, in their order: ("drop", ["id"])."""
    found = []
    for match in re.finditer(r"data\.(\w+) = ", told):
        rest = told[match.end() :]
        for end in (at for at, sign in enumerate(rest, 1) if sign in '"]}'):
            try:
                found.append((match[1], tomllib.loads(f"v = {rest[:end]}")["v"]))
            except tomllib.TOMLDecodeError:
                continue
            break
    return found


def applied(settings: Settings, key: str, told: Any) -> Settings:
    """A preset's keys with one more, beside those that stand there already."""
    old = settings.get(key)
    if isinstance(told, list) and old:
        told = [*old, *told]
    elif isinstance(told, dict) and old:
        told = {**old, **told}
    if key == "drop":  # what is left out is nothing else any more
        kinds = {k: kind for k, kind in settings.get("columns", {}).items() if k not in told}
        settings = {**settings, "columns": kinds}
    return {**settings, key: told}
