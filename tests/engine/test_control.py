"""Stopping, deleting and bringing back runs, without a supervisor that computes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.jobs import control, trash
from engine.jobs.home import Home
from engine.jobs.lease import process_identity
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.spec.errors import BadInput


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(Home(tmp_path), "toy-1")
    made.folder.mkdir(parents=True)
    (made.folder / "run.json").write_text(json.dumps({"v": 1, "id": made.id}))
    return made


@contextmanager
def supervised(run: Run, **identity: object) -> Iterator[None]:
    told = {**process_identity()._asdict(), **identity}
    (run.folder / "supervisor.json").write_text(json.dumps(told))
    lock = os.open(run.folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def test_only_a_running_run_can_be_stopped(run: Run) -> None:
    with pytest.raises(BadInput, match="not running"):
        control.stop(run)


def test_another_machines_supervisor_finds_an_order_and_is_not_signalled(run: Run) -> None:
    with supervised(run, host="elsewhere", pid=1):
        assert "on elsewhere" in control.stop(run, grace=0.05)
        assert Order.STOP.given(run.folder)
        with pytest.raises(BadInput, match="elsewhere"):
            control.kill(run)


def test_a_recycled_pid_is_left_alone(run: Run) -> None:
    with supervised(run, start_time=1), pytest.raises(BadInput, match="ending"):
        control.stop(run)
    with supervised(run, pid="x"), pytest.raises(BadInput, match="does not say"):
        control.stop(run)


def test_delete_moves_and_restore_brings_back(run: Run, tmp_path: Path) -> None:
    with supervised(run), pytest.raises(BadInput, match="stop it first"):
        trash.delete(run)
    trashed = trash.delete(run)
    assert not run.folder.exists()
    assert trash.sweep(run.home) == 0  # not within 15 seconds
    assert trash.restore(run.home, trashed) == run
    assert (run.folder / "run.json").exists()
    with pytest.raises(BadInput, match="no longer"):
        trash.restore(run.home, tmp_path / "trash" / "gone.1234567890123")


def test_the_same_run_made_again_is_not_overwritten(run: Run) -> None:
    trashed = trash.delete(run)
    run.folder.mkdir()
    with pytest.raises(BadInput, match="exists again"):
        trash.restore(run.home, trashed)
    assert trashed.exists()


def test_sweeping_takes_only_what_is_old_and_ours(run: Run, tmp_path: Path) -> None:
    trashed = trash.delete(run)
    stranger = tmp_path / "trash" / "notes.txt"
    stranger.write_text("mine")
    assert trash.sweep(run.home, older=-1.0) == 1
    assert not trashed.exists()
    assert stranger.exists()
    assert trash.sweep(Home(tmp_path / "nowhere")) == 0


def test_resuming_what_cannot_be_read_says_so(run: Run) -> None:
    with pytest.raises(BadInput, match=r"experiment\.toml"):
        control.resume(run)
    with supervised(run), pytest.raises(BadInput, match="is running"):
        control.resume(run)
