"""What verdicts to expect, in words, and the runs of a home that are asked for their spreads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from staged import PRESET, Staged, staged

from console.expecting import NEWEST, SHOWN, LikeRuns, expected, power_lines, summary_line
from console.planning import expand
from engine.jobs.home import Home
from engine.jobs.store import Store
from engine.results.expectations import Expectation
from engine.results.like_runs import Measured
from engine.results.power import Outlook
from engine.spec.planned import Plan
from engine.spec.presets import validate

SURE = Outlook("retrain", 0.05, 0.5, 0.005, 0.01, 0.003, tests=10, models=9, fresh=True)
ONE = Expectation((("", "badnets", "attack-success"),), "asr", 3, SURE)
NOTHING = replace(ONE, outlook=replace(SURE, effect=0.001))
OF_ACCURACY = replace(ONE, places=(("", "badnets", "accuracy"),))


@pytest.fixture
def there(tmp_path: Path) -> Staged:
    return staged(tmp_path)


def plan(**changes: object) -> Plan:
    return expand(validate(PRESET | changes, "staged"), "staged", Path("staged.toml"), "cpu").plan


# --- words ---------------------------------------------------------------------------------------


def test_three_truths_and_the_seeds_each_needs() -> None:
    text = "\n".join(power_lines([ONE]))
    assert "badnets by attack-success: 3 seeds, 10 rows tested" in text
    assert "nothing left → removed 100 %; 80 % from 3 seeds" in text
    assert "half left    → residue 100 %; 80 % from 3 seeds" in text
    # Of Hommel's correction only a bound is known, where it matters.
    weak = replace(ONE, outlook=replace(SURE, effect=0.1, gap_sd=0.04, none_sd=0.04))
    assert "half left    → inconclusive" in "\n".join(power_lines([replace(weak, seeds=2)]))
    assert "half left    → residue ≥ " in "\n".join(power_lines([weak]))
    assert "removed ≥" not in "\n".join(power_lines([weak]))
    assert summary_line([ONE]) == (
        "3 seeds: nothing left → removed 100 %, all left → residue 100 %; 80 % from 3 "
        "(attack-success)"
    )


def test_where_there_is_nothing_to_remove_one_line_says_it() -> None:
    text = "\n".join(power_lines([NOTHING]))
    assert "whatever is left → nothing to remove ≥ 9" in text
    assert "half left" not in text
    assert "80 %" not in summary_line([NOTHING])
    # New tells of a family that judges somebody.
    assert summary_line([NOTHING, ONE]) == summary_line([ONE])


def test_few_seeds_and_what_the_plan_lacks_are_said() -> None:
    few = replace(ONE, seeds=2)
    assert "2 seeds: every verdict but inconclusive needs 3" in "\n".join(power_lines([few]))
    assert "needs 3" in summary_line([few])
    bare = replace(ONE, outlook=replace(SURE, none=False))
    assert "no `none`: never removed" in "\n".join(power_lines([bare]))
    assert "never removed" in summary_line([bare])
    assert "not 80 % with 50 seeds" in "\n".join(power_lines([bare]))


def test_accuracy_is_told_where_it_is_the_point_or_was_seen() -> None:
    assert len(power_lines([ONE, OF_ACCURACY])) == len(power_lines([ONE]))
    assert "by accuracy" in "\n".join(power_lines([OF_ACCURACY]))
    seen = replace(OF_ACCURACY, stored={"effect": Measured(0.5, 3, ("r",))})
    assert "by accuracy" in "\n".join(power_lines([ONE, seen]))
    assert power_lines([]) == []
    assert summary_line([]) == ""


def test_lines_fit_and_are_not_too_many() -> None:
    names = ("a-run-with-quite-a-long-name-0123456789", "another-0123456789")
    unsure = replace(
        ONE,
        places=tuple((f"model.width={n}", "gradient-matching", "mia-ulira") for n in range(3)),
        outlook=replace(SURE, effect=0.06, gap_sd=0.03, none_sd=0.03, accuracy_sd=0.03, none=False),
        stored={"effect": Measured(0.06, 5, names), "gap_sd": Measured(0.03, 3, names)},
        assumed={"accuracy_sd": ""},
    )
    for one in (ONE, NOTHING, unsure, replace(unsure, seeds=1)):
        lines = "\n".join(power_lines([one])).splitlines()
        assert max(map(len, lines)) <= 80
    text = "\n".join(power_lines([unsure]))
    assert "3 settings" in text
    assert f"from 3 to 5 seeds of {names[0]} and 1 more" in text
    many = power_lines([replace(ONE, seeds=n) for n in range(3, 3 + SHOWN + 2)])
    assert many[-1] == "2 more: --json has all of them."


# --- like runs -----------------------------------------------------------------------------------


def test_a_finished_run_of_the_home_tells_its_spreads(there: Staged) -> None:
    for one in expected(plan(), LikeRuns(there.home)):
        assert one.stored["effect"].runs == (there.run.id,)
        assert not one.assumed
    for one in expected(plan(train={"epochs": 3}), LikeRuns(there.home)):
        assert not one.stored
    assert not list(LikeRuns(Home(there.home.root / "nowhere")).on(plan()))


def test_what_was_read_is_kept_and_what_comes_later_is_seen(
    there: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = LikeRuns(there.home)
    key = next(cell.key for cell in plan().cells if cell.role == "none")
    done = there.run.store.path(key)
    away = done.with_name("away")
    done.rename(away)
    before = expected(plan(), like)
    away.rename(done)
    after = expected(plan(), like)
    assert before != after == expected(plan(), LikeRuns(there.home))
    monkeypatch.setattr(Store, "open_verified", lambda *_: pytest.fail("read again"))
    assert expected(plan(), like) == after


def test_broken_runs_are_passed_over(there: Staged) -> None:
    whole = (there.run.folder / "plan.json").read_bytes()
    data = next(stage.key for stage in plan().stages.values() if stage.kind == "data")
    told = json.loads(whole)
    broken = [b"", b"[]", data.encode(), whole[: len(whole) // 2], b'{"stages": {}}' + data.encode(),
              json.dumps(told | {"stages": told["stages"][:5]}).encode(),
              json.dumps(told | {"cells": [{"key": data}]}).encode()]  # fmt: skip
    for number, content in enumerate(broken):
        folder = there.home.runs / f"broken-{number}"
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        (folder / "plan.json").write_bytes(content)
    for one in expected(plan(), LikeRuns(there.home)):
        assert one.stored["effect"].runs == (there.run.id,)


def test_measurements_that_are_no_numbers_are_passed_over(there: Staged) -> None:
    like = LikeRuns(there.home)
    [past] = like.on(plan())
    key = plan().cells[0].key
    (there.run.store.path(key) / "measurements.json").write_text('{"metrics": {"asr": 1}}')
    assert past.measurements(key) == {}, "not what its stage wrote"
    for told in ('{"metrics": []}', "[]", "no", '{"metrics": {"a": NaN, "b": "1", "c": 1e999}}'):
        past.run.store.open_verified = lambda *_, told=told: told.encode()  # type: ignore
        assert past.measurements(key) == {}
    past.run.store.open_verified = lambda *_: b'{"metrics": {"a": 1, "b": true}}'  # type: ignore
    assert past.measurements(key) == {"a": 1.0}


def test_only_the_newest_runs_are_looked_at(there: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(LikeRuns, "_has", lambda self, run, key: asked.append(run.id))
    for number in range(NEWEST + 5):
        folder = there.home.runs / f"more-{number:02}"
        folder.mkdir()
        (folder / "run.json").write_text("{}")
    assert not list(LikeRuns(there.home).on(plan()))
    assert len(asked) == NEWEST
