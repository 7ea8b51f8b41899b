"""Rows of a table as a classifier wants them: numbers in [0, 1], categories one-hot, a test split.

A table is held as images of one pixel: shape (columns, 1, 1), so that a model's first layer
normalises each column by itself.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.spec.component import DataInfo
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

MISSING = {"", "?", "na", "nan", "null", "none"}
MOST_CATEGORIES = 100
MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class Table:
    """`values` float64 [N, D], one name a column; `labels` int64 [N], indices into `classes`.

    `parts` are the numbers of rows that came from each file.
    """

    parts: tuple[int, ...]
    names: list[str]
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def parse(files: Mapping[str, Iterable[str]], label: str | None, missing: str) -> Table:
    """CSV files with one header, by the words errors call them, read as one table. Columns of
    numbers stay, others become one column a category.

    `label` names the column of classes (default: the last). `missing`: "error", or "drop" for
    rows with a gap. Raises BadInput naming the line and the column.
    """
    header: list[str] = []
    kept: list[tuple[int, list[str]]] = []
    parts = []
    for where, lines in files.items():
        rows = csv.reader(lines)
        try:
            names = [name.strip() for name in next(rows, [])]
            place = _label_place(names, label, where)
            if header and names != header:
                odd = sorted(set(names) ^ set(header))[:5] or "their order"
                raise BadInput(f"{where}: its columns differ from those of the other file: {odd}.")
            header = names
            found = list(_complete(rows, header, where, missing))
        except csv.Error as error:
            raise BadInput(f"{where}: is no CSV file: {error}.") from None
        if len(found) < 4:
            raise BadInput(f"{where}: holds {len(found)} complete rows; at least 4 are needed.")
        parts.append(len(found))
        kept += found
    where = next(iter(files))
    told = [row[place] for _, row in kept]
    classes = tuple(sorted(set(told), key=natural))
    if not 2 <= len(classes) <= MOST_CATEGORIES:
        raise BadInput(
            f"{where}: column {header[place]!r} has {len(classes)} different values; as classes, "
            f"2 to {MOST_CATEGORIES} are needed. Name the right one with data.label."
        )
    return _encoded(kept, header, place, classes, where, tuple(parts))


def _encoded(
    kept: list[tuple[int, list[str]]],
    header: list[str],
    place: int,
    classes: tuple[str, ...],
    where: str,
    parts: tuple[int, ...],
) -> Table:
    import numpy as np

    names: list[str] = []
    columns: list[np.ndarray] = []
    for index, name in enumerate(header):
        if index == place:
            continue
        texts = [row[index] for _, row in kept]
        numbers = [_number(text) for text in texts]
        if all(number is not None for number in numbers):
            names.append(name)
            columns.append(np.array(numbers, dtype=np.float64))
            continue
        found = sorted(set(texts))
        if len(found) > MOST_CATEGORIES:
            line = next(n for (n, _), number in zip(kept, numbers, strict=True) if number is None)
            raise BadInput(
                f"{where}: column {name!r} has {len(found)} different texts (the first on line "
                f"{line}); numbers or at most {MOST_CATEGORIES} categories are needed."
            )
        for value in found:
            names.append(f"{name}={value}")
            columns.append(np.array([text == value for text in texts], dtype=np.float64))
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise BadInput(f"{where}: gives {len(columns)} columns; 1 to {MOST_COLUMNS} are needed.")
    index_of = {name: index for index, name in enumerate(classes)}
    labels = np.array([index_of[row[place]] for _, row in kept], dtype=np.int64)
    return Table(parts, names, np.stack(columns, axis=1), labels, classes)


def _label_place(header: list[str], label: str | None, where: str) -> int:
    if len(header) < 2:
        raise BadInput(f"{where}: the first line must name at least two columns.")
    twins = sorted({name for name in header if header.count(name) > 1})
    if twins:
        raise BadInput(f"{where}: two columns are called {twins[0]!r}.")
    if label is not None and label not in header:
        raise BadInput(f"data.label = {label!r}: {where} has no such column; it has {header[:20]}.")
    return len(header) - 1 if label is None else header.index(label)


def _complete(
    rows: Any, header: list[str], where: str, missing: str
) -> Iterable[tuple[int, list[str]]]:
    """(line number, cells) of the rows without a gap."""
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise BadInput(
                f"{where}: line {rows.line_num} has {len(cells)} cells, the header {len(header)}."
            )
        gaps = [name for name, cell in zip(header, cells, strict=True) if cell.lower() in MISSING]
        if gaps and missing == "error":
            raise BadInput(
                f"{where}: line {rows.line_num}, column {gaps[0]!r}: no value. data.missing = "
                '"drop" leaves such rows out.'
            )
        if not gaps:
            yield rows.line_num, cells


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def natural(text: str) -> tuple[bool, float, str]:
    """Sorts numbers by their value, before all other words."""
    number = _number(text)
    return number is None, number or 0.0, text


def split(table: Table, test_share: float, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows), the same ones always: the second file's rows are the test, or the
    same share of every class."""
    import numpy as np

    from engine.lab.selection import held_out, stratified

    if len(table.parts) > 1:
        test = np.arange(len(table.labels)) >= table.parts[0]
    else:
        test = held_out(table.labels, test_share, "table")
    train = np.flatnonzero(~test)
    return train[stratified(table.labels[train], limit)], np.flatnonzero(test)


def info(table: Table, train: np.ndarray, tests: int, digest: str, where: str) -> DataInfo:
    """What planning must know. Raises BadInput where a class has no training row."""
    import numpy as np

    counts = np.bincount(table.labels[train], minlength=len(table.classes))
    if not counts.all():
        empty = table.classes[int(counts.argmin())]
        raise BadInput(f"{where}: no row of class {empty!r} is left for training.")
    return DataInfo(
        digest=digest,
        train=len(train),
        test=tests,
        shape=(table.values.shape[1], 1, 1),
        classes=table.classes,
        train_per_class=tuple(int(count) for count in counts),
        kind="table",
    )


def arrays(table: Table, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """float32 [N, D, 1, 1]; each column scaled so that the training rows fill [0, 1].

    Test values outside the training rows' range stay outside.
    """
    import numpy as np

    low = table.values[train].min(axis=0)
    span = table.values[train].max(axis=0) - low
    span[span == 0] = 1.0

    def scaled(values: np.ndarray) -> np.ndarray:
        columns: np.ndarray = ((values - low) / span).astype(np.float32)
        return columns[:, :, None, None]

    return {
        "train_x": scaled(table.values[train]),
        "train_y": table.labels[train],
        "test_x": scaled(table.values[test]),
        "test_y": table.labels[test],
    }
