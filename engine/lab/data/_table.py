"""Rows of a table as a classifier wants them: numbers in [0, 1], categories one-hot, a test split.

A table is held as images of one pixel: shape (columns, 1, 1), so that a model's first layer
normalises each column by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engine.lab.data._columns import MOST_CATEGORIES, Features, Kind, columns_of
from engine.lab.data._files import key_of
from engine.lab.data._labels import Classes, classes_of, number
from engine.lab.data._numbers import POINT, Decimal, is_gap
from engine.lab.data._sheet import Sheet
from engine.spec.component import DataInfo
from engine.spec.data_report import Column, DataReport
from engine.spec.errors import BadInput
from engine.spec.keys import digest
from engine.spec.toml import inline

if TYPE_CHECKING:
    import numpy as np

Impute = Literal["mean", "median", "refuse"]
MOST_COLUMNS = 10_000
MOST_PROBLEMS = 8  # told at once
SAMPLE = 3  # rows of a report


@dataclass(frozen=True, slots=True)
class Rules:
    """What a person says of a table's columns, labels and gaps; see `CSVTable`."""

    missing: Literal["error", "drop"] = "error"
    impute: Impute = "refuse"
    columns: Mapping[str, Kind] = field(default_factory=dict)
    decimal: Decimal | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """`values` float64 [N, D], one name a column, NaN in gaps that are to be filled; `labels` int64
    [N], indices into `classes`.

    `parts` are the numbers of rows that came from each file. `columns` are those of the files, each
    with its places among the D; `report` is what there is to tell before rows are split.
    """

    parts: tuple[int, ...]
    names: list[str]
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    columns: tuple[tuple[Column, slice], ...]
    report: DataReport

    @property
    def digest(self) -> str:
        """sha256 of what was read; in what form it lay in the file is no part."""
        seen = hashlib.sha256(self.values.astype("<f8").tobytes())
        seen.update(self.labels.astype("<i8").tobytes())
        return digest([seen.hexdigest(), list(self.parts), self.names, list(self.classes)])


def parse(sheets: Sequence[Sheet], rules: Rules) -> Table:
    """Files of the same columns as one table. Columns of numbers stay, others become one column a
    category, in the order of the alphabet. Raises BadInput naming the line and the column."""
    import numpy as np

    sheets = [sheets[0], *(sheet.ordered(sheets[0].names) for sheet in sheets[1:])]
    first = sheets[0]
    _check_label_key(first, rules)
    columns_found = columns_of(sheets, rules.columns, rules.decimal)
    written = [cells[first.label] for sheet in sheets for _, cells in sheet.rows]
    features = columns_found.features
    problems = [*_unread_headers(sheets, rules.labels or {}), *columns_found.problems]
    gaps = _gaps(written, features, rules, first)
    lacking = np.logical_or.reduce([gap.missing for gap in gaps])
    if rules.missing == "error" and lacking.any():
        problems.append(_no_values(sheets, gaps))
    keep = np.flatnonzero(~lacking)
    try:
        found = classes_of(_seen(sheets, written, keep), rules.labels)
    except BadInput as error:
        problems.append(str(error))
    if problems:
        more = len(problems) - MOST_PROBLEMS
        problems[MOST_PROBLEMS:] = [f"… and {more} more."] if more > 0 else []
        raise BadInput("\n".join(problems))
    parts = _parts(sheets, keep)
    _check_classes(found, first)
    labels = np.array([found.index[written[row]] for row in keep], dtype=np.int64)
    names, blocks, columns = _encoded(features, keep, first.where)
    told = [f"{key_of(sheet.where)}: {text}" for sheet in sheets for text in sheet.told]
    told += [*columns_found.told, *found.told]
    table_report = DataReport(
        kind="table",
        classes=list(found.names),
        columns=[column for column, _ in columns],
        dropped={"gap": len(written) - len(keep)} if len(written) > len(keep) else {},
        read=told,
        warnings=[*_header_warning(first, features, written), *columns_found.warnings],
        sample_names=list(first.names),
        sample=[list(cells) for _, cells in first.rows[:SAMPLE]],
    )
    return Table(
        parts, names, np.concatenate(blocks, axis=1), labels, found.names, columns, table_report
    )


def _check_label_key(sheet: Sheet, rules: Rules) -> None:
    name = sheet.names[sheet.label]
    if rules.columns.get(name) == "numeric":
        raise BadInput(f"data.columns.{name} = 'numeric': it is the column of classes.")


def _unread_headers(sheets: Sequence[Sheet], named: Mapping[str, str]) -> list[str]:
    """A label that only first rows of files without a header have is most likely the name of its
    column, if it is no number and nobody `named` it."""
    bare = [sheet for sheet in sheets if not sheet.headed]
    labels = [
        cells[sheet.label].strip()
        for sheet in sheets
        for _, cells in sheet.rows[not sheet.headed :]
    ]
    problems = []
    for sheet in bare:
        line, cells = sheet.rows[0]
        label = cells[sheet.label].strip()
        if label and label not in labels and label not in named and number(label) is None:
            problems.append(
                f"{sheet.where}: {sheet.at(line)} was read as a row, and its label {label!r} occurs "
                "nowhere else: is it the header? Then data.header = true. If it is a row, "
                f"data.labels = {inline({label: label})} says so."
            )
    return problems


