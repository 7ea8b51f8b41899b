"""The supervisor of one run: hands stages to workers until nothing is left that can be done.

It holds no truth: killed at any moment, the next one goes on from the store. On a machine of its own it
lives in a process of its own (session.py), on a cluster in every job (backends/slurm_job.py).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from engine.jobs.crashpoints import crash_here
from engine.jobs.crew import Crew
from engine.jobs.devices import Resources
from engine.jobs.events import STARTING, WAITING, EventWriter
from engine.jobs.hired import WorkerProcess
from engine.jobs.home import write_json
from engine.jobs.lease import Lease, computed_by
from engine.jobs.orders import Order
from engine.jobs.placing import Pool, Room
from engine.jobs.post import Post
from engine.jobs.records import Record
from engine.jobs.runs import Run
from engine.jobs.schedule import Fate, Schedule
from engine.jobs.survey import survey
from engine.spec.errors import BadInput
from engine.spec.planned import Stage

TRIES = 2  # of a stage whose worker died under it


class Supervisor:
    """Works through the stages of one run with the workers that the machine has room for."""

    def __init__(
        self, run: Run, pool: Pool, resources: Resources, post: Post | None = None
    ) -> None:
        self.run = run
        self.post = post or Post(run.folder)
        self.crew = Crew(
            run.home.store, self.post.folder / "workers.log", pool, resources, self._warn
        )
        self.schedule = Schedule(run.plan)
        self.tries: dict[str, int] = {}
        self.stopping = self.paused = False
        self.failures: dict[str, str] = {}  # stage → why
        self.cramped: list[tuple[Stage, Room]] = []  # ran out of memory, wait for more
        self.idle_since: float | None = None
        self.held: set[str] = set()  # stages of which it was told that others compute them

    # --- the loop --------------------------------------------------------------------------------

    def work(self) -> str:
        """Run to the end; returns the outcome: done, failed, stopped, paused, or idle (one of several,
        with nothing to do)."""
        path = self.post.folder / "events.jsonl"
        with EventWriter(path, "", 0, rate=1000.0) as self.events:
            self.run.store.sweep()
            known = self._survey()
            total = len(self.run.plan.stages)
            self.schedule.begin(known)
            self.post.tell_start(
                self.events, run=self.run.id, stages=total, slots=self.crew.width, cached=len(known),
                todo=total - len(known),
            )  # fmt: skip
            try:
                while not self._finished():
                    self._learn()
                    self._obey()
                    self._hand_out()
                    for worker, messages, alive in self.crew.listen():
                        for message in messages:
                            self._hear(worker, message)
                        if not alive:
                            self._bury(worker)
            finally:
                self.crew.end()
            crash_here("last stage settled")
            fates = self.schedule.fate
            outcome = "failed" if "failed" in fates.values() else "done"
            if len(fates) < total:
                outcome = "stopped" if self.stopping else "paused" if self.paused else "idle"
            self.post.tell_end(self.events, outcome)
        return outcome

    def reason(self, outcome: str) -> str:
        """Why it ended as it did, in one line for people."""
        if outcome in ("stopped", "paused"):
            return f"asked to {'stop' if outcome == 'stopped' else 'pause'}"
        if outcome != "failed" or not self.failures:
            return ""
        key, why = next(iter(self.failures.items()))
        others = f"; {len(self.failures) - 1} more failed" if len(self.failures) > 1 else ""
        return f"{self.run.plan.stages[key].title}: {why}{others}"

    def _obey(self) -> None:
        """See what we were asked to do since the last look."""
        folder = self.run.folder
        if Order.STOP.given(folder):
            self.stopping = True
        paused = Order.PAUSE.given(folder)
        if paused != self.paused:
            self.paused = paused
            self.events.emit("phase", name="pausing" if paused else "going on")
        if Order.RETRY.take(folder):
            self.run.forget_failures()
            self.failures.clear()
            self.tries.clear()
            self.events.emit("phase", name="trying again what failed")
            self.schedule.forgive()

    def _survey(self) -> dict[str, Fate]:
        """What the store has; what is damaged in it is set aside."""
        found = survey(self.run.plan, self.run.store)
        for key in found.damaged:
            self._discard(key)
        return {key: _fate_of(record) for key, record in found.ok.items()}

    def _finished(self) -> bool:
        if self.crew.under_way:
            self.idle_since = None
            return False
        return (
            self.stopping
            or self.paused
            or self._idles()
            or not (self.schedule.waits or self.cramped)
        )

    def _idles(self) -> bool:
        """Whether we had nothing to do for so long that our node should be others'."""
        if self.post.patience is None or self.schedule.has_ready or self.cramped:
            self.idle_since = None
            return False
        self.idle_since = self.idle_since or time.monotonic()
        return time.monotonic() - self.idle_since > self.post.patience

    def _learn(self) -> None:
        """Settle what the others, if there are any, have done. A result counts once the store has it;
        a failure need not be repeated by each of us."""
        with_us = self.crew.under_way
        for end in self.post.ended():
            key = str(end["key"])
            if key in with_us or key in self.schedule.fate or key not in self.run.plan.stages:
                continue
            failed = end.get("outcome") == "failed"
            if failed:
                self.failures[key] = str(end.get("reason") or "")
            if failed or self.run.store.has(key):
                self.schedule.settle(key, _fate_of(self.run.store.record(key)))

    def _hand_out(self) -> None:
        for key in self.schedule.let_go(time.monotonic()):
            self.schedule.again(key)
        if self.stopping:
            self.crew.stop()
            return
        if self.paused:
            self.crew.let_go(after=0.0)  # their devices are free for others
            return
        self._hand_out_cramped()
        idle = self.crew.idle
        while (stage := self.schedule.first()) is not None:
            if self.run.store.has(stage.key):  # another run or job was first
                self.schedule.take()
                self._judge(stage, {"outcome": "cached"})
                continue
            worker = idle.pop() if idle else self._hire()
            if worker is None:
                return
            self.schedule.take()
            worker.give(self.run, stage)
        self.crew.let_go()

    def _hire(self, roomier: Room | None = None) -> WorkerProcess | None:
        """As Crew.hire; tells of it, for it takes seconds until the worker tells of itself."""
        worker = self.crew.hire(roomier)
        if worker is not None:
            self.events.emit("phase", name=STARTING, slot=self.post.place(worker.seat.slot.name))
        return worker

    def _hand_out_cramped(self) -> None:
        """What ran out of memory gets a new worker where there is more room than there was; when
        nothing else goes on here, wherever there is a place."""
        while self.cramped:
            stage, room = self.cramped[0]
            alone = not self.crew.under_way and not self.schedule.has_ready
            if alone:
                self.crew.let_go(after=0.0)
                if self.crew:
                    return  # as soon as they are gone
            hired = self._hire(None if alone else room)
            if hired is None:
                return
            del self.cramped[0]
            hired.give(self.run, stage)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        stage = worker.stage
        if "started" in message and stage is not None:
            self.events.emit(
                "start", key=stage.key, attempt=message["attempt"], title=stage.title,
                kind=stage.kind, slot=self.post.place(worker.seat.slot.name),
            )  # fmt: skip
        elif "ended" in message and stage is not None:
            crash_here("end heard")
            worker.stage = None
            cause = message.get("cause")
            if cause is not None:  # whatever went wrong in it, it takes it along
                worker.dismiss()
            if cause not in ("oom", "device") or not self._retry_elsewhere(worker, stage, message):
                self._judge(stage, message)

    def _judge(self, stage: Stage, end: dict[str, Any]) -> None:
        outcome = end["outcome"]
        if outcome == "held":
            if stage.key not in self.held:
                self.held.add(stage.key)
                who = computed_by(self.run.store.leases, stage.key)
                told = f"{WAITING}{stage.title}: another run computes it{who}"
                self.events.emit("phase", name=told)
            self.schedule.hold(stage.key, time.monotonic() + self.post.held_wait)
            return
        if outcome == "damaged":
            source = end["damaged"]
            known = source in self.run.plan.stages
            if known and self._count_try(f"{stage.key} reads {source}"):
                if self.schedule.wait_for(stage.key, source):  # else another stage found out before
                    self._discard(source)
                    self.schedule.consider(source)  # its end brings this stage back
                return
            end = end | {"outcome": "failed"}
        if outcome == "stopped" and not self.stopping:  # somebody signalled the worker itself
            self.schedule.again(stage.key)
            return
        self._report_end(stage, end)
        if end.get("untold"):
            self._write_exit(stage, end)
        if outcome != "stopped":
            self.schedule.settle(stage.key, _fate_of(self.run.store.record(stage.key)))

    def _retry_elsewhere(self, worker: WorkerProcess, stage: Stage, end: dict[str, Any]) -> bool:
        """Once more, as it is, in a new process: after out of memory only where there is more room.

        False if that has been tried, or if we are to stop.
        """
        if self.stopping or not self._count_try(stage.key):
            return False
        place = worker.seat.slot.name
        if end["cause"] == "oom":
            self.cramped.append((stage, Room(worker.seat.slot.gpu, worker.seat.free)))
            told = f"out of memory on {place}; once more where there is more room"
        else:
            self.schedule.again(stage.key)
            told = f"{place} failed: {end['reason']}; trying again"
        self._warn(f"{stage.title}: {told}")
        return True

    def _report_end(self, stage: Stage, end: dict[str, Any]) -> None:
        if end["outcome"] == "failed":
            self.failures[stage.key] = str(end.get("reason") or "")
        told = {k: end.get(k) for k in ("outcome", "reason", "seconds", "tee", "peak_bytes")}
        self.events.emit("end", key=stage.key, title=stage.title, kind=stage.kind, **told)

    def _write_exit(self, stage: Stage, end: dict[str, Any]) -> None:
        """Of an attempt whose worker could not; on a full disk we may not either."""
        folder = self.run.folder / "attempts" / f"{stage.key[:16]}.lost"
        told = {"stage": stage.key, "attempt": 1 << 30, "title": stage.title, "t": time.time()}
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            write_json(folder / "exit.json", {"v": 1, **told, **end}, durable=False)

    def _count_try(self, key: str) -> bool:
        """Count a failed try; whether there is another."""
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key] < TRIES

    def _bury(self, worker: WorkerProcess) -> None:
        """A worker's pipe closed: it ended, or it died under a stage."""
        stage = worker.stage
        if stage is None:
            return
        self.run.store.sweep()  # what it was making
        record = self.run.store.record(stage.key)
        if record is not None:  # it died after the commit, before it could say so
            fate = _fate_of(record)
            outcome = "na" if fate == "n/a" else fate
            end = {"outcome": outcome, "reason": record.na or "", "seconds": record.seconds}
            self._report_end(stage, end | {"tee": record.tee})
            self.schedule.settle(stage.key, fate)
            return
        code = worker.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        reason = f"the worker died ({how}); see {self.post.folder / 'workers.log'}"
        if self.stopping:
            return
        if self._count_try(stage.key):
            self._warn(f"{stage.title}: {reason}; trying again")
            self.schedule.again(stage.key)
            return
        end = {"outcome": "failed", "reason": reason, "seconds": 0.0, "tee": 0.0}
        self._write_exit(stage, end)
        self._report_end(stage, end)
        self.schedule.settle(stage.key, "failed")

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
        self._warn(f"{title}: damaged in the store, computing it again")

    def _warn(self, text: str) -> None:
        self.events.emit("warning", text=text)

    def stop(self, *_: object) -> None:
        """The signal handler: only sets a flag, which the loop sees within a quarter of a second."""
        self.stopping = True


def supervise(
    run: Run,
    resources: Resources,
    post: Post | None = None,
    *,
    ready: Callable[[Supervisor], object],
    tell: Callable[[str, str], object],
) -> str:
    """Work through a run and `tell` outcome and reason, whatever happens; returns the outcome.

    `ready` gets the supervisor before it begins, to stop it by.
    """
    outcome, reason = "failed", ""
    try:
        supervisor = Supervisor(run, Pool(resources.slots(), resources), resources, post)
        ready(supervisor)
        outcome = supervisor.work()
        reason = supervisor.reason(outcome)
    except BadInput as error:
        reason = str(error)
    except Exception as error:
        reason = f"the supervisor failed: {type(error).__name__}: {error}"
        raise
    finally:
        tell(outcome, reason)
    return outcome


def _fate_of(record: Record | None) -> Fate:
    """Of a stage that was tried, by what the store has."""
    if record is None:
        return "failed"
    if record.diverged is not None:
        return "diverged"
    return "n/a" if record.na is not None else "done"
