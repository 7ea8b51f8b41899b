"""The workers of one supervisor: hired when there is work and a device has room, let go when not."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.jobs.devices import Resources
from engine.jobs.hired import WorkerProcess
from engine.jobs.placing import Pool, Room
from engine.spec.errors import BadInput

GRACE = 15.0  # seconds a worker has to stop before it is killed
TICK = 0.25  # seconds to listen when no worker speaks
SEAT_WAIT = 1.0  # seconds before looking again for a device with room
IDLE = 60.0  # seconds without work after which a worker makes room for others
GONE = 60.0  # seconds without any of our devices after which we give up


class Crew:
    """`warn` is told, once, why nobody can be hired while nobody works."""

    def __init__(
        self, store: Path, log: Path, pool: Pool, resources: Resources, warn: Callable[[str], None]
    ) -> None:
        self.width = resources.width(pool.slots)
        self._store = store
        self._log = log
        self._pool = pool
        self._threads = resources.threads
        self._warn = warn
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._deadline: float | None = None
        self._next = {True: 0.0, False: 0.0}  # any room, or more room → not before (monotonic)
        self._gone_since: float | None = None
        self._told_wait = False

    def __bool__(self) -> bool:
        return bool(self._workers)

    @property
    def under_way(self) -> set[str]:
        """The stages they are at."""
        return {worker.stage.key for worker in self._workers if worker.stage is not None}

    @property
    def idle(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.idle]

    def hire(self, roomier: Room | None = None) -> WorkerProcess | None:
        """A new worker, if there may be one more and a device has room (more than `roomier`) for it.
        Raises BadInput when all our devices are gone for good."""
        now = time.monotonic()
        if len(self._workers) >= self.width or now < self._next[roomier is None]:
            return None
        seat = self._pool.take([worker.seat for worker in self._workers], roomier)
        if seat is None:
            self._next[roomier is None] = now + SEAT_WAIT
            if not self._workers:
                self._wait(now)
            return None
        self._gone_since, self._told_wait = None, False
        worker = WorkerProcess(seat, self._store, self._threads, self._log)
        self._workers.append(worker)
        self._selector.register(worker.reply, selectors.EVENT_READ, worker)
        return worker

    def _wait(self, now: float) -> None:
        if not self._told_wait:
            self._told_wait = True
            self._warn(f"waiting for a device: {self._pool.reason}")
        if not self._pool.gone():
            self._gone_since = None
            return
        self._gone_since = self._gone_since or now
        if now - self._gone_since > GONE:
            raise BadInput(f"no device is left: {self._pool.reason}; `chelate devices` shows them.")

    def listen(self) -> Iterator[tuple[WorkerProcess, list[dict[str, Any]], bool]]:
        """(worker, what it says, whether it is still there) of those who speak within a TICK. One who
        is gone is no longer of the crew."""
        self._pool.refresh([worker.seat for worker in self._workers])
        for ready, _ in self._selector.select(TICK):
            worker: WorkerProcess = ready.data
            messages, alive = worker.read()
            if not alive:
                self._selector.unregister(worker.reply)
                self._workers.remove(worker)
                worker.destroy()
            yield worker, messages, alive

    def let_go(self, after: float = IDLE) -> None:
        """Dismiss who has been idle for so many seconds: others may want its place, or the memory."""
        for worker in self.idle:
            if time.monotonic() - worker.since >= after:
                worker.dismiss()

    def stop(self) -> None:
        """Ask all to stop at their next step; asked again, kill those that take too long."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
            for worker in self._workers:
                worker.terminate()
                worker.dismiss()
        elif time.monotonic() > self._deadline:
            for worker in self._workers:
                worker.kill()

    def end(self) -> None:
        """Dismiss all, and see to it that they are gone."""
        for worker in self._workers:
            worker.dismiss()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.destroy()