@dataclass(frozen=True, slots=True)
class _Gaps:
    """The rows of all files (`missing`, bool [N]) where a column has no value. `words`: whether what
    stands there could be read as a word; `fillable`: whether something could be put there."""

    name: str
    cells: Sequence[str]
    missing: np.ndarray
    words: bool
    fillable: bool


def _gaps(
    labels: Sequence[str], features: Sequence[Features], rules: Rules, sheet: Sheet
) -> list[_Gaps]:
    """Gaps that keep a row from being used: those of labels, and what is not to be filled."""
    import numpy as np

    name = sheet.names[sheet.label]
    as_word = rules.columns.get(name) == "categorical"
    lacks = {one: not one.strip() if as_word else is_gap(one) for one in set(labels)}
    gaps = [_Gaps(name, labels, np.array([lacks[one] for one in labels]), True, False)]
    if rules.impute == "refuse":
        gaps += [_Gaps(f.name, f.cells, f.missing(), not f.numeric, True) for f in features]
    return gaps


def _no_values(sheets: Sequence[Sheet], gaps: Sequence[_Gaps]) -> str:
    """What to say of cells without a value that nothing is to be done about."""
    import numpy as np

    found = [gap for gap in gaps if gap.missing.any()]
    one = min(found, key=lambda gap: int(gap.missing.argmax()))
    row = int(one.missing.argmax())
    place, left = "", row
    for sheet in sheets:
        if left < len(sheet.rows):
            place = f"{sheet.where}: {sheet.at(sheet.rows[left][0])}"
            break
        left -= len(sheet.rows)
    cell = one.cells[row].strip()
    told = f"{place}, column {one.name!r}: no value" + (f" ({cell!r} is none)" if cell else "")
    counts = [f"{int(np.count_nonzero(gap.missing))} in {gap.name!r}" for gap in found]
    told += f"; {', '.join(counts[:6])}{f', and in {len(counts) - 6} more' * (len(counts) > 6)}."
    told += ' data.missing = "drop" leaves such rows out'
    if any(gap.fillable for gap in found):
        told += '; data.impute = "mean" or "median" fills them'
    words = {
        gap.name: "categorical"
        for gap in found
        if gap.words and any(gap.cells[at].strip() for at in np.flatnonzero(gap.missing).tolist())
    }
    return f"{told}{f'; data.columns = {inline(words)} reads them as words' * bool(words)}."


def _seen(sheets: Sequence[Sheet], written: Sequence[str], keep: np.ndarray) -> dict[str, str]:
    """Label as it is written → where it first stands, of the rows that are used."""
    kept = set(keep.tolist())
    lines = ((sheet, line) for sheet in sheets for line, _ in sheet.rows)
    seen: dict[str, str] = {}
    for row, (sheet, line) in enumerate(lines):
        if row in kept and written[row] not in seen:
            seen[written[row]] = f"{sheet.where}: {sheet.at(line)}"
    return seen


def _parts(sheets: Sequence[Sheet], keep: np.ndarray) -> tuple[int, ...]:
    """How many of the used rows came from each file. Raises BadInput for too few."""
    parts = []
    start = 0
    for sheet in sheets:
        stop = start + len(sheet.rows)
        parts.append(int(((keep >= start) & (keep < stop)).sum()))
        start = stop
        if parts[-1] < 4:
            raise BadInput(
                f"{sheet.where}: holds {parts[-1]} complete rows; at least 4 are needed."
            )
    return tuple(parts)


def _check_classes(found: Classes, sheet: Sheet) -> None:
    if not 2 <= len(found.names) <= MOST_CATEGORIES:
        raise BadInput(
            f"{sheet.where}: column {sheet.names[sheet.label]!r} has {len(found.names)} different "
            f"values; as classes, 2 to {MOST_CATEGORIES} are needed. Name the right one with "
            "data.label."
        )


