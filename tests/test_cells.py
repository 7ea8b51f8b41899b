"""The simulated cells: laws are what they say, and `judge` alone says what `compare` says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import CELLS, POISONED_ROWS, RESNET, TEXT, TEXT_TAIL, Cell
from benchmarks.counts import Share, measured
from benchmarks.simulation import blocks, draw, falsehoods, families, metric, truths, words
from engine.results.compare import compare
from engine.results.evidence import Candidate
from engine.results.tidy import Measurement
from engine.results.verdict import judge

NAMED = {cell.name: cell for cell in CELLS}
SOME = [
    "half residue: rates at .1, 900 rows, 3 seeds",
    "most residue, 20 rows: AUC, 3 seeds",
    "on the margin: standard-normal, 180 rows, 5 seeds",
    "methods null, 13 rows: targets at 0.5, correlation 0.2, 3 seeds",
    "as bad as none, text model: accuracy, 3 seeds",
    "two points lost, text model: rates at .1, 900 rows, steady, 5 seeds",
]


class Declared:
    """An audit as `compare` knows it."""

    def __init__(self, primary: str, metrics: dict[str, Any]) -> None:
        self.primary, self.metrics = primary, metrics


def measurements(cell: Cell, family: list[Candidate]) -> Iterator[Measurement]:
    audit = "accuracy" if cell.kind == "accuracy" else "judged"
    for row, candidate in enumerate(family):
        tables = {(audit, "test_accuracy" if audit == "accuracy" else "value"): candidate.values}
        tables |= {(audit, name): table for name, table in candidate.companions.items()}
        tables["accuracy", "test_accuracy"] = candidate.utility
        for (name, metric_name), table in tables.items():
            for trial, value in table.items():
                yield Measurement(
                    run="r", setting="", attack="a", method=f"m{row}", variant="", budget=None,
                    seed=trial.seed, unit=trial.unit, audit=name, metric=metric_name, value=value,
                    role=candidate.role, tee=0.0, seconds=0.0, status="ok", reason="",
                )  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_compare_gives_the_same_words(name: str) -> None:
    cell = NAMED[name]
    judged = Declared(
        "test_accuracy" if cell.kind == "accuracy" else "value",
        {
            "value": metric(cell),
            "test_accuracy": metric(NAMED["methods null, text model: accuracy, 3 seeds"]),
        },
    )
    audits = {"accuracy" if cell.kind == "accuracy" else "judged": judged}
    for family in islice(families(cell, next(blocks(cell, 5))), 5):
        rows = compare(measurements(cell, family), audits)  # type: ignore[arg-type]
        told = {
            row["method"]: words_of(row)
            for row in rows
            if row["primary"] and row["audit"] in audits
        }
        expected = [words(verdict) for verdict in judge(family, metric(cell))]
        assert [told[f"m{row}"] for row in range(len(family))] == expected


def words_of(row: dict[str, Any]) -> str:
    return f"{row['verdict']} ({row['qualifier']})" if row.get("qualifier") else row["verdict"]


def test_names_are_their_own_and_seed_the_draws() -> None:
    assert len(NAMED) == len(CELLS)
    cell = CELLS[0]
    one, other = next(blocks(cell, 3)), next(blocks(cell, 3))
    assert np.array_equal(one.values, other.values)
    assert not np.array_equal(one.values, next(blocks(CELLS[1], 3)).values[:, :, : cell.seeds])


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_means_and_deviations_are_those_of_the_truth(cell: Cell) -> None:
    runs = 400
    block = draw(cell, runs, np.random.default_rng(7))
    values = block.values.reshape(runs, len(truths(cell)), -1)
    for index, row in enumerate(truths(cell)):
        loss = cell.accuracy.mean - block.accuracy[:, index].mean()
        assert loss == pytest.approx(
            row.loss, abs=0.012 if cell.accuracy.paired_gap > 0.01 else 1e-3
        )
        if cell.kind == "accuracy":
            continue
        found = values[:, index]
        error = found.mean(axis=1).std() / np.sqrt(runs)
        assert abs(found.mean() - row.mean) <= 5 * error + 1e-9
        if cell.kind == "auc" and not row.coin:
            assert found.std() == pytest.approx(row.spread * cell.sd, rel=0.15)
        if cell.kind == "score":
            expected = np.sqrt((1 + row.spread**2) / POISONED_ROWS)
            assert found.std() == pytest.approx(expected, rel=0.15)


def test_targets_of_a_seed_are_correlated_as_stated() -> None:
    cell = NAMED["methods null, 13 rows: targets at 0.5, correlation 0.2, 5 seeds"]
    hits = draw(cell, 500, np.random.default_rng(8)).values[:, 0].reshape(2500, 16)
    matrix = np.corrcoef(hits.T)
    assert matrix[np.triu_indices(16, 1)].mean() == pytest.approx(0.2, abs=0.03)


def test_gaps_of_accuracy_have_the_measured_deviation() -> None:
    for accuracy in (RESNET, TEXT, TEXT_TAIL):
        cell = next(cell for cell in CELLS if cell.accuracy is accuracy)
        accuracy = draw(cell, 1000, np.random.default_rng(9)).accuracy
        gaps = accuracy[:, 0] - accuracy[:, 5]
        assert gaps.std() == pytest.approx(cell.accuracy.paired_gap, rel=0.1)


def test_false_words_follow_from_the_truth() -> None:
    def named(name: str) -> dict[str, tuple[int, ...]]:
        return {f.name: f.rows for f in falsehoods(NAMED[name])}

    found = named("half residue: AUC, 3 seeds")
    assert found["residue"] == (2, 3, 4, 5, 6, 7)  # retrain-fresh and the null methods
    assert "removed (null)" not in found
    assert found["removed (residue, spread 1)"] == (9,)
    assert "removed (null)" in named("all null: AUC, 3 seeds")  # there was nothing to remove
    assert 1 in named("all null: AUC, 3 seeds")["residue"]
    found = named("as bad as none, text model: accuracy, 3 seeds")
    assert found["wrecked"] == tuple(range(1, 14))
    assert found["reinforced"] == tuple(range(3, 14))
    found = named("two points lost, digits MLP: rates at .1, 900 rows, steady, 3 seeds")
    assert found["wrecked"] == tuple(range(1, 14))
    assert found["removed (two points lost, spread 1)"] == (4,)
    assert "nothing to remove" in named("none on the margin: AUC, steady, 3 seeds")


def test_what_is_counted_is_not_drawn_again(tmp_path: Path) -> None:
    out = tmp_path / "cells.json"
    cells = [NAMED[SOME[0]]]
    measured(cells, 5, out)
    kept = json.loads(out.read_text())
    kept[cells[0].name]["false"]["residue"] = 99
    out.write_text(json.dumps(kept))
    assert measured(cells, 5, out)[cells[0].name]["false"]["residue"] == 99  # as the file says
    assert measured(cells, 6, out)[cells[0].name]["runs"] == 6


def test_a_share_is_above_the_limit_only_beyond_chance() -> None:
    assert not Share(550, 10_000).above(100)
    assert Share(600, 10_000).above(100)
