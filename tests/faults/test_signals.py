"""Processes that are stopped, deaf, hung up on, or have left children; and signals at bad moments."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import (
    COMMAND,
    chelate,
    environment,
    hashes,
    processes,
    unhealthy,
    until,
    until_gone,
)
from trials import SMALL, Trial, computed_once

from chelate.pin import program
from engine.jobs.devices import Slot
from engine.jobs.home import Home
from engine.jobs.runs import every

Note = Callable[[str, object], None]


@pytest.mark.fault("SIGSTOP of a worker, then SIGCONT", seen="nothing: it goes on")
def test_a_worker_that_stood_still(trial: Trial, record_property: Note) -> None:
    trial.start(1, slow=0.1)
    [worker] = until(trial.workers)
    until(lambda: trial.under_way("train"))
    worker.suspend()
    time.sleep(0.5)
    assert trial.run.state() == "running"
    worker.resume()
    assert trial.await_end() == "done"
    trial.as_if_undisturbed()
    record_property("happened", "the stage was finished by the same attempt")


@pytest.mark.fault(
    "SIGSTOP of a worker, then stop", seen="state stopped, once the grace is over; run goes on"
)
def test_a_worker_that_stands_still_is_stopped(trial: Trial, record_property: Note) -> None:
    trial.start(1, slow=0.1, grace=0.5)
    [worker] = until(trial.workers)
    until(lambda: trial.under_way("train"))
    worker.suspend()
    trial.supervisor.terminate()
    assert trial.await_end(15) == "stopped"
    trial.complete()
    record_property("happened", "killed after the grace; the next run did its stage")


@pytest.mark.fault(
    "a worker that ignores SIGTERM", seen="state stopped, once the grace is over; run goes on"
)
def test_a_deaf_worker(trial: Trial, record_property: Note) -> None:
    trial.start(1, slow=30.0, deaf=True, grace=0.5)
    until(lambda: trial.events("start")[1:])
    trial.supervisor.terminate()
    assert trial.await_end(15) == "stopped"
    trial.complete()
    record_property("happened", "its group was killed after the grace")


@pytest.mark.fault(
    "a worker killed that has left children behind",
    seen="warning: <stage>: the worker died (signal 9); see workers.log; trying again",
)
def test_orphaned_children(trial: Trial, record_property: Note) -> None:
    trial.start(1, slow=0.2, offspring=True)
    [worker] = until(trial.workers)
    [child] = until(worker.children)
    worker.kill()
    until(lambda: not child.is_running(), 15)
    assert trial.await_end() == "done"
    trial.as_if_undisturbed()
    record_property("happened", "its whole process group went with it")


@pytest.mark.fault(
    "a signal during `import torch`", seen="state stopped; the stage was not begun, none is lost"
)
def test_a_signal_while_torch_is_loading(trial: Trial, record_property: Note) -> None:
    """The handler only sets a flag: run in the middle of an import it could do nothing else."""
    stage = next(iter(trial.run.plan.stages.values()))
    told = {name: getattr(stage, name) for name in ("key", "kind", "title", "config", "inputs")}
    order = {"run": str(trial.run.folder), "stage": told | {"after": [], "tee": stage.tee}}
    ours, theirs = os.pipe()
    worker = subprocess.Popen(
        [*program("engine.jobs.worker"), "--store", str(trial.run.home.store),
         "--device", "cpu", "--threads", "1", "--reply", str(theirs)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(theirs,),
        env=os.environ | Slot("cpu:0", "cpu").environment(1),
    )  # fmt: skip
    os.close(theirs)
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(order).encode() + b"\n")
    worker.stdin.flush()
    until(lambda: catches(worker.pid, signal.SIGTERM))
    sent = 0
    while "torch/lib" not in Path(f"/proc/{worker.pid}/maps").read_text() or sent < 20:
        worker.send_signal(signal.SIGTERM)  # before, while and after its libraries are mapped
        sent += 1
        time.sleep(0.02)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    messages = [json.loads(line) for line in os.read(ours, 65536).splitlines()]
    os.close(ours)
    assert messages[-1]["outcome"] == "stopped"
    assert not hashes(trial.home)
    trial.complete()
    record_property("happened", f"{sent} signals, one every 20 ms of the import: it ended as asked")


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.fault(
    "SIGHUP: the terminal of the console that started the run is closed",
    seen="as after Ctrl-C: state stopped",
)
def test_a_terminal_that_is_closed(
    tmp_path: Path, undisturbed: Callable[[str], object], record_property: Note
) -> None:
    """The real command on a terminal of its own; everything else here forks."""
    home, preset = tmp_path / "home", tmp_path / "small.toml"
    preset.write_text(SMALL + "[compute]\nworkers = 1\n")
    ours, theirs = pty.openpty()
    console = subprocess.Popen(
        [COMMAND, "run", str(preset), "--home", str(home)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"),
        preexec_fn=terminal_of_its_own,
    )  # fmt: skip
    os.close(theirs)
    run = until(lambda: next(every(Home(home)), None))
    until(run.supervised)
    os.close(ours)
    assert console.wait(30) == 130
    assert run.state() == "stopped"
    assert chelate("resume", run.id, "--home", home).returncode == 0
    until(lambda: run.state() == "done")
    until_gone(home)
    assert hashes(home) == undisturbed("small")
    assert not unhealthy(home)
    computed_once(home)
    shown = chelate("runs", "show", run.id, "--home", home)
    assert f"{run.id}: done" in shown.stdout
    record_property(
        "happened", "the run stopped as after Ctrl-C; `resume` went on with it to the same bytes"
    )


def terminal_of_its_own() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _no_process_survives(tmp_path: Path) -> object:
    yield
    for process in processes(tmp_path):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
