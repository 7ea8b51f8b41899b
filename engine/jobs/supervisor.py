"""The supervisor of one run: hands stages to workers until nothing is left that can be done.

It lives in its own session, so a dropped line or a closed console does not touch it, and it holds
no truth: killed at any moment, the next one goes on from the store.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from engine.jobs.devices import Slot, slots
from engine.jobs.events import EventWriter
from engine.jobs.home import Home, write_json
from engine.jobs.lease import Lease, process_identity
from engine.jobs.runs import Run, survey
from engine.spec.errors import BadInput
from engine.spec.planned import Stage

GRACE = 15.0  # seconds a worker has to stop before it is killed
TRIES = 2  # of a stage whose worker died under it
TICK = 0.25  # seconds between looks at flags and clocks when no worker speaks
HELD_WAIT = 0.3  # seconds before asking again for a stage that another process computes

Fate = Literal["done", "n/a", "failed"]


class WorkerProcess:
    """A worker as its supervisor sees it."""

    def __init__(self, slot: Slot, store: Path, threads: int, log: Path) -> None:
        self.slot = slot
        self.stage: Stage | None = None
        self.ready = False
        self._buffer = b""
        self.reply, theirs = os.pipe()
        os.set_blocking(self.reply, False)
        command = [
            # -P: a folder called `engine` where the user happens to stand must not be imported.
            sys.executable, "-P", "-m", "engine.jobs.worker", "--store", str(store),
            "--device", slot.device, "--threads", str(threads), "--reply", str(theirs),
        ]  # fmt: skip
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=os.environ | slot.environment(threads),
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)

    def give(self, run: Run, stage: Stage) -> None:
        """Hand over a stage. A worker that just died is noticed when its pipe closes."""
        self.stage = stage
        told = {
            "key": stage.key, "kind": stage.kind, "title": stage.title, "config": stage.config,
            "inputs": stage.inputs, "after": stage.after, "tee": stage.tee,
        }  # fmt: skip
        assert self.process.stdin is not None
        line = json.dumps({"run": str(run.folder), "stage": told}).encode() + b"\n"
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
        return [json.loads(line) for line in lines], alive

    def dismiss(self) -> None:
        """Let an idle worker end."""
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


class Supervisor:
    """Schedules the stages of one run over some slots.

    Ready stages go out longest way to the end first. A stage whose input failed is not tried; the
    others go on.
    """

    def __init__(self, run: Run, places: list[Slot], threads: int) -> None:
        self.run = run
        self.places = places
        self.threads = threads
        self.fate: dict[str, Fate] = {}
        self.tries: dict[str, int] = {}
        self.workers: list[WorkerProcess] = []
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.deadline: float | None = None
        self.under_way: set[str] = set()  # queued, held or with a worker
        self.children: dict[str, list[str]] = {}
        self.ready: list[tuple[float, int, str]] = []
        self.held: list[tuple[float, str]] = []

    # --- the loop --------------------------------------------------------------------------------

    def work(self) -> str:
        """Run to the end; returns the outcome: done, failed or stopped."""
        with EventWriter(self.run.events, "", 0, rate=1000.0) as self.events:
            self.run.store.sweep()
            self._prepare()
            self.events.emit(
                "start", run=self.run.id, stages=len(self.run.plan.stages), slots=len(self.places),
                cached=len(self.fate), todo=len(self.run.plan.stages) - len(self.fate),
            )  # fmt: skip
            try:
                while not self._finished():
                    self._pass_on_stop()
                    self._hand_out()
                    self._listen()
            finally:
                self._end_workers()
            outcome = "failed" if "failed" in self.fate.values() else "done"
            if self.stopping and len(self.fate) < len(self.run.plan.stages):
                outcome = "stopped"
            self.events.emit("stopped" if outcome == "stopped" else "end", outcome=outcome)
        return outcome

    def _prepare(self) -> None:
        """Find out what the store has, set aside what is damaged, and build the queue."""
        plan = self.run.plan
        found = survey(plan, self.run.store)
        for key in found.damaged:
            self._discard(key)
        for key in found.ok:
            record = self.run.store.record(key)
            self.fate[key] = "n/a" if record is not None and record.na is not None else "done"
        order = {key: number for number, key in enumerate(plan.stages)}
        self.order = order
        for key, stage in plan.stages.items():
            for source in {*stage.inputs.values(), *stage.after}:
                self.children.setdefault(source, []).append(key)
        self.path: dict[str, float] = {}  # TEE from here to the end of the longest way down
        for key, stage in reversed(plan.stages.items()):
            below = max((self.path[child] for child in self.children.get(key, [])), default=0.0)
            self.path[key] = stage.tee + below + 1e-3
        for key in plan.stages:
            if key not in self.fate:
                self._consider(key)

    def _consider(self, key: str) -> None:
        """Queue a stage when all it waits for is settled; settle it when its input has no result."""
        if key in self.fate or key in self.under_way:
            return
        stage = self.run.plan.stages[key]
        fates = [self.fate.get(source) for source in stage.inputs.values()]
        before = [self.fate.get(source) for source in stage.after]
        if "failed" in fates or "failed" in before:
            self._settle(key, "failed")
        elif "n/a" in fates:
            self._settle(key, "n/a")
        elif None not in fates and None not in before:
            self.under_way.add(key)
            heapq.heappush(self.ready, (-self.path[key], self.order[key], key))

    def _again(self, key: str) -> None:
        self.under_way.discard(key)
        self._consider(key)

    def _settle(self, key: str, fate: Fate) -> None:
        self.fate[key] = fate
        self.under_way.discard(key)
        for child in self.children.get(key, []):
            self._consider(child)

    def _finished(self) -> bool:
        busy = any(worker.stage is not None for worker in self.workers)
        if self.stopping:
            return not busy
        return not busy and not self.ready and not self.held

    def _hand_out(self) -> None:
        now = time.monotonic()
        while self.held and self.held[0][0] <= now:
            self._again(heapq.heappop(self.held)[1])
        if self.stopping:
            return
        idle = [worker for worker in self.workers if worker.stage is None]
        while self.ready and (idle or len(self.workers) < len(self.places)):
            if not idle:
                idle.append(self._hire())
            key = heapq.heappop(self.ready)[2]
            idle.pop().give(self.run, self.run.plan.stages[key])

    def _hire(self) -> WorkerProcess:
        taken = {worker.slot.name for worker in self.workers}
        slot = next(place for place in self.places if place.name not in taken)
        worker = WorkerProcess(
            slot, self.run.home.store, self.threads, self.run.folder / "workers.log"
        )
        self.workers.append(worker)
        self.selector.register(worker.reply, selectors.EVENT_READ, worker)
        return worker

    def _listen(self) -> None:
        for ready, _ in self.selector.select(TICK):
            worker: WorkerProcess = ready.data
            messages, alive = worker.read()
            for message in messages:
                self._hear(worker, message)
            if not alive:
                self._bury(worker)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        stage = worker.stage
        if "started" in message and stage is not None:
            self.events.emit(
                "start", key=stage.key, attempt=message["attempt"], title=stage.title,
                kind=stage.kind, slot=worker.slot.name,
            )  # fmt: skip
        elif "ended" in message and stage is not None:
            worker.stage = None
            self._judge(stage, message)

    def _judge(self, stage: Stage, end: dict[str, Any]) -> None:
        outcome = end["outcome"]
        if outcome == "held":
            heapq.heappush(self.held, (time.monotonic() + HELD_WAIT, stage.key))
            return
        if outcome == "damaged":
            source = end["damaged"]
            known = source in self.run.plan.stages
            if known and self._count_try(f"{stage.key} reads {source}"):
                self.under_way.discard(stage.key)
                if source not in self.under_way:  # else another stage found out before
                    self._discard(source)
                    self.fate.pop(source, None)
                    self._consider(source)  # its end brings this stage back
                return
            end = end | {"outcome": "failed"}
        if outcome == "stopped" and not self.stopping:  # somebody signalled the worker itself
            self._again(stage.key)
            return
        self._report_end(stage, end)
        if outcome == "stopped":
            return
        record = self.run.store.record(stage.key)
        if record is None:
            self._settle(stage.key, "failed")
        else:
            self._settle(stage.key, "n/a" if record.na is not None else "done")

    def _report_end(self, stage: Stage, end: dict[str, Any]) -> None:
        told = {k: end.get(k) for k in ("outcome", "reason", "seconds", "tee", "peak_bytes")}
        self.events.emit("end", key=stage.key, title=stage.title, kind=stage.kind, **told)

    def _count_try(self, key: str) -> bool:
        """Count a failed try; whether there is another."""
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key] < TRIES

    def _bury(self, worker: WorkerProcess) -> None:
        """A worker's pipe closed: it ended, or it died under a stage."""
        self.selector.unregister(worker.reply)
        self.workers.remove(worker)
        worker.destroy()
        stage = worker.stage
        if stage is None:
            return
        self.run.store.sweep()  # what it was making
        if self.run.store.has(stage.key):  # it died after the commit
            self._settle(stage.key, "done")
            return
        code = worker.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        reason = f"the worker died ({how}); see {self.run.folder / 'workers.log'}"
        if self.stopping:
            return
        if self._count_try(stage.key):
            self.events.emit("warning", text=f"{stage.title}: {reason}; trying again")
            self._again(stage.key)
            return
        folder = self.run.folder / "attempts" / f"{stage.key[:16]}.lost{self.tries[stage.key]}"
        folder.mkdir(mode=0o700, exist_ok=True)
        end = {"outcome": "failed", "reason": reason, "seconds": 0.0, "tee": 0.0}
        told = {"stage": stage.key, "attempt": 1 << 30, "title": stage.title, "t": time.time()}
        write_json(folder / "exit.json", {"v": 1, **told, **end})
        self._report_end(stage, end)
        self._settle(stage.key, "failed")

    def _discard(self, key: str) -> None:
        """Remove a damaged object. Whoever holds its lease is making a new one anyway."""
        lease = Lease.acquire(self.run.store.leases, key)
        if lease is None:
            return
        with lease:
            if self.run.store.check(key, deep=True) != "damaged":
                return
            self.run.store.discard(key, "its content no longer fits its hash")
        title = self.run.plan.stages[key].title
        self.events.emit("warning", text=f"{title}: damaged in the store, computing it again")

    # --- the end ---------------------------------------------------------------------------------

    def stop(self, *_: object) -> None:
        """The signal handler: only sets a flag, which the loop sees within a quarter of a second."""
        self.stopping = True

    def _pass_on_stop(self) -> None:
        """Ask the workers to stop at their next step; kill those that take too long."""
        if not self.stopping:
            return
        if self.deadline is None:
            self.deadline = time.monotonic() + GRACE
            for worker in self.workers:
                worker.terminate()
                worker.dismiss()
        elif time.monotonic() > self.deadline:
            for worker in self.workers:
                worker.kill()

    def _end_workers(self) -> None:
        for worker in self.workers:
            worker.dismiss()
        deadline = time.monotonic() + GRACE
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.destroy()


