"""What audits read beside the model: planned when asked for, and no other key is touched."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.lab.audits.accuracy import Accuracy
from engine.spec import presets
from engine.spec.errors import BadInput
from engine.spec.plan import Cell, Plan, make_plan

Raw = dict[str, Any]


def planned(raw: Raw) -> Plan:
    return make_plan(presets.validate(raw, "test"), "cpu")


def reading(monkeypatch: pytest.MonkeyPatch, *roles: str, shadows: int = 4) -> None:
    """Let the accuracy audit read more than it does."""
    monkeypatch.setattr(Accuracy, "reads", frozenset(roles))
    monkeypatch.setattr(Accuracy, "shadow_models", lambda self: (shadows, 1.0))


def kinds(plan: Plan) -> Counter[str]:
    return Counter(stage.kind for stage in plan.stages.values())


def accuracy_cells(plan: Plan, **wanted: Any) -> list[Cell]:
    return [
        cell
        for cell in plan.cells
        if cell.audit == "accuracy" and all(getattr(cell, k) == v for k, v in wanted.items())
    ]


def inputs(plan: Plan, cell: Cell) -> dict[str, str]:
    return plan.stages[cell.key].inputs


ALL = ("start", "retrain", "control", "decoys", "shadows")


@pytest.mark.parametrize("role", [*ALL, "unlearned-shadows"])
def test_only_the_audit_that_reads_more_gets_another_key(
    raw: Raw, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    before = planned(raw)
    reading(monkeypatch, role)
    after = planned(raw)
    gone = [before.stages[key] for key in before.stages.keys() - after.stages.keys()]
    assert all(s.kind == "audit" and s.config["audit"]["name"] == "accuracy" for s in gone)
    others = {c.key for c in before.cells if c.audit == "gaussian"}
    assert others == {c.key for c in after.cells if c.audit == "gaussian"}


def test_every_input_is_a_stage_that_stands_before(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, *ALL, "unlearned-shadows")
    seen: set[str] = set()
    plan = planned(raw)
    for stage in plan.stages.values():
        assert {*stage.inputs.values(), *stage.after} <= seen, stage.title
        seen.add(stage.key)
    assert len({stage.title for stage in plan.stages.values()}) == len(plan.stages)


def test_the_retraining_is_the_listed_one_or_planned_for_the_audit(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, "retrain")
    listed = planned(raw)
    (retrained,) = accuracy_cells(listed, method="retrain", seed=0)
    key = inputs(listed, retrained)["model"]
    raw["methods"] = [{"name": "none"}, {"name": "gd"}]
    unlisted = planned(raw)
    for cell in accuracy_cells(unlisted, seed=0):
        assert inputs(unlisted, cell)["retrain"] == key
    assert kinds(unlisted)["train"] == 4  # of two seeds, two each


def test_the_start_is_the_model_methods_start_from(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, "start")
    plan = planned(raw)
    for seed in (0, 1):
        (none,) = accuracy_cells(plan, method="none", seed=seed)
        start = inputs(plan, none)["model"]
        assert {inputs(plan, c)["start"] for c in accuracy_cells(plan, seed=seed)} == {start}


def test_the_control_leaves_out_as_many_other_rows(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, "control")
    plan = planned(raw)
    (cell, *_) = accuracy_cells(plan, seed=0)
    control = plan.stages[inputs(plan, cell)["control"]]
    (none,) = accuracy_cells(plan, method="none", seed=0)
    trained = plan.stages[inputs(plan, none)["model"]]
    assert control.inputs.keys() == trained.inputs.keys() | {"exclude"}
    assert control.tee == pytest.approx(trained.tee * (1 - 14 / 270))
    assert plan.stages[control.inputs["exclude"]].config["rule"]["control"] is True
    raw["attacks"] = [{"name": "gaussian", "share": 0.6}]
    with pytest.raises(BadInput, match="as many clean"):
        planned(raw)


def test_shadows_are_shared_by_all_methods(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, "shadows")
    plan = planned(raw)
    assert kinds(plan)["train"] == 2 * (3 + 4)
    for seed in (0, 1):
        found = [
            tuple(key for role, key in inputs(plan, c).items() if role.startswith("shadow"))
            for c in accuracy_cells(plan, seed=seed)
        ]
        assert len(set(found)) == 1 and len(set(found[0])) == 4
    reading(monkeypatch, "shadows", shadows=6)
    assert plan.stages.keys() - planned(raw).stages.keys() == {
        cell.key for cell in accuracy_cells(plan)
    }


def test_shadows_are_unlearned_like_the_model_under_audit(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading(monkeypatch, "unlearned-shadows")
    plan = planned(raw)
    assert kinds(plan)["unlearn"] == 2 * 2 * (1 + 4)
    for cell in accuracy_cells(plan):
        shadows = [plan.stages[k] for r, k in inputs(plan, cell).items() if r.startswith("shadow")]
        if cell.role != "unlearn":
            assert {stage.kind for stage in shadows} == {"train"}
            continue
        model = plan.stages[inputs(plan, cell)["model"]]
        for stage in shadows:
            assert stage.config["budget_tee"] == model.config["budget_tee"]
            assert stage.config["method"] == model.config["method"]
            assert plan.stages[stage.inputs["start"]].config["role"] == stage.config["role"]
            assert len(stage.after) == len(model.after)


def test_shadows_need_validation_rows(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, "shadows")
    with pytest.raises(BadInput, match="validation"):
        planned(raw | {"validation": 0.0})
