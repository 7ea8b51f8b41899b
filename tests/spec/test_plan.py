"""The plan: what is shared, what a key depends on, and in which order stages come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.methods.gd import GD
from engine.spec import plan as plan_module
from engine.spec import presets
from engine.spec.errors import BadInput
from engine.spec.keys import canonical, digest
from engine.spec.plan import HEAVY, make_plan
from engine.spec.planned import Cell, Plan, Stage

Raw = dict[str, Any]
HEAVY_HERE = set(HEAVY) - {"trial"}  # nothing is tuned in these plans


def planned(raw: Raw, device: str = "cpu") -> Plan:
    return make_plan(presets.validate(raw, "test"), device)


def kinds(plan: Plan) -> Counter[str]:
    return Counter(stage.kind for stage in plan.stages.values())


def by_title(plan: Plan) -> dict[str, str]:
    """Title → key; every title of these plans is unique."""
    found = {stage.title: key for key, stage in plan.stages.items()}
    assert len(found) == len(plan.stages)
    return found


def row(cell: Cell) -> tuple[Any, ...]:
    return (
        cell.setting, cell.attack, cell.method, cell.variant, cell.budget, cell.seed, cell.audit,
    )  # fmt: skip


def test_the_same_preset_gives_the_same_keys(raw: Raw) -> None:
    first, second = planned(raw), planned(raw)
    assert first == second
    assert list(first.stages) == list(second.stages)
    assert all(len(key) == 64 and key == stage.key for key, stage in first.stages.items())


def test_spelling_a_default_out_changes_no_key(raw: Raw) -> None:
    full = presets.to_data(presets.validate(raw, "test"), full=True)
    assert planned(full).stages.keys() == planned(raw).stages.keys()
    assert planned(raw | {"title": "other words"}).stages.keys() == planned(raw).stages.keys()
    raw["methods"][3]["label"] = "mine"
    assert planned(raw).stages.keys() == planned(full).stages.keys()


def test_every_measurement_has_a_cell(raw: Raw) -> None:
    plan = planned(raw)
    rows = [row(cell) for cell in plan.cells]
    assert len(set(rows)) == len(rows)
    models = [("none", None), ("retrain", None), ("retrain-fresh", None), ("gd", 0.25), ("gd", 0.5)]
    assert set(rows) == {
        ("", "gaussian", method, "", budget, seed, audit)
        for method, budget in models
        for seed in (0, 1)
        for audit in ("accuracy", "gaussian")
    }
    for cell in plan.cells:
        assert plan.stages[cell.key].kind == "audit"
        assert {plan.stages[key].kind for key in cell.cost_keys} <= {"train", "unlearn"}


def test_methods_share_one_training_and_attacks_on_the_same_rows_one_retraining(raw: Raw) -> None:
    raw["methods"].append({"name": "ngd", "grid": {"lr": [0.01, 0.1]}})
    raw["attacks"] = [{"name": "gaussian", "grid": {"noise_std": [0.2, 0.3]}}]
    found = kinds(planned(raw))
    assert found["data"] == 1
    assert (found["split"], found["select"], found["craft"]) == (2, 2, 4)
    assert found["train"] == 2 * (2 + 1 + 1)  # a poisoned one an attack; both retrainings once
    assert found["unlearn"] == 2 * 2 * 3 * 2  # seeds, attacks, variants, budgets
    assert found["audit"] == 2 * 2 * 2 * (1 + 2 + 3 * 2)

    raw["attacks"] = [{"name": "gaussian", "grid": {"share": [0.1, 0.2]}}]
    found = kinds(planned(raw))
    assert found["select"] == 4
    assert found["train"] == 2 * (2 + 2 + 2)  # other rows are left out


def test_variants_have_keys_of_their_own(raw: Raw) -> None:
    raw["methods"][3]["grid"] = {"lr": [0.1, 0.2], "momentum": [0.0, 0.5]}
    plan = planned(raw)
    cells = [c for c in plan.cells if c.method == "gd" and c.audit == "gaussian" and c.seed == 0]
    assert {c.variant for c in cells} == {
        f"lr={lr},momentum={momentum}" for lr in (0.1, 0.2) for momentum in (0.0, 0.5)
    }
    assert len({c.key for c in cells}) == len(cells) == 4 * 2
    by_title(plan)


def test_settings_have_keys_of_their_own_and_share_what_they_can(raw: Raw) -> None:
    raw["grid"] = {"train.lr": [0.1, 0.2]}
    plan = planned(raw)
    one, two = (
        {c.key for c in plan.cells if c.setting == f"train.lr={lr}"} for lr in (0.1, 0.2)
    )  # fmt: skip
    assert len(one) == len(two) == 20
    assert not one & two
    assert (kinds(plan)["data"], kinds(plan)["split"], kinds(plan)["craft"]) == (1, 2, 2)
    alone = planned(
        {k: v for k, v in raw.items() if k != "grid"} | {"train": raw["train"] | {"lr": 0.1}}
    )
    assert {c.key for c in alone.cells} == one


# --- what leaves other keys alone ----------------------------------------------------------------


def add_method(raw: Raw) -> None:
    raw["methods"].insert(0, {"name": "ngd"})


def add_variant(raw: Raw) -> None:
    raw["methods"].append({"name": "gd", "label": "slow", "lr": 0.001})


def add_seed(raw: Raw) -> None:
    raw["seeds"] = [5, *raw["seeds"]]


def add_small_budget(raw: Raw) -> None:
    raw["budgets"] = [0.1, *raw["budgets"]]


def add_large_budget(raw: Raw) -> None:
    raw["budgets"] = [*raw["budgets"], 0.75]


def add_attack(raw: Raw) -> None:
    raw["attacks"].append({"name": "gaussian", "label": "faint", "noise_std": 0.01})


@pytest.mark.parametrize(
    ("add", "new"),
    [
        (add_method, {"unlearn": 4, "audit": 8}),
        (add_variant, {"unlearn": 4, "audit": 8}),
        (add_seed, {"split": 1, "select": 1, "craft": 1, "train": 3, "unlearn": 2, "audit": 10}),
        (add_small_budget, {"unlearn": 2, "audit": 4}),
        (add_large_budget, {"unlearn": 2, "audit": 4}),
        (add_attack, {"craft": 2, "train": 2, "unlearn": 4, "audit": 20}),
    ],
)
def test_adding_leaves_all_other_keys_alone(
    raw: Raw, add: Callable[[Raw], None], new: dict[str, int]
) -> None:
    before = planned(raw)
    add(raw)
    after = planned(raw)
    assert before.stages.keys() <= after.stages.keys()
    added = [after.stages[key] for key in after.stages.keys() - before.stages.keys()]
    assert Counter(stage.kind for stage in added) == new
    old = {row(cell): cell.key for cell in before.cells}
    assert old.items() <= {row(cell): cell.key for cell in after.cells}.items()


def test_budgets_are_stops_of_one_trajectory(raw: Raw) -> None:
    raw["budgets"] = [0.1, 0.2, 0.4]
    plan = planned(raw)
    stops = [s for s in plan.stages.values() if s.kind == "unlearn" and s.title.endswith("s0")]
    assert [stop.config["budget_tee"] for stop in stops] == pytest.approx([0.2, 0.4, 0.8])
    assert [stop.after for stop in stops] == [(), (stops[0].key,), (stops[1].key,)]
    assert sum(stop.tee for stop in stops) == pytest.approx(0.8)  # not .2 + .4 + .8
    assert len({json.dumps(stop.inputs, sort_keys=True) for stop in stops}) == 1
    last = next(c for c in plan.cells if c.budget == 0.4 and c.seed == 0)
    assert last.cost_keys == (stops[-1].key,)  # whose record holds the whole way's cost


# --- what a key depends on -----------------------------------------------------------------------


def changed_kinds(before: Plan, after: Plan) -> set[str]:
    """Kinds of which every stage has another key now; the other kinds must have kept theirs."""
    old, new = by_title(before), by_title(after)
    assert old.keys() == new.keys()
    moved = {before.stages[old[title]].kind for title in old if old[title] != new[title]}
    kept = {before.stages[old[title]].kind for title in old if old[title] == new[title]}
    assert not moved & kept, "a kind changed in part"
    return moved


def test_the_device_kind_is_part_of_heavy_keys_only(raw: Raw) -> None:
    assert changed_kinds(planned(raw), planned(raw, "cuda")) == HEAVY_HERE


def test_threads_are_part_of_heavy_keys_only(raw: Raw) -> None:
    wider = raw | {"compute": {"threads": 2}}
    assert changed_kinds(planned(raw), planned(wider)) == HEAVY_HERE
    more = raw | {"compute": {"workers": 2, "device": "cpu"}}
    assert changed_kinds(planned(raw), planned(more)) == set()


def test_the_version_of_torch_is_part_of_heavy_keys_only(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(raw)
    real = plan_module.package_version
    monkeypatch.setattr(
        plan_module, "package_version", lambda name: "99.0" if name == "torch" else real(name)
    )
    assert changed_kinds(before, planned(raw)) == HEAVY_HERE


def test_a_components_version_moves_its_stages_and_those_below(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(raw)
    monkeypatch.setattr(GD, "version", 2)
    old, new = by_title(before), by_title(planned(raw))
    moved = {title for title in old if old[title] != new[title]}
    assert moved == {title for title in old if "/gd" in title}


def test_the_recipe_moves_training_and_what_comes_after(raw: Raw) -> None:
    other = raw | {"train": {"epochs": 3}}
    assert changed_kinds(planned(raw), planned(other)) == {"train", "unlearn", "audit"}
    other = raw | {"validation": 0.2}
    assert changed_kinds(planned(raw), planned(other)) == set(kinds(planned(raw))) - {"data"}


def pictures(root: Path) -> Path:
    """A folder of twelve small images in two classes."""
    from PIL import Image

    noise = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for label in ("cat", "dog"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_a_data_sets_path_is_no_part_of_a_key_but_its_content_is(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here, there = pictures(tmp_path / "here"), pictures(tmp_path / "there")
    raw["attacks"] = [{"name": "gaussian", "share": 0.3}]
    plans = [
        planned(raw | {"data": {"name": "image-folder", "path": str(path)}})
        for path in (here, there)
    ]
    assert plans[0].stages.keys() == plans[1].stages.keys()
    assert str(here) in canonical([s.config for s in plans[0].stages.values()])

    first = there / "train" / "cat" / "0.png"
    first.write_bytes((there / "train" / "cat" / "1.png").read_bytes())
    changed = planned(raw | {"data": {"name": "image-folder", "path": str(there)}})
    assert not changed.stages.keys() & plans[0].stages.keys()


# --- order, JSON, refusals -----------------------------------------------------------------------


def crowded(raw: Raw) -> Raw:
    raw["attacks"] = [{"name": "gaussian", "grid": {"share": [0.05, 0.1], "noise_std": [0.1, 0.2]}}]
    raw["methods"].append({"name": "ngd", "grid": {"lr": [0.01, 0.1]}})
    raw["grid"] = {"train.lr": [0.1, 0.2], "model.width": [8, 16]}
    return raw


def test_what_a_stage_needs_stands_before_it(raw: Raw) -> None:
    seen: set[str] = set()
    for stage in planned(crowded(raw)).stages.values():
        assert {*stage.inputs.values(), *stage.after} <= seen, stage.title
        seen.add(stage.key)


def test_a_plan_survives_json(raw: Raw) -> None:
    plan = planned(crowded(raw))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert list(again.stages) == list(plan.stages)
    assert again.cells == plan.cells
    assert again.tee == plan.tee
    for key, stage in plan.stages.items():
        found = again.stages[key]
        assert isinstance(found, Stage)
        assert (found.kind, found.title, found.inputs, found.after, found.tee) == (
            stage.kind, stage.title, stage.inputs, stage.after, stage.tee,
        )  # fmt: skip
        assert canonical(found.config) == canonical(stage.config)


def test_costs_are_in_epochs_of_the_training(raw: Raw) -> None:
    plan = planned(raw)
    costs = {stage.title: stage.tee for stage in plan.stages.values()}
    assert costs["train gaussian s0"] == 2
    left = 1 - 14 / 270  # .05 of 270 rows, rounded
    assert costs["retrain s0"] == pytest.approx(2 * left)
    assert costs["unlearn gaussian/gd 0.25 s0"] == pytest.approx(0.5)
    assert plan.tee == pytest.approx(2 * (2 + 4 * left + 1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attacks": [{"name": "gaussian", "share": 0.0001}]}, "poisons none of 270"),
        ({"attacks": [{"name": "gaussian", "share": 0.9999}]}, "no row to retain"),
        ({"validation": 0.9999}, "leaves no training rows"),
    ],
)
def test_what_cannot_work_is_refused(raw: Raw, change: Raw, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        planned(raw | change)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical({"b": 1, "a": [1.0, "é"]}) == '{"a":[1.0,"é"],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