def start(run: Run, device: str, workers: int | None, threads: int) -> subprocess.Popen[bytes]:
    """Start the run's supervisor in a session of its own; what it prints goes to a file."""
    command = [
        sys.executable, "-P", "-m", "engine.jobs.supervisor", "--home", str(run.home.root),
        "--run", run.id, "--device", device, "--threads", str(threads),
    ]  # fmt: skip
    if workers:
        command += ["--workers", str(workers)]
    with (run.folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    run = Run(Home(options.home), options.run)
    lock = os.open(run.folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):  # an onlooker's probe holds the lock for microseconds
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.01)
    else:
        return 0  # somebody supervises this run already
    (run.folder / "session.json").unlink(missing_ok=True)
    write_json(run.folder / "supervisor.json", {"v": 1, **process_identity()._asdict()})
    outcome, reason = "failed", ""
    try:
        places = slots(options.device, options.workers, options.threads)
        supervisor = Supervisor(run, places, options.threads)
        signal.signal(signal.SIGTERM, supervisor.stop)
        signal.signal(signal.SIGINT, supervisor.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        outcome = supervisor.work()
    except BadInput as error:
        reason = str(error)
    except Exception as error:
        reason = f"the supervisor failed: {type(error).__name__}: {error}"
        raise
    finally:
        write_json(
            run.folder / "session.json",
            {"v": 1, "outcome": outcome, "reason": reason, "t": time.time()},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
