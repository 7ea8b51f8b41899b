"""Following a run: where it stands, and how long it will take, from its events alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.follow import Follower, Progress
from engine.jobs.forecast import PASS
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.spec.planned import Stage

STAGES = {
    key: Stage(key, kind, f"{kind} {key}", {}, {}, (), tee)
    for key, kind, tee in [
        ("s", "select", 0.0), ("t1", "train", 20.0), ("t2", "train", 10.0), ("u", "unlearn", 2.0),
        ("a1", "audit", 0.0), ("a2", "audit", 0.0),
    ]
}  # fmt: skip


def told(kind: str, /, t: float = 5.0, stage: str = "", **data: Any) -> dict[str, Any]:
    envelope = {"v": 1, "seq": 0, "t": t, "stage": stage, "attempt": 1}
    return envelope | {"kind": kind, "data": data}


def ended(key: str, seconds: float, outcome: str = "done") -> dict[str, Any]:
    return told("end", key=key, outcome=outcome, seconds=seconds, reason="why")


def test_time_left_is_what_stages_of_the_kind_took() -> None:
    progress = Progress(STAGES, ["s"])
    progress.take(told("start", slots=2))
    assert progress.seconds_left() is None
    progress.take(ended("t1", 40.0))  # 2 s a TEE; of audits nothing is known: a forward pass each
    assert progress.seconds_left() == pytest.approx((10 * 2 + 2 * 2 + 2 * 2 * PASS) / 2)
    progress.take(ended("a1", 3.0))
    assert progress.seconds_left() == pytest.approx((10 * 2 + 2 * 2 + 3) / 2)
    progress.take(told("start", key="t2", title="t2", kind="train", slot="cpu:0"))
    progress.take(told("progress", stage="t2", done=1, total=4))
    assert progress.seconds_left() == pytest.approx((7.5 * 2 + 2 * 2 + 3) / 2)
    progress.take(ended("t2", 1.0, "failed"))
    progress.take(ended("a2", 0.0, "stopped"))
    assert progress.failed == {"t2": "why"}
    assert progress.seconds_left() == pytest.approx((2 * 2 + 3) / 2)
    for key in ("u", "a2"):
        progress.take(ended(key, 1.0))
        progress.take(ended(key, 1.0))  # twice: no harm
    assert progress.seconds_left() == 0.0
    assert progress.done == {"s", "t1", "a1", "u", "a2"}


def test_a_new_session_tries_what_failed_and_forgets_what_was_open() -> None:
    progress = Progress(STAGES)
    progress.take(told("start", slots=1))
    progress.take(ended("t1", 20.0))
    progress.take(ended("t2", 1.0, "failed"))
    progress.take(told("start", key="u", title="u", kind="unlearn", slot="cpu:0"))
    before = progress.seconds_left()
    progress.take(told("start", slots=1))
    assert not progress.failed
    assert not progress.active
    rest = 3 * PASS  # of a second: the selection and two audits
    assert before == pytest.approx(2.0 + rest)
    assert progress.seconds_left() == pytest.approx(12.0 + rest)


def test_whatever_a_later_version_says_does_no_harm() -> None:
    chance = random.Random(0)
    odd: list[Any] = [None, "x", [], {}, -1, 1e400, True, float("nan"), "t1", 3]
    progress = Progress(STAGES)
    for _ in range(3000):
        names = ("key", "slots", "seconds", "outcome", "done", "total", "value", "name", "title")
        data = {name: chance.choice(odd) for name in chance.sample(names, 4)}
        kind = chance.choice(["start", "end", "progress", "metric", "probe", "warning", "aura"])
        event = told(kind, chance.choice([0, 1e300]), chance.choice(["", "t1", "?"]))
        progress.take(event | {"data": data})
        left = progress.seconds_left()
        assert left is None or left >= 0


def write(path: Path, *events: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


FIRST, SECOND = "1" * 64, "2" * 64


def test_of_the_past_a_late_follower_reads_what_the_supervisor_said(tmp_path: Path) -> None:
    run = Run(Home(tmp_path), "toy")
    begin = [told("start", key=key, attempt=1) for key in (FIRST, SECOND)]
    write(run.events, told("start"), *begin, ended(FIRST, 1.0))
    for key in (FIRST, SECOND):
        write(run.folder / f"attempts/{key[:16]}.1/events.jsonl", told("phase", stage=key))
    follower = Follower(run)
    assert [(e["kind"], e["stage"]) for e in follower.poll()] == [
        ("start", ""), ("start", ""), ("start", ""), ("end", ""), ("phase", SECOND),
    ]  # fmt: skip
    write(run.folder / f"attempts/{SECOND[:16]}.1/events.jsonl", told("metric", stage=SECOND))
    write(run.events, ended(SECOND, 1.0))
    assert [e["kind"] for e in follower.poll()] == ["metric", "end"]
    assert follower.poll() == []


@pytest.mark.parametrize(
    ("key", "attempt"), [(FIRST, "1/../../../elsewhere"), ("../../elsewhere", 1)]
)
def test_an_attempt_that_climbs_is_not_followed(tmp_path: Path, key: str, attempt: object) -> None:
    run = Run(Home(tmp_path), "toy")
    (run.folder / "attempts" / f"{FIRST[:16]}.1").mkdir(parents=True)
    write(run.events, told("start", key=key, attempt=attempt))
    climbed = (run.folder / "attempts" / f"{key[:16]}.{attempt}").resolve()
    write(climbed / "events.jsonl", told("phase", name="somebody's own"))
    assert [e["kind"] for e in Follower(run).poll()] == ["start"]
