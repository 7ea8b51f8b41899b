"""A worker: one process on one device slot, which loads torch once and runs stage after stage.

    supervisor → worker (stdin):   {"run": folder, "stage": {…}}            one line a stage
    worker → supervisor (fd):      {"started": key, "attempt": n}, {"ended": key, "outcome": …}
                                   with a "cause" where the process should not be used again

The only door from the job engine into the lab. It ends when its stdin closes, so it never outlives
its supervisor by more than the stage under way, whose result it still commits.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from engine.jobs.checkpoints import EVERY, CannotResume, Checkpoints, Clock, Keeper
from engine.jobs.crashpoints import crash_here
from engine.jobs.events import EventWriter
from engine.jobs.home import make_private, write_json
from engine.jobs.lease import Lease
from engine.jobs.machines import cpu_kind
from engine.jobs.stage_warnings import StageWarnings
from engine.jobs.store import Damaged, Store, Work
from engine.jobs.suitability import Suitability
from engine.spec.errors import BadInput
from engine.spec.planned import Stage

T = TypeVar("T")
HEARTBEAT = 10.0  # seconds between signs of life
# How an attempt ended → its last event; anything else is an error.
FINAL_EVENTS = {"done": "end", "na": "end", "diverged": "end", "stopped": "stopped"}


class Worker:
    def __init__(self, store: Store, device: str, threads: int, reply: int) -> None:
        self.store = store
        self.device = device
        self.threads = threads
        self.reply = reply
        self.stopping = False
        self.kept: dict[str, Any] = {}  # what stages share; one at a time
        self.one_kind = False
        self.lasting: tuple[int, str] = (0, "")  # modules and what is kept, as last looked at
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to pass on

    def _on_signal(self, *_: object) -> None:
        self.stopping = True  # nothing else: a handler may run in the middle of an import

    def serve(self) -> None:
        """Run what comes in on stdin until it closes or we are told to stop."""
        self.env = prepare_torch(self.device, self.threads)
        self.suitability = Suitability(self.env, self.store)
        self.tell(ready=True)
        for line in sys.stdin:
            order = json.loads(line)
            stage = Stage(**order["stage"] | {"after": tuple(order["stage"]["after"])})
            every = float(order.get("checkpoint_seconds", EVERY))
            self.one_kind = order.get("one_kind") is True
            self.tell(**self._run_or_say_why(Path(order["run"]), stage, every))
            if self.stopping:
                return
            self._release_memory()

    def _release_memory(self) -> None:
        """Give back what a stage left, so that the thousandth finds as much room as the first.

        Objects of modules are the most there are, and they stay: looking at them all again would
        cost 30 ms a stage, more than all else that is done between two.
        """
        lasting = len(sys.modules), next(iter(self.kept), "")
        if lasting != self.lasting:
            gc.unfreeze()  # what was kept until now may be garbage
        gc.collect()
        if lasting != self.lasting:
            gc.freeze()
            self.lasting = lasting
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()  # another worker on this GPU may need it

    def tell(self, **message: Any) -> None:
        # The supervisor may be gone; the stage's result is in the store all the same.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.reply, json.dumps(message).encode() + b"\n")

    def _run_or_say_why(self, run_folder: Path, stage: Stage, every: float) -> dict[str, Any]:
        try:
            return self.run(run_folder, stage, every)
        except OSError as problem:  # a full disk: no room for a lease, a log, a work folder
            reason = (
                f"cannot begin: {problem.strerror or problem} ({problem.filename or run_folder})"
            )
            told = {"outcome": "failed", "reason": reason, "seconds": 0.0, "tee": 0.0}
            return {"ended": stage.key, **told, "untold": True}

    def run(self, run_folder: Path, stage: Stage, every: float = EVERY) -> dict[str, Any]:
        """One attempt at a stage: lease, compute, commit. Returns the message about its end.

        It keeps a checkpoint `every` so many seconds.
        """
        lease = Lease.acquire(self.store.leases, stage.key)
        if lease is None:
            return {"ended": stage.key, "outcome": "held", "reason": "another process computes it"}
        crash_here("lease taken")
        with lease:
            if self.store.check(stage.key) == "ok":
                return {"ended": stage.key, "outcome": "cached", "reason": ""}
            folder = run_folder / "attempts" / f"{stage.key[:16]}.{lease.attempt}"
            make_private(folder)
            self.tell(started=stage.key, attempt=lease.attempt)
            crash_here("attempt begun")
            with (
                EventWriter(folder / "events.jsonl", stage.key, lease.attempt) as events,
                output_to(folder / "output.log"),
                heartbeats(lease, events),
            ):
                events.emit("start", title=stage.title, kind=stage.kind, device=self.device)
                end = self._attempt(stage, lease, events, folder, every)
                final = FINAL_EVENTS.get(end["outcome"], "error")
                events.emit(final, **end)
            crash_here("committed")
            told = {"stage": stage.key, "attempt": lease.attempt, "title": stage.title, **end}
            with contextlib.suppress(OSError):  # a full disk: the supervisor hears it all the same
                write_json(folder / "exit.json", {"v": 1, "t": time.time(), **told}, durable=False)
            crash_here("exit written")
            return {"ended": stage.key, **end}

    def _attempt(
        self, stage: Stage, lease: Lease, events: EventWriter, folder: Path, every: float
    ) -> dict[str, Any]:
        from engine.lab.context import Diverged, Failed, NotApplicable, Stopped

        outcome, reason, na, tee, cause = "done", "", None, 0.0, {}
        diverged: int | None = None
        checkpoints = Checkpoints(self.store.checkpoints, stage.key)
        with self.store.begin(stage.key, lease.attempt) as work:
            warnings = StageWarnings(events)
            context = StageContext(self, stage, work, events, warnings)
            clock = Clock(context.carried_seconds())
            context.keeper = Keeper(
                checkpoints, lease.attempt, events, clock, every,
                elsewhere=lambda error: cause_of(error) != "error", warnings=warnings,
            )  # fmt: skip
            try:
                context.raise_if_stopped()
                if unfit := self.suitability.refusal(stage, folder.parents[1], self.one_kind):
                    raise Failed(unfit)
                try:
                    tee = compute(stage, context)
                except NotApplicable as why:
                    outcome, reason, na = "na", str(why), str(why)
                except Diverged as why:  # so it would again: an outcome, not a failure
                    outcome, reason, na, diverged = "diverged", str(why), str(why), why.step
                committed = work.commit(
                    kind=stage.kind,
                    title=stage.title,
                    seconds=clock.whole(),
                    tee=tee,
                    na=na,
                    diverged=diverged,
                    env=self.env,
                    config=stage.config,
                    inputs=stage.inputs,
                    warnings=warnings.texts,
                    fence=lease.still_ours,
                )
                if not committed and self.store.check(stage.key) == "ok":
                    outcome, reason = "cached", "another process was first"
                elif not committed:
                    outcome, reason = "failed", "the lease was lost before the result was committed"
                if outcome != "failed":
                    checkpoints.clear()
            except Stopped:
                outcome, reason = "stopped", "asked to stop"
            except Damaged as damage:
                return self._end("damaged", str(damage), clock, 0.0) | {"damaged": damage.key}
            except (Failed, BadInput) as why:
                outcome, reason = "failed", str(why)
            except Exception as error:
                traceback.print_exc()
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(last.filename).name}:{last.lineno}"
                told = str(error).strip().split("\n")[0][:300]
                outcome, cause = "failed", {"cause": cause_of(error)}
                reason = f"{type(error).__name__}: {told} ({place}; {folder / 'output.log'})"
        return self._end(outcome, reason, clock, tee) | cause

    def _end(self, outcome: str, reason: str, clock: Clock, tee: float) -> dict[str, Any]:
        return {
            "outcome": outcome,
            "reason": reason,
            "seconds": clock.own(),
            "tee": tee,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def compute(stage: Stage, context: StageContext) -> float:
    """Run a stage, anew for each checkpoint that turns out unusable. Returns its TEE."""
    from engine.lab.stages import RUN

    while True:
        try:
            return RUN[stage.kind](stage.config, context)
        except CannotResume:
            continue  # that checkpoint is gone, so this has an end


class StageContext:
    """`engine.lab.context.Context` for one attempt."""

    keeper: Keeper

    def __init__(
        self,
        worker: Worker,
        stage: Stage,
        work: Work,
        events: EventWriter,
        warnings: StageWarnings,
    ) -> None:
        self.device = worker.device
        self._worker = worker
        self._stage = stage
        self._work = work
        self._events = events
        self._warnings = warnings
        self._last: dict[str, float] = {}

    @property
    def folder(self) -> Path:
        return self._work.path

    def key(self, role: str) -> str | None:
        if role == "previous":
            for key in self._stage.after:
                record = self._worker.store.record(key)
                if record is not None and record.na is None:
                    return key
            return None
        return self._stage.inputs.get(role)

    def carried_seconds(self) -> float:
        """Seconds of the snapshot this stage goes on from: costs are told for whole trajectories."""
        key = self.key("previous")
        record = self._worker.store.record(key) if key is not None else None
        return record.seconds if record is not None else 0.0

    def file(self, role: str, name: str) -> Path:
        key = self.key(role)
        if key is None:
            raise KeyError(f"stage {self._stage.title} has no input {role!r}")
        return self._worker.store.verify_file(key, name)

    def shared(self, key: str, make: Callable[[], T]) -> T:
        kept = self._worker.kept
        if key not in kept:
            kept.clear()  # one data set at a time: the next may need the room
            kept[key] = make()
        value: T = kept[key]
        return value

    def phase(self, name: str) -> None:
        self._events.emit("phase", name=name)

    def progress(self, done: int, total: int) -> None:
        self._events.emit("progress", done=done, total=total)

    def metric(self, name: str, step: int, value: float) -> None:
        self._events.emit("metric", name=name, step=step, value=value)

    def probe(self, name: str, step: int, data: dict[str, Any]) -> None:
        self._events.emit("probe", name=name, step=step, **data)

    def warn(self, text: str) -> None:
        self._warnings.give(text)

    def due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, -1e9) < seconds:
            return False
        self._last[what] = now
        return True

    def raise_if_stopped(self) -> None:
        if self._worker.stopping:
            from engine.lab.context import Stopped

            raise Stopped

    def checkpoint(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        from engine.lab.context import NotKept

        if self.keeper.due(self._worker.stopping):
            with contextlib.suppress(NotKept):
                self.keeper.keep(loop, step, save)
        self.raise_if_stopped()

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        return self.keeper.resume(loop, load)


def prepare_torch(device: str, threads: int) -> dict[str, Any]:
    """Import torch, make it deterministic, and say what it is."""
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    # Operations without a deterministic version warn rather than stop a run of two days.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    env: dict[str, Any] = {"torch": torch.__version__, "device": device, "threads": threads}
    env["cpu"] = cpu_kind()
    if device == "cuda":
        env["gpu"] = torch.cuda.get_device_name()
    return env


def cause_of(error: Exception) -> str:
    """What kind of failure an exception is that no stage foresees.

    "oom": memory ran out, which more room may cure. "device": the GPU failed, and this process
    cannot use it any more. "error": anything else.
    """
    import torch

    oom = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    told = str(error)
    signs = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
    if isinstance(error, MemoryError | oom) or any(sign in told for sign in signs):
        return "oom"
    if "CUDA error" in told or isinstance(error, getattr(torch, "AcceleratorError", ())):
        return "device"
    return "error"


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send everything this process prints, also from C, to a file of the attempt's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), before, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        os.close(target)


@contextlib.contextmanager
def heartbeats(lease: Lease, events: EventWriter) -> Iterator[None]:
    """Signs of life while a stage computes, from a thread."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            lease.heartbeat()
            events.emit("heartbeat")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--reply", type=int, required=True)
    options = parser.parse_args()
    Worker(Store(options.store), options.device, options.threads, options.reply).serve()
    # Nothing is left to do, and to take torch apart first would keep the place for half a second.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
