"""Metrics measured for each class carry its name, for programs and for people."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.results.compare import Row, compare, shown_metric
from engine.results.tables import to_csv
from engine.results.tidy import class_names, tidy
from engine.spec.component import Metric
from engine.spec.planned import Stage

AUDIT = SimpleNamespace(
    primary="test_accuracy",
    metrics={
        "test_accuracy": Metric("accuracy", "down", 0.02),
        "class_accuracy": Metric("of one class"),
        "tpr": Metric("a rate"),
        "odd.1": Metric("a name with a dot"),
        "odd": Metric("without"),
    },
)
VALUES = {
    "test_accuracy": 0.9, "class_accuracy.0": 0.8, "class_accuracy.3": 0.7, "class_accuracy.4": 0.6,
    "tpr.01": 0.1, "odd.1": 0.2, "class_accuracy.x": 0.3, "unknown.0": 0.4,
}  # fmt: skip
CLASSES = ["cat", "dog", "eel", "yak, wild"]


class Reader:
    def outcome(self, key: str) -> tuple[str, str]:
        return "ok", ""

    def measurements(self, key: str) -> dict[str, float]:
        return dict(VALUES)

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        return 1.0, 1.0

    def told(self, key: str, name: str) -> None:
        return None


def rows(*plans: dict[str, Any] | None) -> list[Row]:
    """Of a run for each data stage's config: seed 0 of the first, 1 of the second, …"""
    table = []
    for seed, config in enumerate(plans):
        cell = SimpleNamespace(
            setting="", attack="badnets", method="none", variant="", budget=None, seed=seed,
            audit="accuracy", role="none", key="audit", cost_keys=("x",), unit=0,
        )  # fmt: skip
        stages = None
        if config is not None:
            stages = {
                "data": Stage("data", "data", "data", config, {}),
                "audit": Stage("audit", "audit", "audit", {}, {"data": "data"}),
            }
        table += tidy(f"run{seed}", [cell], Reader(), {"accuracy": AUDIT}, (), stages)  # type: ignore[arg-type,list-item]
    return compare(table, {"accuracy": AUDIT})  # type: ignore[dict-item]


def test_rows_carry_the_name_beside_the_index() -> None:
    told = {row["metric"]: row.get("class") for row in rows({"classes": CLASSES})}
    assert told == dict.fromkeys(VALUES) | {
        "class_accuracy.0": "cat",
        "class_accuracy.3": "yak, wild",
    }


def test_for_people_the_name_follows_the_metric() -> None:
    told = {row["metric"]: shown_metric(row) for row in rows({"classes": CLASSES})}
    assert told["class_accuracy.0"] == "class_accuracy.0 (cat)"
    assert told["test_accuracy"] == "test_accuracy"
    odd = shown_metric({"metric": "m.0", "class": "\x1b[31mred\n" + "x" * 99})
    assert odd.startswith("m.0 ([31mred") and odd.isprintable() and len(odd) < 60


def test_csv_and_json_keep_them() -> None:
    found = rows({"classes": CLASSES})
    back = {row["metric"]: row for row in csv.DictReader(io.StringIO(to_csv(found)))}
    assert back["class_accuracy.3"]["class"] == "yak, wild"
    assert back["test_accuracy"]["class"] == ""
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "config", [None, {}, {"classes": None}, {"classes": [1, 2]}, {"classes": "cat"}]
)
def test_runs_that_do_not_tell_their_classes_are_read_as_before(config: Any) -> None:
    found = rows(config)
    assert len(found) == len(VALUES) and not any("class" in row for row in found)
    assert "class" not in next(iter(csv.DictReader(io.StringIO(to_csv(found)))))


def test_runs_on_other_data_under_one_name_show_both_names() -> None:
    found = rows({"classes": CLASSES}, {"classes": ["cat", "a", "b", "c or d"]}, {})
    told = {row["metric"]: row.get("class") for row in found}
    assert told["class_accuracy.0"] == "cat"
    assert told["class_accuracy.3"] == "yak, wild or c or d"


def test_names_come_from_the_data_that_the_audit_read() -> None:
    stages = {
        "d": Stage("d", "data", "data", {"classes": ("a", "b")}, {}),
        "e": Stage("e", "data", "data", {"classes": ("c",)}, {}),
        "x": Stage("x", "audit", "audit", {}, {"data": "e", "model": "d"}),
    }
    assert list(class_names(stages, "x")) == ["c"]
    assert class_names(stages, "d") == () and class_names(stages, "nowhere") == ()
