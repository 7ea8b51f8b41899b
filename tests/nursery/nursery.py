"""The nursery as tests see it: supervisors and workers in milliseconds (forking.py says how)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from harness import PATIENCE, environment, until

from engine.jobs import session
from engine.jobs.devices import Resources, Slot
from engine.jobs.runs import Run


class Supervisor:
    """What those who start a supervisor use of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = None
        with contextlib.suppress(psutil.NoSuchProcess):  # one with nothing to do is quick
            self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """0 once it is gone: how it ended, its parent alone could know."""
        return None if is_alive(self._process) else 0


class Nursery:
    """Starts supervisors, and knows every process that came of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**Slot("cpu:0", "cpu").environment(1)),
            text=True,
        )
        self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(json.loads(self._process.stdout.readline())["pid"])

    def supervise(self, run: Run, resources: Resources, env: dict[str, str], **options: Any) -> int:
        """The pid of a new supervisor, whose environment is ours and `env`."""
        told = json.dumps(asdict(resources))
        argv = ["--home", str(run.home.root), "--run", run.id, "--resources", told]
        log = str(run.folder / "supervisor.log")
        order = {"argv": argv, "env": os.environ | env, "options": options, "log": log}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    @contextmanager
    def starts_all(self, **options: Any) -> Iterator[None]:
        """Whoever starts a supervisor in this process gets one of the nursery's."""

        def start(run: Run, resources: Resources) -> Supervisor:
            return Supervisor(self.supervise(run, resources, {}, **options))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "start", start)
            yield

    def processes(self) -> list[psutil.Process]:
        found = psutil.Process(self._process.pid).children(recursive=True)
        return [process for process in found if is_alive(process)]

    def until_gone(self, seconds: float = PATIENCE) -> None:
        """Wait for the last of them to end."""
        until(lambda: not self.processes(), seconds)

    def clear(self) -> None:
        for process in self.processes():
            process.kill()
        self.until_gone(10)

    def end(self) -> None:
        self.clear()
        self._process.kill()
        self._process.communicate()


def is_alive(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
