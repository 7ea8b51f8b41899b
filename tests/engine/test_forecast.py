"""How far a run is, and for how long, by planned compute: recorded events, and the test's own clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from engine.jobs.events import STARTING
from engine.jobs.follow import Progress
from engine.jobs.forecast import PASS, SAMPLE, Forecast
from engine.spec.planned import Stage


def stage(key: str, kind: str, tee: float = 0.0, audit: str = "") -> Stage:
    config: dict[str, Any] = {"audit": {"name": audit}} if audit else {}
    return Stage(key, kind, f"{kind} {key}", config, {}, (), tee)


def plan(*stages: Stage) -> dict[str, Stage]:
    return {one.key: one for one in stages}


class Recorder:
    """Events as a supervisor writes them; time passes as `wait` says, and not otherwise."""

    def __init__(self, progress: Progress, stages: dict[str, Stage]) -> None:
        self.progress, self.stages, self.now = progress, stages, 1e9

    def tell(self, kind: str, /, stage: str = "", **data: Any) -> None:
        event = {"v": 1, "seq": 0, "t": self.now, "stage": stage, "attempt": 1, "kind": kind}
        self.progress.take(event | {"data": data})

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def begin(self, key: str, slot: str = "cpu:0") -> None:
        one = self.stages[key]
        self.tell("start", key=key, attempt=1, title=one.title, kind=one.kind, slot=slot)

    def end(self, key: str, seconds: float, outcome: str = "done") -> None:
        self.tell("end", key=key, outcome=outcome, seconds=seconds, reason="")

    def compute(self, key: str, seconds: float) -> None:
        self.begin(key)
        self.wait(seconds)
        self.end(key, seconds)


def quickstart() -> dict[str, Stage]:
    """286 stages, 320 TEE: of the first 32, 15 trainings of 20 TEE and an unlearning of 10."""
    first = [stage(f"t{n}", "train", 20.0) for n in range(15)]
    first += [stage("u", "unlearn", 10.0), *(stage(f"c{n}", "craft") for n in range(16))]
    unlearned = [stage(f"v{n}", "unlearn", 10 / 74) for n in range(74)]
    audits = [stage(f"a{n}", "audit", 0.0, ("accuracy", "gaussian")[n % 2]) for n in range(180)]
    return plan(*first, *unlearned, *audits)


def test_a_bar_goes_by_compute_not_by_the_number_of_stages() -> None:
    stages = quickstart()
    assert len(stages) == 286 and sum(s.tee for s in stages.values()) == pytest.approx(320)
    progress = Progress(stages)
    told = Recorder(progress, stages)
    told.tell("start", slots=1)
    assert progress.share == 0.0
    for key in list(stages)[:32]:
        told.compute(key, 30.0 * stages[key].tee or 0.4)
    assert len(progress.done) == 32
    assert 0.93 < progress.share < 0.98  # 310 of 320 TEE; audits at a forward pass each
    for key in ("a0", "a1"):
        told.compute(key, 0.1)
    assert progress.share == pytest.approx(0.97, abs=0.01)  # now by what audits take
    assert progress.seconds_left() == pytest.approx(10 * 30 + 178 * 0.1, rel=0.01)


def test_audits_that_are_dear_weigh_what_they_take() -> None:
    """Of its own name: a likelihood-ratio attack says nothing about accuracy."""
    names = ("accuracy", "mia-lira")
    audits = [stage(f"{name}{n}", "audit", 0.0, name) for name in names for n in range(4)]
    stages = plan(stage("t", "train", 10.0), *audits)
    progress = Progress(stages)
    told = Recorder(progress, stages)
    told.tell("start", slots=1)
    told.compute("t", 100.0)
    told.compute("accuracy0", 1.0)
    told.compute("mia-lira0", 99.0)
    assert progress.seconds_left() == pytest.approx(3 * 1.0 + 3 * 99.0)
    assert progress.share == pytest.approx(200 / 500)


def test_time_left_agrees_with_a_clock() -> None:
    """A whole run with one slot: from the first training on, done and left fit what time it is."""
    stages = quickstart()
    took = {
        key: 0.3 * one.tee or (0.2 if one.kind == "craft" else 0.25) for key, one in stages.items()
    }
    whole = sum(took.values())
    progress = Progress(stages)
    told = Recorder(progress, stages)
    told.tell("start", slots=1)
    began = told.now
    order = sorted(
        stages, key=lambda key: (stages[key].kind != "craft", random.Random(key).random())
    )
    for number, key in enumerate(order):
        told.compute(key, took[key])
        if number > 40:
            went = told.now - began
            assert progress.share == pytest.approx(went / whole, abs=0.01)
            assert progress.seconds_left() == pytest.approx(whole - went, abs=0.02 * whole)
    assert progress.share == 1.0 and progress.seconds_left() == 0.0


def test_a_stage_under_way_counts_by_its_own_share() -> None:
    stages = plan(stage("t", "train", 30.0), stage("u", "unlearn", 10.0))
    progress = Progress(stages)
    told = Recorder(progress, stages)
    told.tell("start", slots=2)
    told.begin("t")
    told.tell("progress", "t", done=-5, total=3)
    assert progress.share == 0.0
    told.tell("progress", "t", done=1, total=3)
    assert progress.share == pytest.approx(0.25)
    told.end("t", 60.0)
    assert progress.share == pytest.approx(0.75)
    assert progress.seconds_left() == pytest.approx(20.0)  # one stage cannot use two slots


def test_what_the_store_recorded_is_asked_of_a_few() -> None:
    stages = quickstart()
    asked: list[str] = []

    def took(key: str) -> float | None:
        asked.append(key)
        return 2.0 * stages[key].tee or 5.0

    forecast = Forecast(stages)
    done = [key for key in stages if key.startswith(("t", "a"))][:100]
    forecast.recall(done, took)
    assert len(asked) == 3 * SAMPLE  # trainings, and two audits
    for key in done:
        forecast.settle(key)
    rest = 20 * 2.0 + 95 * 5.0 + 16 * 5.0
    assert forecast.seconds({}) == pytest.approx(rest)
    forecast.learn("v0", 1.0)  # what this run sees itself counts for more
    assert forecast.seconds({}) == pytest.approx(rest - 20 + (10 - 10 / 74) * 7.4 + 74.0, rel=0.1)


def test_before_anything_is_known_an_audit_is_a_forward_pass() -> None:
    forecast = Forecast(plan(stage("t", "train", 1.0), stage("a", "audit", 0.0, "accuracy")))
    assert forecast.seconds({}) is None
    forecast.settle("t")
    assert forecast.share({}) == pytest.approx(1 / (1 + PASS))
    assert Forecast({}).share({}) == 0.0


def test_what_slots_do_is_said_from_the_first_second() -> None:
    stages = plan(*(stage(f"t{n}", "train", 1.0) for n in range(3)), stage("a", "audit"))
    progress = Progress(stages)
    told = Recorder(progress, stages)
    starting = [("", "starting workers")]
    assert progress.idle() == starting  # the supervisor itself is only starting
    told.tell("start", slots=2)
    assert progress.idle() == starting
    told.tell("warning", text="waiting for a device: cuda:0 is taken")
    assert progress.idle() == [("", "waiting for a device: cuda:0 is taken")]
    told.tell("phase", name=STARTING, slot="cuda:0")
    told.tell("phase", name=STARTING, slot="cuda:1")
    assert progress.idle() == [("cuda:0", STARTING), ("cuda:1", STARTING)]
    told.begin("t0", "cuda:0")
    assert progress.idle() == [("cuda:1", STARTING)]
    told.begin("t1", "cuda:1")
    assert progress.idle() == []
    told.end("t1", 1.0)
    assert progress.idle() == [("", "waiting for train t0")]
    told.tell("phase", name="waiting for train t2: another run computes it")
    assert progress.idle() == [("", "waiting for train t2: another run computes it")]
    told.begin("t2", "cuda:1")
    told.tell("phase", name="pausing")
    told.end("t0", 1.0)
    assert progress.idle() == [("", "pausing")]
    told.end("t2", 1.0, "stopped")
    told.tell("stopped", outcome="paused")
    assert progress.idle() == starting  # resumed: nothing else is known until the session tells
    told.tell("start", slots=2)
    assert progress.idle() == starting and not progress.active
    for key in ("t2", "a"):
        told.compute(key, 1.0)
    assert progress.idle() == []


def test_a_bar_does_not_go_back_when_audits_turn_out_dear() -> None:
    names = ("accuracy", "gaussian")
    audits = [stage(f"{name}{n}", "audit", 0.0, name) for n in range(4) for name in names]
    stages = plan(stage("t", "train", 10.0), *audits)
    progress = Progress(stages)
    told = Recorder(progress, stages)
    told.tell("start", slots=1)
    shares = []
    for key in stages:
        told.compute(key, 100.0 if key == "gaussian0" else 1.0)
        shares.append(progress.share)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert progress.seconds_left() == 0.0
    told.tell("start", slots=1)  # a session that begins anew is measured anew
    assert progress.share == 1.0
