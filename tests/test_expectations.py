"""What a plan may expect: families, what like runs tell, what is assumed without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from engine.results.expectations import EFFECT, GAP, Expectation, expectations
from engine.results.like_runs import families, likeness
from engine.results.tidy import Audits, registered_audits
from engine.spec.plan import make_plan
from engine.spec.planned import Cell, Plan
from engine.spec.presets import validate

PRESET: dict[str, Any] = {
    "title": "small",
    "seeds": [0, 1, 2],
    "budgets": [0.25, 0.5],
    "data": {"name": "mnist5k", "limit_train": 300, "limit_test": 100},
    "model": {"name": "mlp", "width": 16},
    "train": {"epochs": 2},
    "attacks": [{"name": "gaussian", "share": 0.1}, {"name": "badnets", "share": 0.05}],
    "methods": [
        {"name": "none"},
        {"name": "retrain"},
        {"name": "retrain-fresh"},
        {"name": "gd"},
        {"name": "ngd", "grid": {"grad_noise_std": [0.1, 0.3]}},
    ],
    "audits": [{"name": "accuracy"}, {"name": "gaussian"}, {"name": "attack-success"}],
}
GAPS = {0: 0.01, 1: -0.02, 2: 0.03}  # of a second retraining, by seed
RMS = ((0.01**2 + 0.02**2 + 0.03**2) / 3) ** 0.5
AUDITS: Audits = registered_audits()


def planned(**changes: Any) -> Plan:
    return make_plan(validate(PRESET | changes, "small"), "cpu")


@dataclass
class Made:
    """A finished run whose numbers are made up."""

    id: str
    plan: Plan

    def measurements(self, key: str) -> Mapping[str, float | None]:
        cell = next(cell for cell in self.plan.cells if cell.key == key)
        return {"test_accuracy": value(cell), "asr": value(cell), "mean_score": value(cell),
                "count": 25.0}  # fmt: skip


def value(cell: Cell) -> float:
    gap = {"retrain": 0.0, "retrain-fresh": GAPS[cell.seed], "none": 0.4 + 0.1 * cell.seed}
    return 0.1 + gap.get(cell.role, 2 * GAPS[cell.seed])


def by_place(found: list[Expectation]) -> dict[tuple[str, str, str], Expectation]:
    return {place: one for one in found for place in one.places}


def methods(*left_out: str) -> list[dict[str, Any]]:
    return [entry for entry in PRESET["methods"] if entry["name"] not in left_out]


def test_every_judged_family_is_there_once() -> None:
    found = expectations(planned(), AUDITS)
    places = [place for one in found for place in one.places]
    assert sorted(places) == [
        ("", "badnets", "accuracy"),
        ("", "badnets", "attack-success"),
        ("", "gaussian", "accuracy"),
        ("", "gaussian", "gaussian"),
    ]
    alike = next(one for one in found if len(one.places) > 1)
    assert [place[2] for place in alike.places] == ["accuracy", "accuracy"]


def test_what_describes_or_judges_no_method_expects_nothing() -> None:
    assert not expectations(planned(audits=[{"name": "agreement"}]), AUDITS)
    assert not expectations(planned(methods=[{"name": "none"}, {"name": "retrain"}]), AUDITS)


def test_the_family_and_the_rows_are_those_of_the_plan() -> None:
    found = by_place(expectations(planned(), AUDITS))
    gaussian = found["", "gaussian", "gaussian"].outlook
    assert (gaussian.tests, gaussian.models) == (2 + 3 * 2, 1 + 3 * 2)
    assert gaussian.null == "standard-normal"
    assert gaussian.rows == 27  # a tenth of 300 less the validation's tenth
    trigger = found["", "badnets", "attack-success"].outlook
    assert trigger.resolution == 1 / 100
    assert trigger.fresh and trigger.none and trigger.retrain and not trigger.of_accuracy
    assert found["", "badnets", "accuracy"].outlook.of_accuracy
    plan = planned(methods=methods("retrain-fresh", "none"))
    bare = by_place(expectations(plan, AUDITS))["", "badnets", "attack-success"]
    assert not bare.outlook.fresh and not bare.outlook.none
    assert bare.outlook.tests == 6
    assert "never removed" in bare.caveat


def test_an_oracle_takes_no_part() -> None:
    tune = {"objective": "oracle", "methods": ["gd"]}
    plan = planned(
        tune=tune,
        attacks=[{"name": "badnets", "share": 0.05}],
        methods=methods("ngd"),
        audits=[{"name": "accuracy"}, {"name": "attack-success"}],
    )
    assert plan.searches[0].objective == "oracle"
    for one in expectations(plan, AUDITS):
        assert one.outlook.tests == 2, "none and retrain-fresh"


def test_without_like_runs_all_is_assumed_and_said() -> None:
    for one in expectations(planned(), AUDITS):
        assert not one.stored
        margin = one.outlook.margin
        assert margin is not None
        assert one.outlook.effect == EFFECT * margin
        assert one.assumed["effect"] == "4 margins"
        if one.outlook.null == "retrain":
            assert one.outlook.gap_sd == one.outlook.none_sd == GAP * margin
        else:
            assert "gap_sd" not in one.assumed  # exact
            assert one.outlook.none_sd == 0


def test_a_like_run_tells_the_spreads() -> None:
    past = [Made("before", planned())]
    found = by_place(expectations(planned(seeds=[5, 6]), AUDITS, past))
    trigger = found["", "badnets", "attack-success"]
    assert not trigger.assumed
    assert trigger.seeds == 2
    assert trigger.outlook.gap_sd == pytest.approx(RMS)
    assert trigger.outlook.effect == pytest.approx(0.5)
    assert trigger.outlook.none_sd == pytest.approx(0.1)
    assert trigger.outlook.accuracy_sd == pytest.approx(RMS)
    assert trigger.outlook.resolution == 1 / 25
    assert {m.seeds for m in trigger.stored.values()} == {3}
    assert {m.runs for m in trigger.stored.values()} == {("before",)}
    gaussian = found["", "gaussian", "gaussian"].outlook
    assert gaussian.effect == pytest.approx(0.6)
    assert gaussian.rows == 25
    assert gaussian.none_sd == 0, "the rows' own sampling explains it"


def test_without_a_second_retraining_methods_tell_the_spread() -> None:
    plan = planned(methods=methods("retrain-fresh"))
    found = by_place(expectations(plan, AUDITS, [Made("before", plan)]))
    mean = 2 * sum(GAPS.values()) / 3
    variance = sum((2 * gap - mean) ** 2 for gap in GAPS.values()) / 2
    assert found["", "badnets", "attack-success"].outlook.gap_sd == pytest.approx(variance**0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "mlp", "width": 32}},
        {"train": {"epochs": 3}},
        {"validation": 0.2},
        {"data": {"name": "mnist5k", "limit_train": 200, "limit_test": 100}},
        {"seeds": [0, 1]},
    ],
)
def test_other_runs_and_few_seeds_tell_nothing(changes: dict[str, Any]) -> None:
    past = [Made("before", planned(**changes))]
    for one in expectations(planned(), AUDITS, past):
        assert not one.stored
        assert "effect" in one.assumed


def test_another_attack_tells_spreads_but_no_effect() -> None:
    attacks = [{"name": "gaussian", "share": 0.1}, {"name": "badnets", "share": 0.1}]
    past = [Made("before", planned(attacks=attacks))]
    trigger = by_place(expectations(planned(), AUDITS, past))["", "badnets", "attack-success"]
    assert set(trigger.assumed) == {"effect"}
    assert trigger.outlook.gap_sd == pytest.approx(RMS)
    assert trigger.outlook.resolution == 1 / 100


def test_another_audit_config_is_another_measure() -> None:
    audits = [{"name": "accuracy"}, {"name": "gaussian", "rank_draws": 0}]
    past = [Made("before", planned(audits=audits))]
    gaussian = by_place(expectations(planned(), AUDITS, past))["", "gaussian", "gaussian"]
    assert set(gaussian.assumed) == {"effect"}
    assert set(gaussian.stored) == {"accuracy_sd"}


def test_runs_that_share_a_training_count_it_once() -> None:
    past = [Made("one", planned()), Made("two", planned(methods=methods("ngd")))]
    family = families(planned())["", "badnets", "attack-success"]
    known = likeness(family, "asr", False, [(run, families(run.plan)) for run in past])
    assert known.gap_sd is not None and known.effect is not None
    assert known.gap_sd.seeds == known.effect.seeds == 3


def test_values_that_are_missing_or_no_numbers_tell_nothing() -> None:
    class Empty(Made):
        def measurements(self, key: str) -> Mapping[str, float | None]:
            return {} if int(key, 16) % 2 else {"asr": None, "mean_score": float("nan")}

    past = [Empty("before", planned())]
    assert expectations(planned(), AUDITS, past) == expectations(planned(), AUDITS)


def test_a_plan_from_elsewhere_that_lacks_stages_is_passed_over() -> None:
    whole = planned()
    for kind in ("audit", "split", "train", "craft"):
        stages = {key: stage for key, stage in whole.stages.items() if stage.kind != kind}
        past = [Made("strange", Plan(stages, whole.cells))]
        assert expectations(planned(), AUDITS, past)


def test_json_has_it_all() -> None:
    import json

    for one in expectations(planned(), AUDITS, [Made("before", planned())]):
        told = json.loads(json.dumps(one.to_json(), allow_nan=False))
        assert set(told["truths"]) == {"nothing left", "half left", "all left"}
        for truth in told["truths"].values():
            assert sum(truth["words"].values()) == pytest.approx(1)
        assert told["inputs"]["margin"] == one.outlook.margin
        assert told["stored"]["effect"]["runs"] == ["before"]
