"""Random tables, written in every form: what is read is what was meant, or is refused by the rules.

The rules are docs/tables.md. `written_tables` makes a table, `table_forms` writes it, and
`table_meaning` says what is meant by it; none of them knows how chelate reads. A table that is
refused must be one that the rules refuse, by a message that fits, and the keys which that message
gives are put into the preset, as a person would, until the table is read.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.data._table import Table, split
from engine.lab.data.csv_table import CSVTable
from engine.spec.errors import BadInput
from tests.lab.table_forms import Written, write
from tests.lab.table_meaning import applied, by_hand, meant, remedies, troubles, used
from tests.lab.written_tables import Labels, Made, table

FORMS = ("csv", "csv", "csv", "csv", "lines", "array", "parquet")
MOST_REFUSALS = 12
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def paths(written: Written) -> dict[str, str]:
    keys = zip(("path", "test_path"), written.paths, strict=False)
    return {key: str(path) for key, path in keys}


def check(seed: int, folder: Path) -> list[str]:
    """One table, from file to rows. Returns what it was refused for on the way."""
    rng = random.Random(seed)
    form = rng.choice(FORMS)
    made = table(rng, typed=form != "csv")
    written = write(rng, made, form, folder)
    settings = made.settings | written.keys
    refused: list[str] = []
    while True:
        why = troubles(made, written, settings)
        data = CSVTable.model_validate(settings | paths(written))
        try:
            read = data._table()
        except BadInput as error:
            refused += why or {"for nothing": ""}
            settings = mended(rng, made, written, settings, why, str(error))
            assert len(refused) < MOST_REFUSALS, f"{refused}: {error}"
            continue
        assert not why, f"read, though the rules refuse it: {why}"
        compare(data, read, made, settings)
        return refused


def mended(
    rng: random.Random,
    made: Made,
    written: Written,
    settings: dict[str, Any],
    why: dict[str, str],
    told: str,
) -> dict[str, Any]:
    """The settings with what a refusal says, after a look at whether it is one of those meant."""
    lines = told.split("\n")
    assert len(lines) <= len(why), f"refused for nothing: {told}"
    for line in lines:
        if line.startswith("…"):
            continue
        what = next((key for key, pattern in why.items() if re.search(pattern, line)), None)
        assert what is not None, f"{why}\n{told}"
        keys = remedies(line)
        if what == "delimiter":
            key, value = "delimiter", written.delimiter
        elif "data.decimal" in line:
            unclear = [column for column, _ in used(made, settings) if column.meant]
            key, value = "decimal", unclear[0].meant
        elif what == "labels":
            label = made.columns[made.label]
            assert isinstance(label, Labels)
            key, value = keys[1 if label.apart else 0]
        else:
            plain = [k for k in keys if k[0] in REMEDIES]
            if what == "gap":  # it stays one: nobody makes words of numbers for the sake of a gap
                plain = [k for k in plain if k[0] != "columns"]
            key, value = rng.choice(plain)
        settings = applied(settings, key, value)
    return settings


REMEDIES = ("drop", "keep", "columns", "missing", "impute")


def compare(data: CSVTable, read: Table, made: Made, settings: dict[str, Any]) -> None:
    """All that was read is what was meant, to the last bit."""
    right = meant(made, settings)
    assert read.names == right.names
    assert list(read.parts) == right.parts
    np.testing.assert_array_equal(read.values, right.values)
    assert list(read.classes) == right.classes
    assert [read.classes[label] for label in read.labels] == right.labels
    info, arrays = data.inspect(), data.read()
    assert info.train + info.test == len(right.labels) and info.classes == tuple(right.classes)
    assert info.report is not None
    kinds = {column["name"]: column["kind"] for column in info.report["columns"]}
    assert kinds == {
        name: "numeric" if column.numeric and not by_hand(name, settings) else "categorical"
        for column, name in used(made, settings)
    }
    _scaled(read, arrays, right.values, settings)
    _told(info.report["read"], made, settings)


def _scaled(
    read: Table, arrays: dict[str, np.ndarray], values: np.ndarray, settings: dict[str, Any]
) -> None:
    """Every column goes through one map, which the training rows alone determine."""
    train, test = split(read, 0.2, None)
    assert sorted([*train, *test]) == list(range(len(values)))
    fill = {"mean": np.nanmean, "median": np.nanmedian}.get(settings.get("impute", ""))
    for at in range(values.shape[1]):
        own = values[:, at].copy()
        if fill is not None:
            own[np.isnan(own)] = fill(own[train])
        low, high = own[train].min(), own[train].max()
        for rows, part in ((train, "train_x"), (test, "test_x")):
            wanted = (own[rows] - low) / ((high - low) or 1)
            np.testing.assert_allclose(arrays[part][:, at, 0, 0], wanted, rtol=1e-6, atol=1e-7)


def _told(lines: list[str], made: Made, settings: dict[str, Any]) -> None:
    """Gaps that were words and numbers that were not plain are said, as are labels joined."""
    for column, name in used(made, settings):
        if by_hand(name, settings) or column.typed:
            continue
        own = [line for line in lines if repr(name) in line]
        gaps = any(cell.value is None and cell.written.strip() for cell in column.cells)
        if gaps and column.numeric:
            assert any("no value" in line for line in own), (name, lines)
        cells = [cell.written.strip() for cell in column.cells if cell.value is not None]
        if column.numeric and not all(PLAIN.fullmatch(cell) for cell in cells):
            assert any(re.search("comma|point|space", line) for line in own), (name, lines)


def run(seeds: range, folder: Path) -> Counter[str]:
    """How often tables were read at once, and how often after a refusal."""
    found: Counter[str] = Counter()
    wrong = []
    for seed in seeds:
        try:
            refused = check(seed, folder)
        except Exception as error:  # a crash of the reader is a fault like any other
            wrong.append(f"seed {seed}: {type(error).__name__}: {error}"[:700])
            continue
        found["after a refusal" if refused else "at once"] += 1
    assert not wrong, f"{len(wrong)} of {len(seeds)}:\n" + "\n".join(wrong[:20])
    return found


@pytest.mark.parametrize("part", range(4))
def test_what_is_read_is_what_was_meant(part: int, tmp_path: Path) -> None:
    found = run(range(part * 75, part * 75 + 75), tmp_path)
    assert min(found.values()) > 15  # both happen, often


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_what_is_read_is_what_was_meant_in_many_tables(part: int, tmp_path: Path) -> None:
    run(range(1000 + part * 300, 1300 + part * 300), tmp_path)
