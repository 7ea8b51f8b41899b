"""How `run` and `watch` end when they are asked to: Ctrl-C, SIGTERM, SIGHUP."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness import COMMAND, TINY, chelate, environment, finish, processes, start, until, until_gone

from engine.jobs.home import Home
from engine.jobs.runs import Run, every

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    for process in processes(tmp_path):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def supervised(home: Path) -> Run:
    run = until(lambda: next(every(Home(home)), None))
    until(run.supervised)
    return run


@pytest.mark.parametrize("number", [TERM, HUP, INT], ids=lambda number: number.name)
def test_a_run_is_stopped_and_the_hint_names_that_run(
    number: signal.Signals, home: Path, preset: Path
) -> None:
    console = start("run", preset, "--home", home, "--seeds", "1", "--plain")
    run = supervised(home)
    console.send_signal(number)
    done = finish(console)
    assert done.returncode == 130, done.stderr
    assert f"`chelate resume {run.id} --home {home}` goes on from here" in done.stderr
    assert "chelate run" not in done.stderr and "Traceback" not in done.stderr
    assert run.state() == "stopped"
    assert not processes(home)


def test_a_terminal_that_hangs_up_twice_kills_nothing(home: Path, preset: Path) -> None:
    from console.signals import Requests

    with Requests() as requests:
        for number in (TERM, HUP, HUP):
            os.kill(os.getpid(), number)
        assert requests.asked == 1 and not requests.impatient
        os.kill(os.getpid(), INT)
        assert requests.impatient


def test_what_nohup_ignores_stays_ignored() -> None:
    from console.signals import Requests

    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        with Requests() as requests:
            os.kill(os.getpid(), HUP)
            assert not requests.asked
    finally:
        signal.signal(HUP, before)


def test_a_detached_run_is_nobodys_to_hang_up_on_and_watching_it_neither(
    home: Path, preset: Path
) -> None:
    told = subprocess.Popen(
        [COMMAND, "run", str(preset), "--home", str(home), "--detach"],
        env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    said, _ = told.communicate(timeout=60)
    [run] = every(Home(home))
    assert said.strip() == run.id
    for one in processes(home):
        assert os.getpgid(one.pid) != told.pid and os.getsid(one.pid) != told.pid
    watching = [start("watch", run.id, "--home", home, "--plain") for _ in range(2)]
    for console, number in zip(watching, (TERM, HUP), strict=True):
        assert console.stdout is not None
        console.stdout.readline()
        console.send_signal(number)
        assert finish(console).returncode == 0
    assert run.supervised()
    assert chelate("stop", run.id, "--home", home).returncode == 0
    until_gone(home)
