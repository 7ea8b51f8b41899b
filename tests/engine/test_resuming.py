"""Real signals inside a long stage: the next attempt goes on from a checkpoint, to the same bytes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from detached import commanded, detached, is_training, key_of_training, same_as, supervisor
from harness import (
    Computed,
    called,
    finish,
    flip_byte,
    objects,
    processes,
    start,
    unhealthy,
    until,
    until_gone,
)
from nursery import Nursery

from engine.jobs.checkpoints import Checkpoint, Checkpoints
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run, every


@dataclass
class Training:
    """A run, and what is kept and said of its training."""

    run: Run

    @property
    def home(self) -> Path:
        return self.run.home.root

    @property
    def key(self) -> str:
        return key_of_training(self.run)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The newest first."""
        return Checkpoints(self.run.store.checkpoints, self.key).of("fit")

    def said(self, attempt: int, kind: str) -> list[dict[str, Any]]:
        path = self.run.folder / "attempts" / f"{self.key[:16]}.{attempt}" / "events.jsonl"
        return [event["data"] for event in EventTail(path).read() if event["kind"] == kind]

    def resumed_at(self, attempt: int) -> list[int]:
        """Where it says that it went on."""
        return [told["step"] for told in self.said(attempt, "checkpoint") if "resumed" in told]


@pytest.fixture
def training(forked: Nursery, tmp_path: Path, undisturbed: Computed) -> Iterator[Training]:
    """One that has kept two checkpoints and is not at its end."""
    with forked.starts_all(checkpoints=True):
        made = Training(detached(undisturbed.preset, tmp_path / "home"))
        until(lambda: len(made.checkpoints) >= 2)
        yield made


def stand_still(training: Training) -> tuple[psutil.Process, psutil.Process]:
    """Its supervisor and its worker, both stopped, so that what we look at is what they leave."""
    watching = supervisor(training.run)
    watching.suspend()
    [worker] = watching.children()
    worker.suspend()
    return watching, worker


def test_sigkill(training: Training, undisturbed: Computed, forked: Nursery) -> None:
    watching, worker = stand_still(training)
    newest, older, *_ = training.checkpoints
    worker.kill()
    watching.resume()
    told = commanded("watch", training.run, "--plain")
    assert "the worker died (signal 9)" in told
    assert "trying again" in told
    assert training.resumed_at(2) == [newest.step]
    assert older.step < newest.step
    assert training.said(2, "progress")[0]["done"] > newest.step
    forked.until_gone()
    same_as(training.run, undisturbed)
    ours, theirs = (objects(home)[training.key] for home in (training.home, undisturbed.home))
    assert ours["attempt"] == 2 and ours["tee"] == theirs["tee"]
    [last] = [told["seconds"] for told in training.said(2, "end")]
    assert (
        ours["seconds"] >= last - 0.1 > 0.1 * newest.step / training.said(2, "progress")[0]["total"]
    )


def test_sigkill_and_the_newest_is_damaged(
    training: Training, undisturbed: Computed, forked: Nursery
) -> None:
    watching, worker = stand_still(training)
    newest, older, *_ = training.checkpoints
    worker.kill()
    flip_byte(newest.path / "model.safetensors")
    watching.resume()
    forked.until_gone()
    assert training.resumed_at(2) == [older.step]
    [warning] = training.said(2, "warning")
    assert f"step {newest.step} is damaged" in warning["text"]
    same_as(training.run, undisturbed)


def test_ctrl_c_stops_everything_loses_nothing_and_the_next_run_goes_on(
    undisturbed: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """A real console with a real supervisor and worker; those of the next run are forked."""
    home = tmp_path / "home"
    console = start(
        "run", undisturbed.preset, "--home", home, "--plain", "--set", "compute.workers=1"
    )
    run = until(lambda: next(every(Home(home)), None))
    until(lambda: (run.folder / "plan.json").exists() and is_training(run))
    [watching] = processes(home, "engine.jobs.session")
    [worker] = processes(home, "engine.jobs.worker")
    assert worker in watching.children()
    console.send_signal(signal.SIGINT)
    done = finish(console)
    assert done.returncode == 130, done.stderr
    assert "stopping" in done.stderr
    assert "goes on from here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes(home)
    assert run.state() == "stopped"
    assert {record["kind"] for record in objects(home).values()} == {
        "data", "split", "select", "craft",
    }  # fmt: skip
    assert not unhealthy(home)
    training = Training(run)
    newest = training.checkpoints[0]
    assert newest.step >= training.said(1, "progress")[-1]["done"]  # the very last step

    again = called("run", undisturbed.preset, "--home", home, "--plain")
    assert again.returncode == 0, again.stderr
    assert "4 in the store" in again.stdout
    assert training.resumed_at(2) == [newest.step]
    until_gone(home)
    forked.until_gone()
    same_as(run, undisturbed)