def _encoded(
    features: Sequence[Features], keep: np.ndarray, where: str
) -> tuple[list[str], list[np.ndarray], tuple[tuple[Column, slice], ...]]:
    """Names, columns [N, d] and what each column of the files became."""
    import numpy as np

    names: list[str] = []
    blocks: list[np.ndarray] = []
    columns: list[tuple[Column, slice]] = []
    for column in features:
        start = len(names)
        if column.numeric:
            values = column.values()[keep]
            names.append(column.name)
            blocks.append(values[:, None])
            told = Column(name=column.name, kind="numeric", gaps=int(np.isnan(values).sum()))
            if told["gaps"] < len(values):
                told |= {"low": float(np.nanmin(values)), "high": float(np.nanmax(values))}
        else:
            # No array of texts: in one, every cell would have the room of the longest.
            cells = [
                "" if column.cells[row] in column.gaps else column.cells[row]
                for row in keep.tolist()
            ]
            found = sorted(set(cells))
            places = {word: place for place, word in enumerate(found)}
            if len(found) > MOST_CATEGORIES:
                raise BadInput(
                    f"{where}: column {column.name!r} has {len(found)} different texts (such as "
                    f"{found[0][:40]!r}); numbers or at most {MOST_CATEGORIES} categories are "
                    f"needed; data.drop = {inline([column.name])} leaves it out."
                )
            names += [f"{column.name}={value}" for value in found]
            blocks.append(np.eye(len(found))[[places[cell] for cell in cells]])
            words = [value for value in found if value]
            gaps = cells.count("")
            told = Column(name=column.name, kind="categorical", values=words, gaps=gaps)
            if gaps:
                told["filled"] = "a category of its own"
        columns.append((told, slice(start, len(names))))
    if not 1 <= len(names) <= MOST_COLUMNS:
        raise BadInput(f"{where}: gives {len(names)} columns; 1 to {MOST_COLUMNS} are needed.")
    return names, blocks, tuple(columns)


def _header_warning(sheet: Sheet, features: Sequence[Features], labels: Sequence[str]) -> list[str]:
    """Where the names of the columns look like one of the rows below them."""
    numeric = [column for column in features if column.numeric]
    names = [column.name for column in (numeric or features)]
    cells = {column.name: column.distinct for column in features}
    like = [POINT.fullmatch(name) if numeric else name in cells[name] for name in names]
    if not like or not all(like) or not sheet.headed:
        return []
    if not numeric and sheet.names[sheet.label] not in labels:
        return []
    shown = ", ".join(sheet.names[:4])
    return [
        f"{key_of(sheet.where)}: the names of the columns ({shown}, …) look like a row of data; "
        "data.header = false reads them as one."
    ]


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


def info(
    table: Table, train: np.ndarray, test: np.ndarray, digest: str, where: str, impute: Impute
) -> DataInfo:
    """What planning must know. Raises BadInput where a class has no training row, or a column to
    fill has none with a value."""
    import numpy as np

    classes = len(table.classes)
    counts, tests = (
        [int(n) for n in np.bincount(table.labels[rows], minlength=classes)]
        for rows in (train, test)
    )
    if not all(counts):
        empty = table.classes[counts.index(0)]
        raise BadInput(f"{where}: no row of class {empty!r} is left for training.")
    columns = [told for told, _ in table.columns]
    if impute != "refuse":
        means = filling(table, train, impute, where)
        columns = [
            {**told, "filled": f"{impute} {means[place.start]:.6g}"}
            if told["kind"] == "numeric" and told["gaps"] else told
            for told, place in table.columns
        ]  # fmt: skip
    report: DataReport = {
        **table.report,
        "columns": columns,
        "train": {"rows": len(train), "per_class": counts},
        "test": {"rows": len(test), "per_class": tests},
    }
    return DataInfo(
        digest=digest,
        train=len(train),
        test=len(test),
        shape=(table.values.shape[1], 1, 1),
        classes=table.classes,
        train_per_class=tuple(counts),
        kind="table",
        report=report,
    )


def filling(table: Table, train: np.ndarray, impute: Impute, where: str) -> np.ndarray:
    """What fills the gaps of each of the D columns, from the training rows alone. Raises BadInput."""
    import numpy as np

    values = table.values[train]
    empty = np.isnan(values).all(axis=0)
    if empty.any():
        name = table.names[int(empty.argmax())]
        raise BadInput(
            f"{where}: column {name!r}: no training row has a value; data.drop can leave it out."
        )
    filled: np.ndarray = (np.nanmedian if impute == "median" else np.nanmean)(values, axis=0)
    return filled


def arrays(
    table: Table, train: np.ndarray, test: np.ndarray, impute: Impute = "refuse"
) -> dict[str, np.ndarray]:
    """float32 [N, D, 1, 1]; gaps filled, then each column scaled so that the training rows fill
    [0, 1].

    Test values outside the training rows' range stay outside.
    """
    import numpy as np

    values = table.values
    if impute != "refuse":
        values = np.where(np.isnan(values), filling(table, train, impute, "data"), values)
    low = values[train].min(axis=0)
    span = values[train].max(axis=0) - low
    span[span == 0] = 1.0

    def scaled(rows: np.ndarray) -> np.ndarray:
        columns: np.ndarray = ((rows - low) / span).astype(np.float32)
        return columns[:, :, None, None]

    return {
        "train_x": scaled(values[train]),
        "train_y": table.labels[train],
        "test_x": scaled(values[test]),
        "test_y": table.labels[test],
    }
