"""Rows detected, gathered from plans and stores: who is missing and why, and runs that disagree."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.jobs.row_scores import ROWS_ABSENT, RowScores
from engine.results.detected_rows import (
    GONE,
    MODEL_FIELDS,
    NO_GRADIENT,
    NO_SCORES,
    DetectionLine,
    detection_lines,
    model_records,
    row_records,
)
from engine.results.gathering import Place
from engine.results.tables import to_csv
from engine.results.tidy import registered_audits
from engine.spec.errors import BadInput
from engine.spec.planned import Cell, Plan

AUDITS = registered_audits()


class Stored:
    """A store in memory; what is not in it is n/a, diverged, … as `ends` has it."""

    def __init__(
        self,
        scores: Mapping[str, RowScores | None],
        ends: Mapping[str, tuple[Any, str]] | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        self.scores, self.ends, self.counts = scores, ends or {}, counts or {}

    def outcome(self, key: str) -> tuple[Any, str]:
        if key in self.ends:
            return self.ends[key]
        return ("ok", "") if key in self.scores else ("missing", "not computed")

    def divergence(self, key: str) -> str:
        return ""

    def measurements(self, key: str) -> dict[str, float | None]:
        return {"count": self.counts.get(key, 3.0)}

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        return 0.0, 0.0

    def told(self, key: str, name: str) -> None:
        return None

    def row_scores(self, key: str) -> RowScores | None:
        return self.scores[key]


def cell(key: str, method: str = "gd", seed: int = 0, **more: Any) -> Cell:
    role = method if method in ("none", "retrain") else "unlearn"
    budget = 0.1 if role == "unlearn" else None
    found = Cell("", "gaussian", method, "", budget, seed, "gaussian", role, key, ())
    return replace(found, **more)


def scores(*values: float, first: int = 0, **more: Any) -> RowScores:
    rows = np.arange(first, first + len(values))
    known = {"rows": rows, "poisoned": len(values), "data": "d"}
    return RowScores(np.array(values), **known | more)


def lines(*runs: tuple[list[Cell], Stored], wanted: Place | None = None) -> list[DetectionLine]:
    told = [(f"r{n}", Plan({}, cells), store) for n, (cells, store) in enumerate(runs)]
    return detection_lines(told, AUDITS, wanted)


def test_lines_come_in_the_order_of_a_comparison_and_know_their_seeds() -> None:
    cells = [cell("a", seed=1), cell("b", "none"), cell("c"), cell("d", "retrain")]
    store = Stored({key: scores(5.0, 0.0, first=7) for key in "abcd"})
    found = lines((cells, store))
    assert [line.place.method for line in found] == ["none", "retrain", "gd"]
    told = model_records(found)[2]
    assert told["seeds"] == [0, 1] and told["rows"] == 4 and told["detected"] == 2
    assert (told["again_rows"], told["again_found"]) == (2, 1)
    assert found[2].detection is not None
    (row,) = found[2].detection.detected_rows()
    assert (row.row, row.detected) == (7, (0, 1))


def test_an_attack_without_scores_says_why() -> None:
    cells = [cell("a"), cell("b", attack="badnets", audit="attack-success")]
    found = lines((cells, Stored({"a": scores(5.0)})))
    (none,) = (line for line in found if line.place.attack == "badnets")
    assert (none.outcome, none.reason) == ("n/a", NO_SCORES)
    (told,) = (row for row in row_records(found) if row["attack"] == "badnets")
    assert told["outcome"] == "n/a" and told["reason"] == NO_SCORES and told["row"] is None


def test_models_without_scores_say_why() -> None:
    cells = [cell(key, seed=n) for n, key in enumerate("abcde")]
    store = Stored(
        {"a": scores(5.0, 0.0), "b": None, "c": None},
        {"d": ("diverged", "the loss is not finite at step 7")},
        {"b": 0.0},
    )
    (line,) = lines((cells, store))
    assert line.outcome == "ok"
    for seed, why in enumerate([NO_GRADIENT, GONE, "the loss is not finite at step 7"], 1):
        assert f"seed {seed}: {why}" in line.reason
    told = row_records([line])
    assert [row["outcome"] for row in told] == ["ok", "ok", "n/a", "missing", "diverged", "missing"]
    (lost,) = lines(([cell("d")], store))
    assert (lost.outcome, lost.reason) == ("diverged", "the loss is not finite at step 7")
    assert model_records([lost])[0]["detected"] is None


def test_records_have_all_their_fields_always() -> None:
    cells = [cell("a"), cell("b", seed=1), cell("x", "none")]
    found = lines((cells, Stored({"a": scores(5.0), "b": scores(1.0)})))
    fields = [*Place._fields, *MODEL_FIELDS]
    assert all(sorted(told) == sorted(fields) for told in model_records(found))
    rows = row_records(found)
    assert len({tuple(row) for row in rows}) == 1
    told = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [row["detected"] for row in told] == ["", "true", "false"]
    assert told[1]["variant"] == "(default)" and told[0]["outcome"] == "missing"


def test_two_runs_share_and_add_models() -> None:
    one = ([cell("a"), cell("b", seed=1)], Stored({"a": scores(5.0), "b": scores(5.0)}))
    two = ([cell("a"), cell("c", seed=2)], Stored({"a": scores(5.0), "c": scores(5.0)}))
    (line,) = lines(one, two)
    assert model_records([line])[0]["seeds"] == [0, 1, 2]


def test_two_runs_that_disagree_are_refused() -> None:
    one = ([cell("a")], Stored({"a": scores(5.0)}))
    with pytest.raises(BadInput, match="runs r0 and r1: different scores for gaussian / gd"):
        lines(one, ([cell("z")], Stored({"z": scores(4.0)})))


def test_of_two_runs_the_one_that_knows_its_rows_counts() -> None:
    blind = RowScores(np.array([5.0]), poisoned=1, lost=ROWS_ABSENT)
    known, lost = ([cell("a")], Stored({"a": scores(5.0)})), ([cell("z")], Stored({"z": blind}))
    missing = ([cell("y")], Stored({}))
    for runs in ((known, lost, missing), (missing, lost, known)):
        (line,) = lines(*runs)
        assert line.detection is not None and not line.detection.lost and not line.reason


def test_one_line_alone_can_be_asked_for() -> None:
    cells = [cell("a"), cell("b", "none"), cell("c", attack="x", audit="accuracy")]
    store = Stored({"a": scores(5.0)})  # the others are not even looked at
    place = Place("", "gaussian", "gd", "", 0.1, "gaussian", "unlearn")
    (line,) = lines((cells, store), wanted=place)
    assert line.place.method == "gd"
    assert lines((cells, store), wanted=place._replace(audit="accuracy")) == []
