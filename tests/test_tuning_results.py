"""Searches in the results: what was chosen, what it cost, and every trial."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.results.compare import compare
from engine.results.tidy import tidy
from engine.results.tuning import ORACLE, outcome_of, table_of, to_markdown, trials_of
from engine.spec.component import Metric
from engine.spec.planned import Search, Trial

AUDIT = SimpleNamespace(metrics={"asr": Metric("rate", "up", 0.05)}, primary="asr")
OK = {"outcome": "ok", "reason": "", "validation_accuracy": 0.9, "forgetting": 0.5}
TOLD: dict[tuple[str, str], dict[str, Any]] = {
    ("start 0", "trial.json"): OK,
    ("start 1", "trial.json"): OK | {"validation_accuracy": 0.8},
    ("a0", "trial.json"): OK | {"forgetting": 0.6},
    ("a1", "trial.json"): OK | {"forgetting": 0.8},
    ("b0", "trial.json"): OK,
    ("b1", "trial.json"): {"outcome": "failed", "reason": "diverged at step 2"},
    ("choice", "choice.json"): {"chosen": 0, "config": {"lr": 0.1}, "within": True},
}


class Reader:
    """A store that holds TOLD; every stage cost 2 TEE and 3 seconds."""

    def __init__(self, told: dict[tuple[str, str], dict[str, Any]]) -> None:
        self.of = told

    def outcome(self, key: str) -> tuple[Any, str]:
        return ("missing", "not computed") if key == "c0" else ("ok", "")

    def measurements(self, key: str) -> dict[str, float | None]:
        return {"asr": 0.25}

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        return 2.0 * len(keys), 3.0 * len(keys)

    def told(self, key: str, name: str) -> dict[str, Any] | None:
        return self.of.get((key, name))


def search(objective: str = "proxy", variant: str = "tuned") -> Search:
    trials = (
        Trial({"lr": 0.1}, (0, 1), ("a0", "a1")),
        Trial({"lr": 0.2}, (0, 1), ("b0", "b1")),
        Trial({"lr": 0.3}, (0, 1), ("c0", "c1")),
    )
    return Search("", "badnets", "gd", variant, objective, "choice", trials, ("start 0", "start 1"))


def cells(variant: str = "tuned") -> list[Any]:
    common = {
        "setting": "",
        "attack": "badnets",
        "audit": "asr",
        "key": "x",
        "cost_keys": ("x",),
        "unit": 0,
    }
    return [
        SimpleNamespace(method="none", variant="", budget=None, seed=0, role="none", **common),
        SimpleNamespace(method="gd", variant=variant, budget=0.1, seed=0, role="unlearn", **common),
    ]


def test_every_trial_is_told_with_its_score_and_cost() -> None:
    one, two, three = trials_of("run", [search()], Reader(TOLD))
    assert one["config"] == {"lr": 0.1}
    assert one["forgetting"] == pytest.approx(0.7)
    assert one["start_accuracy"] == pytest.approx(0.85), "the mean over its seeds"
    assert (one["tee"], one["seconds"], one["seeds"]) == (4.0, 6.0, [0, 1])
    assert (one["chosen"], one["within"]) == (True, True)
    assert (two["outcome"], two["chosen"], two["forgetting"]) == ("failed", False, None)
    assert two["reason"] == "diverged at step 2 (seed 1)"
    assert three["outcome"] == "missing"
    json.dumps([one, two, three], allow_nan=False)


def test_before_the_choice_nothing_is_chosen() -> None:
    open_ = {k: v for k, v in TOLD.items() if k[0] != "choice"}
    assert {row["chosen"] for row in trials_of("run", [search()], Reader(open_))} == {None}
    table = tidy("run", cells(), Reader(open_), {"asr": AUDIT}, [search()])
    assert [m.variant for m in table] == ["", "tuned"]


def test_a_tuned_row_names_its_choice_and_keeps_the_searchs_cost_apart() -> None:
    table = tidy("run", cells(), Reader(TOLD), {"asr": AUDIT}, [search()])
    assert [m.variant for m in table] == ["", "tuned lr=0.1"]
    assert [(m.tee, m.search_tee, m.search_seconds) for m in table] == [
        (2.0, None, None), (2.0, 16.0, 24.0),
    ]  # fmt: skip
    rows = compare(table, {"asr": AUDIT})
    assert [(r["tee"], r["search_tee"]) for r in rows] == [(2.0, None), (2.0, 16.0)]


def test_an_oracles_row_is_an_oracle() -> None:
    found = search("oracle", "oracle")
    table = tidy("run", cells("oracle"), Reader(TOLD), {"asr": AUDIT}, [found])
    assert [m.role for m in table] == ["none", "oracle"]
    (row,) = [r for r in compare(table, {"asr": AUDIT}) if r["method"] == "gd"]
    assert row["verdict"] == "oracle" and row["variant"] == "oracle lr=0.1"
    assert ORACLE in to_markdown(trials_of("run", [found], Reader(TOLD)))


def test_trials_as_text() -> None:
    rows = trials_of("run", [search()], Reader(TOLD))
    assert [outcome_of(row) for row in rows] == [
        "chosen", "failed: diverged at step 2 (seed 1)", "missing: not computed (seed 0)",
    ]  # fmt: skip
    beyond = rows[0] | {"within": False}
    assert "none kept the accuracy" in outcome_of(beyond)
    headings, lines = table_of(rows)
    assert all(len(line) == len(headings) for line in lines)
    assert "audit" not in [heading for heading, _ in headings], "an empty column is left out"
    text = to_markdown(rows)
    assert "3 trials for 1 methods, 12 TEE" in text and ORACLE not in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert to_markdown([]) == ""
