"""Pins: a plan says which versions its keys were made of, and nothing about its keys changes by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from engine.lab.audits.gaussian import Gaussian
from engine.lab.methods.gd import GD
from engine.spec import pins as pins_module
from engine.spec import plan as plan_module
from engine.spec import presets
from engine.spec.keys import package_version
from engine.spec.pins import differences, in_words, pinned_here
from engine.spec.plan import HEAVY, make_plan
from engine.spec.planned import Plan

Raw = dict[str, Any]


def planned(raw: Raw) -> Plan:
    return make_plan(presets.validate(raw, "test"), "cpu")


def with_pin(plan: Plan, pin: str) -> set[str]:
    return {stage.title for stage in plan.stages.values() if pin in stage.pins}


def test_every_stage_says_what_entered_its_key(raw: Raw) -> None:
    plan = planned(raw)
    torch = package_version("torch")
    for stage in plan.stages.values():
        heavy = {"package torch": torch, "device": "cpu", "threads": 1}
        assert (heavy.items() <= stage.pins.items()) == (stage.kind in HEAVY)
        assert stage.pins[f"stage {stage.kind}"] == plan_module.STAGE_VERSIONS[stage.kind]
    [gd] = {s.pins["method gd"] for s in plan.stages.values() if "method gd" in s.pins}
    assert gd == GD.version
    data = next(stage for stage in plan.stages.values() if stage.kind == "data")
    assert data.pins["package mlxtend"] == package_version("mlxtend")


@pytest.mark.parametrize("name", ["torch", "mlxtend", "pillow"])
def test_whatever_version_moves_a_key_is_pinned(
    raw: Raw, name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the versions that only some configs name: of what resizes digits, of what reads the
    image of a trigger."""
    Image.new("L", (4, 4), 255).save(tmp_path / "patch.png")
    raw["data"] = {"name": "mnist5k", "size": 12}
    raw["attacks"] = [{"name": "badnets", "size": 3, "image": str(tmp_path / "patch.png")},
                      {"name": "blended", "image": str(tmp_path / "patch.png")}]  # fmt: skip
    raw["audits"] = [{"name": "accuracy"}]
    before = planned(raw)

    def other(word: str) -> str:
        return "99.0" if word == name else package_version(word)

    for module in ("engine.spec.plan", "engine.lab.data.mnist5k", "engine.lab.attacks._trigger"):
        monkeypatch.setattr(f"{module}.package_version", other)
    after = {stage.title: stage for stage in planned(raw).stages.values()}
    own = {s.title for s in before.stages.values() if s.pins != after[s.title].pins}
    assert own == with_pin(before, f"package {name}")
    # Below a stage that has moved all do, so the first that move are those to look at.
    moved = {s.title for s in before.stages.values() if s.key != after[s.title].key}
    first = {
        s.title
        for s in before.stages.values()
        if s.title in moved and not moved & {before.stages[key].title for key in s.inputs.values()}
    }
    assert first
    assert first <= own <= moved


def test_the_audit_that_judges_trials_is_pinned_in_them(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw |= {"tune": {"objective": "oracle", "trials": 2, "methods": ["gd"]}}
    raw["audits"] = [{"name": "gaussian"}]
    trials = {"audit gaussian"} & set().union(
        *(s.pins for s in planned(raw).stages.values() if s.kind == "trial")
    )
    assert trials == {"audit gaussian"}


def test_pins_stay_out_of_stages_on_disk_and_come_back(raw: Raw) -> None:
    plan = planned(raw)
    told = json.loads(json.dumps(plan.to_json()))
    assert not any("pins" in stage for stage in told["stages"])  # chelates of before read these
    again = Plan.from_json(told)
    assert {key: stage.pins for key, stage in again.stages.items()} == {
        key: stage.pins for key, stage in plan.stages.items()
    }
    key = next(iter(plan.stages))
    for nonsense in (None, [], {key: []}, {key: {"package torch": ["2"]}}, {key: {"x": None}}):
        assert Plan.from_json(told | {"pins": nonsense}).stages[key].pins == {}


def test_differences_tell_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gaussian, "version", 7)
    monkeypatch.setitem(pins_module.STAGE_VERSIONS, "audit", 9)
    planned_with = {
        "stage audit": 1, "audit gaussian": 2, "package torch": "2.4.0", "package none-such": "1.0",
        "method none-such": 1, "colour of later": 1, "threads": 2,
    }  # fmt: skip
    here = {"threads": 1, "package torch": "2.5.0"}
    found = differences(planned_with, lambda pin: here.get(pin) or pinned_here(pin))
    before, now = in_words(found)
    assert before == (
        "stage audit version 1, audit gaussian version 2, torch 2.4.0, none-such 1.0, "
        "method none-such version 1, colour of later version 1, threads 2"
    )
    assert now == (
        "stage audit version 9, audit gaussian version 7, torch 2.5.0, none-such absent, "
        "method none-such version absent, colour of later version absent, threads 1"
    )
    assert differences({"package torch": package_version("torch")}, pinned_here) == {}
