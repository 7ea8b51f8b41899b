"""Killing, stopping and abandoning: afterwards everything is as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from harness import (
    TINY,
    Computed,
    chelate,
    computed,
    finish,
    hashes,
    objects,
    processes,
    session_folder,
    start,
    strict_json,
    unhealthy,
    until,
    until_gone,
    untimed,
)

from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run, every

# One training of a second or two, and little else.
LONG = TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n'
LONG = LONG.replace("epochs = 2", "epochs = 400, batch_size = 32").replace("[0, 1]", "[0]")
LONG = LONG.replace(', { name = "gaussian" }]', "]")  # the audit, which imports SciPy


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return computed(session_folder(tmp_path_factory), "long", LONG)


@dataclass
class Training:
    """A run that has just begun to train."""

    home: Path
    console: subprocess.Popen[str]
    run: Run
    supervisor: psutil.Process
    worker: psutil.Process


@pytest.fixture
def training(tmp_path: Path, undisturbed: Computed) -> Training:
    home = tmp_path / "home"
    console = start("run", undisturbed.preset, "--home", home, "--plain")
    run = until(lambda: next(every(Home(home)), None))
    until(lambda: is_training(run))
    [supervisor] = processes(home, "engine.jobs.session")
    [worker] = processes(home, "engine.jobs.worker")
    assert worker in supervisor.children()
    return Training(home, console, run, supervisor, worker)


def is_training(run: Run) -> bool:
    """Whether the training has taken a step, and not yet its last."""
    [key] = [stage.key for stage in run.plan.stages.values() if stage.kind == "train"]
    events = run.folder.glob(f"attempts/{key[:16]}.*/events.jsonl")
    steps = [
        e["data"] for path in events for e in EventTail(path).read() if e["kind"] == "progress"
    ]
    return bool(steps) and steps[-1]["done"] < steps[-1]["total"]


def as_if_nothing_had_happened(home: Path, undisturbed: Computed) -> None:
    until_gone(home)
    assert hashes(home) == hashes(undisturbed.home)
    assert not unhealthy(home)
    again = strict_json(chelate("run", undisturbed.preset, "--home", home, "--json").stdout)
    assert again["status"] == "done"
    assert untimed(again["rows"]) == untimed(undisturbed.document["rows"])


def trained_in_attempt(home: Path) -> int:
    [record] = [record for record in objects(home).values() if record["kind"] == "train"]
    attempt: int = record["attempt"]
    return attempt


def test_a_killed_worker_is_replaced(training: Training, undisturbed: Computed) -> None:
    training.worker.send_signal(signal.SIGKILL)
    done = finish(training.console)
    assert done.returncode == 0, done.stderr
    assert "the worker died (signal 9)" in done.stdout
    assert "trying again" in done.stdout
    assert trained_in_attempt(training.home) == 2
    as_if_nothing_had_happened(training.home, undisturbed)
    assert list((training.home / "store" / "work").iterdir()) == []


def test_a_killed_supervisor_leaves_its_worker_to_finish(
    training: Training, undisturbed: Computed
) -> None:
    training.supervisor.send_signal(signal.SIGKILL)
    done = finish(training.console)
    assert done.returncode == 3
    assert "the supervisor is gone" in done.stderr
    assert training.run.state() == "lost"
    assert training.worker.is_running()
    again = chelate("run", undisturbed.preset, "--home", training.home)  # while it still trains
    assert again.returncode == 0, again.stderr
    assert trained_in_attempt(training.home) == 1
    as_if_nothing_had_happened(training.home, undisturbed)


def test_ctrl_c_stops_everything_and_the_next_run_goes_on(
    training: Training, undisturbed: Computed
) -> None:
    training.console.send_signal(signal.SIGINT)
    done = finish(training.console)
    assert done.returncode == 130
    assert "stopping" in done.stderr
    assert "goes on from here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes(training.home)
    assert training.run.state() == "stopped"
    kinds = {record["kind"] for record in objects(training.home).values()}
    assert kinds == {"data", "split", "select", "craft"}
    assert not unhealthy(training.home)
    again = chelate("run", undisturbed.preset, "--home", training.home, "--plain")
    assert again.returncode == 0, again.stderr
    assert "4 in the store" in again.stdout
    as_if_nothing_had_happened(training.home, undisturbed)


def test_a_console_that_dies_is_not_missed(training: Training, undisturbed: Computed) -> None:
    training.console.kill()
    training.console.communicate()
    assert training.run.supervised()
    watching = chelate("watch", "long", "--home", training.home, "--plain")
    assert watching.returncode == 0, watching.stderr
    assert f"run {training.run.id}: done" in watching.stdout
    assert "done     train gaussian s0" in watching.stdout
    as_if_nothing_had_happened(training.home, undisturbed)
