"""A worker as its supervisor sees it: a process group on one slot, spoken to through pipes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from chelate.pin import program
from engine.jobs.placing import Seat
from engine.jobs.runs import Run
from engine.spec.planned import Stage


class WorkerProcess:
    """Starts it. The worker inherits the lock on its slot, so that the place stays taken until the
    last of its group is gone, whatever becomes of us."""

    def __init__(self, seat: Seat, store: Path, threads: int, log: Path) -> None:
        self.seat = seat
        self.stage: Stage | None = None
        self.since = time.monotonic()  # of the last thing we know of it
        self.retired = False  # gets nothing any more
        self._buffer = b""
        self.reply, theirs = os.pipe()
        os.set_blocking(self.reply, False)
        command = [
            *program("engine.jobs.worker"), "--store", str(store),
            "--device", seat.slot.device, "--threads", str(threads), "--reply", str(theirs),
        ]  # fmt: skip
        try:
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=os.environ | seat.slot.environment(threads),
                    pass_fds=(theirs, *seat.descriptors),
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        seat.tell(self.process.pid)

    @property
    def idle(self) -> bool:
        return self.stage is None and not self.retired

    def give(self, run: Run, stage: Stage) -> None:
        """Hand over a stage. A worker that just died is noticed when its pipe closes."""
        self.stage = stage
        told = {
            "key": stage.key, "kind": stage.kind, "title": stage.title, "config": stage.config,
            "inputs": stage.inputs, "after": stage.after, "tee": stage.tee, "pins": stage.pins,
        }  # fmt: skip
        assert self.process.stdin is not None
        order: dict[str, Any] = {"run": str(run.folder), "stage": told}
        if (seconds := run.checkpoint_seconds) is not None:
            order["checkpoint_seconds"] = seconds
        if run.one_kind:
            order["one_kind"] = True
        line = json.dumps(order).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """(messages, whether the worker is still there)."""
        alive = True
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.reply, 65536):
                self._buffer += chunk
            alive = False
        *lines, self._buffer = self._buffer.split(b"\n")
        self.since = time.monotonic()
        return [json.loads(line) for line in lines], alive

    def dismiss(self) -> None:
        """Let it end after what it is at."""
        self.retired = True
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def destroy(self) -> None:
        self.kill()
        self.process.wait()
        os.close(self.reply)
        self.seat.release()
