"""Real signals inside a long stage: the next attempt goes on from a checkpoint, to the same bytes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import (
    TINY,
    Computed,
    chelate,
    computed,
    finish,
    flip_byte,
    hashes,
    objects,
    processes,
    session_folder,
    start,
    until,
    until_gone,
)

from engine.jobs.checkpoints import Checkpoint, Checkpoints
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run, every

# One training of a few seconds that keeps a checkpoint every now and then.
LONG = TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n'
LONG = LONG.replace("epochs = 2", "epochs = 400, batch_size = 32").replace("[0, 1]", "[0]")
LONG = LONG.replace(', { name = "gaussian" }]', "]")  # the audit, which imports SciPy
LONG += "[compute]\ncheckpoint_seconds = 0.1\n"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return computed(session_folder(tmp_path_factory), "resuming", LONG)


@dataclass
class Training:
    """A run whose training has kept two checkpoints and is not at its end."""

    home: Path
    console: subprocess.Popen[str]
    run: Run
    key: str
    worker: psutil.Process

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return Checkpoints(self.run.store.checkpoints, self.key).of("fit")

    def said(self, attempt: int, kind: str) -> list[dict[str, Any]]:
        path = self.run.folder / "attempts" / f"{self.key[:16]}.{attempt}" / "events.jsonl"
        return [event["data"] for event in EventTail(path).read() if event["kind"] == kind]

    def ended_as_if_undisturbed(self, undisturbed: Computed) -> None:
        until_gone(self.home)
        assert hashes(self.home) == hashes(undisturbed.home)
        assert not self.run.store.checkpoints.exists() or not list(
            self.run.store.checkpoints.iterdir()
        )


@pytest.fixture
def training(tmp_path: Path, undisturbed: Computed) -> Iterator[Training]:
    home = tmp_path / "home"
    console = start("run", undisturbed.preset, "--home", home, "--plain")
    run = until(lambda: next(every(Home(home)), None))
    plan = until(lambda: (run.folder / "plan.json").exists() and run.plan)
    [key] = [stage.key for stage in plan.stages.values() if stage.kind == "train"]
    until(lambda: len(Checkpoints(run.store.checkpoints, key).of("fit")) == 2)
    [worker] = processes(home, "engine.jobs.worker")
    yield Training(home, console, run, key, worker)
    console.kill()
    console.communicate()


def test_sigkill(training: Training, undisturbed: Computed) -> None:
    training.worker.suspend()  # so that what we look at is what it leaves
    newest, older = training.checkpoints
    training.worker.send_signal(signal.SIGKILL)
    done = finish(training.console)
    assert done.returncode == 0, done.stderr
    [resumed] = [told for told in training.said(2, "checkpoint") if "resumed" in told]
    assert (resumed["step"], resumed["resumed"]) == (newest.step, 1) and older.step < newest.step
    assert training.said(2, "progress")[0]["done"] > newest.step
    training.ended_as_if_undisturbed(undisturbed)
    ours, theirs = (objects(home)[training.key] for home in (training.home, undisturbed.home))
    assert ours["attempt"] == 2 and ours["tee"] == theirs["tee"]
    [last] = [told["seconds"] for told in training.said(2, "end")]
    assert (
        ours["seconds"] >= last - 0.1 > 0.1 * newest.step / training.said(2, "progress")[0]["total"]
    )


@pytest.mark.slow
def test_sigkill_and_the_newest_is_damaged(training: Training, undisturbed: Computed) -> None:
    training.worker.suspend()
    newest, older = training.checkpoints
    training.worker.send_signal(signal.SIGKILL)
    flip_byte(newest.path / "model.safetensors")  # before the next worker has imported torch
    done = finish(training.console)
    assert done.returncode == 0, done.stderr
    [resumed] = [told for told in training.said(2, "checkpoint") if "resumed" in told]
    assert resumed["step"] == older.step
    [warning] = training.said(2, "warning")
    assert f"step {newest.step} is damaged" in warning["text"]
    training.ended_as_if_undisturbed(undisturbed)


def test_a_stop_loses_nothing(training: Training, undisturbed: Computed) -> None:
    training.console.send_signal(signal.SIGINT)
    done = finish(training.console)
    assert done.returncode == 130, done.stderr
    until_gone(training.home)
    assert training.key not in objects(training.home)
    newest = training.checkpoints[0]
    assert newest.step >= training.said(1, "progress")[-1]["done"]  # the very last step
    again = chelate("run", undisturbed.preset, "--home", training.home, "--plain")
    assert again.returncode == 0, again.stderr
    resumed = [told for told in training.said(2, "checkpoint") if "resumed" in told]
    assert [told["step"] for told in resumed] == [newest.step]
    training.ended_as_if_undisturbed(undisturbed)
