"""The jobs of a run that is computed by a cluster, known from files that any node can read.

runs/<id>/slurm/<n>/submitted.json        the n-th submission: Slurm's job, how many, when
runs/<id>/slurm/<n>/job.sh, *.out         the batch script, what the jobs printed
runs/<id>/slurm/<n>/forgotten.json        Slurm no longer knows jobs that were still to come
runs/<id>/slurm/<n>/jobs/<job>.<start>/   one start of one job, by its only writer:
    events.jsonl  beat (touched while it lives)  session.json (how it ended)  workers.log

Slurm starts a job again when it was pre-empted, and sometimes twice at once. So each start has a
folder of its own, and whatever a start computes counts only by what it commits to the store.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.jobs.events import EventTail
from engine.jobs.home import make_private, write_json
from engine.jobs.lease import process_identity

BEAT = 10.0  # seconds between signs of life
LOOK = 2.0  # seconds between looks at what the other jobs have done
SILENCE = 300.0  # seconds without one, nor a word how it ended, after which a start is given up
FORGOTTEN = "forgotten.json"
WAITS = "waits in Slurm's queue"
JobsState = Literal["queued", "running", "done", "failed", "stopped", "paused", "lost"]


@dataclass(frozen=True)
class Start:
    """One start of one job."""

    folder: Path

    @property
    def job(self) -> str:
        return self.folder.name.partition(".")[0]

    @property
    def order(self) -> tuple[int, ...]:
        """Later starts of a job sort after earlier ones."""
        words = self.folder.name.split(".")[1:]
        return tuple(int(word) if word.isdecimal() else 0 for word in words)

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    def session(self) -> dict[str, Any]:
        """How it ended; {} if it has not said so."""
        with suppress(OSError, ValueError):
            told = json.loads((self.folder / "session.json").read_bytes())
            return told if isinstance(told, dict) else {}
        return {}

    def end(self, outcome: str, reason: str) -> None:
        told = {"v": 1, "outcome": outcome, "reason": reason, "t": time.time()}
        write_json(self.folder / "session.json", told)

    def silence(self) -> float:
        """Seconds since its last sign of life; making the folder is the first."""
        for path in (self.folder / "beat", self.folder):
            with suppress(OSError):
                return time.time() - path.stat().st_mtime
        return SILENCE + 1


@dataclass(frozen=True)
class Submission:
    """One array of jobs for one run."""

    folder: Path

    def facts(self) -> dict[str, Any]:
        """{} until Slurm has taken it, and if the file cannot be read."""
        with suppress(OSError, ValueError):
            told = json.loads((self.folder / "submitted.json").read_bytes())
            return told if isinstance(told, dict) else {}
        return {}

    def starts(self) -> list[Start]:
        return [Start(path) for path in sorted(self.folder.glob("jobs/*.*")) if path.is_dir()]

    def latest(self) -> dict[str, Start]:
        """The last start of each job that has started."""
        found: dict[str, Start] = {}
        for start in sorted(self.starts(), key=lambda start: start.order):
            found[start.job] = start
        return found

    def state(self, stop: bool) -> tuple[JobsState, str]:
        """How it stands, and why, for people. `stop`: it was asked to stop."""
        ended: dict[str, str] = {}
        silent = None
        for job, start in self.latest().items():
            told = start.session()
            if told:
                ended[str(told.get("outcome"))] = str(told.get("reason") or "")
            elif start.silence() <= SILENCE:
                return "running", ""
            else:
                silent = f"job {job} gives no sign of life; see {self.folder}"
        for outcome in ("done", "failed"):
            if outcome in ended:
                return outcome, ended[outcome]  # type: ignore[return-value]
        if stop or "stopped" in ended:
            return "stopped", ended.get("stopped") or "asked to stop"
        if "paused" in ended:
            return "paused", ended["paused"]
        if silent:
            return "lost", silent
        if not ended and not self.facts():
            return "lost", "it never reached Slurm"
        if "idle" in ended and "requeued" not in ended:
            return "lost", "its jobs found nothing left that they could do"
        if (self.folder / FORGOTTEN).exists():
            return "lost", "Slurm no longer knows its jobs; `chelate resume` submits what is left"
        return "queued", WAITS

    def forget(self) -> None:
        """Slurm has: unless one of the jobs does begin after all, they are lost."""
        write_json(self.folder / FORGOTTEN, {"v": 1, "t": time.time()})


def submissions(run: Path) -> list[Submission]:
    """All of a run, the latest last; [] for a run that never went to a cluster."""
    folders = [path for path in (run / "slurm").glob("*") if path.name.isdecimal()]
    return [Submission(path) for path in sorted(folders, key=lambda path: int(path.name))]


def event_files(run: Path) -> Iterator[Path]:
    """What the jobs of a run tell, of all submissions."""
    for submission in submissions(run):
        for start in submission.starts():
            yield start.events


def begin_submission(run: Path) -> Submission:
    """A new folder for one."""
    make_private(run / "slurm")
    number = max((int(s.folder.name) for s in submissions(run)), default=0)
    while True:
        number += 1
        with suppress(FileExistsError):
            (run / "slurm" / str(number)).mkdir(mode=0o700)
            break
    made = Submission(run / "slurm" / str(number))
    make_private(made.folder / "jobs")
    return made


class Others:
    """What the other starts of a submission say has ended, read as they tell it."""

    def __init__(self, submission: Submission, own: Start) -> None:
        self._submission = submission
        self._own = own
        self._tails: dict[Path, EventTail] = {}
        self._next = 0.0

    def ended(self) -> list[dict[str, Any]]:
        """The data of new `end` events of stages; looks at most every LOOK seconds."""
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + LOOK
        for start in self._submission.starts():
            if start != self._own and start.events not in self._tails:
                self._tails[start.events] = EventTail(start.events)
        events = (event for tail in self._tails.values() for event in tail.read())
        return [e["data"] for e in events if e["kind"] == "end" and "key" in e["data"]]


class Sign:
    """The signs of life of one start, from a thread. A context manager."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._touch()

    def _touch(self) -> None:
        with suppress(OSError):  # a full disk: the next one may work
            (self.start.folder / "beat").touch()
            os.utime(self.start.folder / "beat")

    def __enter__(self) -> Start:
        self._touch()
        self._thread.start()
        return self.start

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def begin_start(submission: Submission, job: str, restart: str) -> Start:
    """A folder for this start that nobody else writes to, also when Slurm starts a job twice."""
    parent = submission.folder / "jobs"
    for number in range(1000):
        start = Start(parent / f"{job}.{restart}.{number}")
        with suppress(FileExistsError):
            start.folder.mkdir(mode=0o700)
            write_json(start.folder / "process.json", {"v": 1, **process_identity()._asdict()})
            return start
    raise FileExistsError(f"{parent}: job {job} was started a thousand times")
