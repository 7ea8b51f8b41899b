"""Processes that are killed: at named points, at random ones, alone and together."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import objects, until
from nursery import Nursery
from trials import SMALL, Trial, create

from engine.jobs.crashpoints import POINTS, VARIABLE

Note = Callable[[str, object], None]
Undisturbed = Callable[[str], dict[str, dict[str, str]]]
SOURCES = Path(__file__).resolve().parents[2] / "engine"
OF_CHECKPOINTS = "checkpoint written"


def test_the_points_are_those_of_the_code() -> None:
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    assert sorted(re.findall(r'crash_here\("([^"]+)"\)', text)) == sorted(POINTS)


@pytest.mark.fault(
    "SIGKILL at a named point of worker, store or supervisor (between DONE.json and the rename too)",
    seen="warning: <stage>: the worker died (signal 9); trying again; or the run is lost: run again",
)
@pytest.mark.parametrize("point", [point for point in POINTS if point != OF_CHECKPOINTS])
def test_a_kill_at_a_named_point(
    trial: Trial, tmp_path: Path, point: str, record_property: Note
) -> None:
    trial.start(env={VARIABLE: f"{point}@{tmp_path / 'mark'}"})
    state = trial.await_end()
    assert (tmp_path / "mark").exists(), "nobody came there"
    if point in ("end heard", "last stage settled"):
        assert state == "lost"
    else:
        assert state == "done"
        # After the commit there is nothing to try again, and nothing to warn of.
        assert ("the worker died (signal 9)" in trial.said()) == (
            point in ("lease taken", "attempt begun", "artifacts written", "DONE written")
        )
    trial.complete()
    record_property("happened", f"at each of {len(POINTS)} points one process, once")


@pytest.mark.fault(
    "SIGKILL at a named point of worker, store or supervisor (between DONE.json and the rename too)",
    seen="warning: <stage>: the worker died (signal 9); trying again; or the run is lost: run again",
)
def test_a_kill_before_a_checkpoint_is_one(long_trial: Trial, tmp_path: Path) -> None:
    long_trial.start(1, env={VARIABLE: f"{OF_CHECKPOINTS}@{tmp_path / 'mark'}"})
    assert long_trial.await_end() == "done"
    assert (tmp_path / "mark").exists()
    long_trial.as_if_undisturbed()


def disturbed(trial: Trial, kills: int, chance: random.Random, supervisors: bool) -> int:
    """Run to the end while workers (and supervisors) are killed; how many were."""
    done = 0
    while trial.run.state() != "done":
        trial.start(slow=0.03)
        while psutil.pid_exists(trial.supervisor.pid) and trial.run.state() != "done":
            time.sleep(chance.uniform(0.0, 0.25))
            victims = trial.workers()
            if supervisors and chance.random() < 0.3:
                victims = [trial.supervisor]
            if done < kills and victims:
                try:
                    chance.choice(victims).kill()
                except psutil.NoSuchProcess:
                    continue
                done += 1
    return done


@pytest.mark.fault(
    "SIGKILL of a worker at random points of a small grid",
    seen="warning: <stage>: the worker died (signal 9); see workers.log; trying again",
)
def test_workers_killed_at_random(
    nursery: Nursery, undisturbed: Undisturbed, tmp_path: Path, record_property: Note
) -> None:
    count = killed_at_random(nursery, undisturbed, tmp_path, 10, everybody=False)
    record_property("happened", f"{min(count, 10)} kills and more (200 in the slow suite)")


@pytest.mark.slow
def test_everybody_killed_two_hundred_times(
    nursery: Nursery, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    killed_at_random(nursery, undisturbed, tmp_path, 200, everybody=True)


def killed_at_random(
    nursery: Nursery, undisturbed: Undisturbed, tmp_path: Path, wanted: int,
    everybody: bool,
) -> int:  # fmt: skip
    """Runs anew until so many kills hit, for a fast machine is done before the tenth."""
    killed = runs = 0
    while killed < wanted:
        home = tmp_path / str(runs)
        trial = Trial(nursery, create(home, SMALL, "small"), undisturbed("small"))
        killed += disturbed(trial, 12, random.Random(runs), supervisors=everybody and runs % 2 == 1)
        trial.complete()
        runs += 1
        assert runs < 60, "hardly anybody was hit"
    return killed


@pytest.mark.fault(
    "SIGKILL of the supervisor, then reattach",
    seen="state lost: the supervisor is gone; run again to go on",
)
def test_a_supervisor_killed_then_another(trial: Trial, record_property: Note) -> None:
    trial.start(slow=0.5)
    until(lambda: trial.under_way("train"))
    [*workers] = trial.workers()
    trial.supervisor.kill()
    until(lambda: trial.run.state() == "lost")
    assert any(worker.is_running() for worker in workers)
    trial.start()  # while the old worker still computes
    assert trial.await_end() == "done"
    trial.as_if_undisturbed()
    trained = {r["attempt"] for r in objects(trial.home).values() if r["kind"] == "train"}
    assert trained == {1}
    record_property(
        "happened", "its worker finished and committed; the next supervisor waited for it"
    )


@pytest.mark.fault(
    "SIGKILL of supervisor and workers together",
    seen="state lost: the supervisor is gone; run again to go on",
)
def test_both_killed(trial: Trial, record_property: Note) -> None:
    trial.start(slow=0.3)
    until(lambda: trial.under_way("train"))
    for process in [trial.supervisor, *trial.workers()]:
        process.kill()
    until(lambda: trial.run.state() == "lost")
    trial.complete()
    record_property("happened", "the next run went on from what was committed")


@pytest.mark.fault("two supervisors on one run", seen="nothing: the second leaves at once")
def test_two_supervisors_on_one_run(trial: Trial, record_property: Note) -> None:
    trial.start(slow=0.1)
    until(trial.run.supervised)
    first = trial.supervisor
    trial.start()
    trial.await_end()
    assert first.is_running()
    trial.supervisor = first
    assert trial.await_end() == "done"
    assert sum("run" in event["data"] for event in trial.events("start")) == 1
    trial.as_if_undisturbed()
    record_property("happened", "the second ended without touching anything")


@pytest.mark.fault("two runs on one store", seen="nothing: what one computes the other waits for")
def test_two_runs_on_one_store(trial: Trial, record_property: Note) -> None:
    other = create(trial.home, SMALL.replace("budgets = [0.25, 0.5]", "budgets = [0.25]"), "other")
    theirs = Trial(trial.nursery, other, {})
    trial.start(1, slow=0.05)
    theirs.start(1, slow=0.05)
    assert trial.await_end() == theirs.await_end() == "done"
    trial.as_if_undisturbed()
    record_property("happened", "they shared every stage; none was computed twice")
