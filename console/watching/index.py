"""The list of a home's runs, cheap enough to be looked at every second when there are thousands.

A run's folder changes its mtime when a session starts or ends, so only then are its files read
again; runs under way are looked at every time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from console.viewmodel import RunRow, Slot
from engine.jobs import bounded_json
from engine.jobs.events import EXACT, strip_control
from engine.jobs.follow import Follower, Progress, RunTail, progress_of
from engine.jobs.home import Home
from engine.jobs.runs import ID, NOT_SHOWN, Run, listed, why_not_shown
from engine.spec.errors import BadInput

HEAD = 4096  # bytes: the first event tells how many stages there are
MOST = 1 << 20  # bytes of events read at a time


@dataclass
class Entry:
    """What is known of one run, and how to learn more."""

    run: Run
    seen: int  # mtime of the folder when it was read
    row: RunRow
    follower: Follower | None = None
    progress: Progress | None = None
    counted: bool = False


class Index:
    """`scan` now and then; `rows` is the list, newest first, a new tuple whenever it changed."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.rows: tuple[RunRow, ...] = ()
        self.complete = False
        self.ended: tuple[RunRow, ...] = ()
        self.cost = 0.0
        self._entries: dict[str, Entry] = {}
        self._new: deque[tuple[str, int]] = deque()
        self._uncounted: deque[str] = deque()
        self._changed = True

    def scan(self, budget: float = 0.05) -> bool:
        """Look for `budget` seconds (and at least at what runs); whether anything changed."""
        began = time.monotonic()
        if not self._new:
            self._look_for_folders()
        while self._new and time.monotonic() - began < budget:
            name, mtime = self._new.popleft()
            self._read(name, mtime)
        for entry in list(self._entries.values()):
            if entry.row.state == "running":
                self._watch(entry)
        while not self._new and self._uncounted and time.monotonic() - began < budget:
            waiting = self._entries.get(self._uncounted.popleft())
            if waiting is not None and not waiting.counted:
                self._count(waiting)
        self.complete = self.complete or not self._new
        changed, self._changed = self._changed, False
        if changed:
            rows = (entry.row for entry in self._entries.values())
            self.rows = tuple(sorted(rows, key=lambda row: (-row.created, row.id)))
        self.cost = time.monotonic() - began
        return changed

    @property
    def busy(self) -> bool:
        """Whether there is something left to read right now."""
        return bool(self._new or self._uncounted)

    def entry(self, run_id: str) -> Entry | None:
        return self._entries.get(run_id)

    def _look_for_folders(self) -> None:
        found: dict[str, int] = {}
        try:
            with os.scandir(self.home.runs) as folders:
                for folder in folders:
                    if ID.fullmatch(folder.name):
                        try:
                            found[folder.name] = folder.stat(follow_symlinks=False).st_mtime_ns
                        except OSError:
                            continue
        except OSError:
            found = {}
        for name in self._entries.keys() - found.keys():
            del self._entries[name]
            self._changed = True
        fresh = [
            (name, mtime)
            for name, mtime in found.items()
            if name not in self._entries or self._entries[name].seen != mtime
        ]
        self._new.extend(sorted(fresh, key=lambda pair: -pair[1]))

    def _read(self, name: str, mtime: int) -> None:
        old = self._entries.get(name)
        run = Run(self.home, name)
        row = _row(run)
        if row is None:  # not a run, or not yet
            self._entries.pop(name, None)
            return
        self._changed = True
        entry = self._entries[name] = Entry(run, mtime, row)
        if row.state == "running":
            self._watch(entry)
        else:
            self._uncounted.append(name)
        if old is not None and old.row.state == "running" != row.state:
            self._count(entry)
            self.ended = (*self.ended[-99:], entry.row)

    def _watch(self, entry: Entry) -> None:
        """Bring a run that is under way up to date."""
        if not entry.run.supervised():
            entry.seen = -1  # read it again at the next scan
            self._new.append((entry.run.id, _mtime(entry.run.folder)))
            return
        if entry.progress is None:
            entry.follower = Follower(entry.run)
            try:
                entry.progress = progress_of(entry.run)
            except NOT_SHOWN:
                entry.progress = Progress({})
        assert entry.follower is not None
        progress = entry.progress
        for event in entry.follower.poll(MOST):
            with contextlib.suppress(*NOT_SHOWN):  # of another version
                progress.take(event)
        row = replace(
            entry.row,
            total=progress.total,
            done=len(progress.done),
            failed=len(progress.failed),
            share=progress.share,
            seconds_left=progress.seconds_left() if progress.total else None,
            slots=_slots(progress),
            problem=_line(entry.run.reason()),
        )
        if row != entry.row:
            entry.row = row
            self._changed = True

    def _count(self, entry: Entry) -> None:
        """Stages of a run that is not under way: of a finished one the first event says it."""
        entry.counted = True
        try:
            if entry.row.state == "done":
                total = _stages_at_start(entry.run.events)
                row = replace(entry.row, total=total, done=total, share=1.0)
            elif entry.row.state == "queued":
                row = replace(entry.row, **_stored(entry.run))
            elif entry.row.state == "unreadable":
                return
            else:
                row = replace(entry.row, **_tally(entry.run))
        except NOT_SHOWN as error:
            row = replace(entry.row, problem=_line(why_not_shown(error)))
        if row != entry.row:
            entry.row = row
            self._changed = True


def _row(run: Run) -> RunRow | None:
    """A run's line, without its counts."""
    try:
        facts = run.facts
        return RunRow(
            run.id,
            _line(facts.get("name") or run.id),
            _line(facts.get("title") or ""),
            run.state(),
            float(facts.get("created", 0.0)),
            _line(facts.get("device") or ""),
            problem=_line(run.reason()),
            origin=_line(run.imported["host"]) if run.imported is not None else "",
        )
    except NOT_SHOWN as error:
        if not listed(run):
            return None
        return RunRow(run.id, run.id, state="unreadable", problem=_line(why_not_shown(error)))


def _line(value: Any) -> str:
    """One safe line of at most 500 characters."""
    return " ".join(strip_control(str(value)).split())[:500]


def _mtime(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _stages_at_start(events: Path) -> int:
    try:
        with events.open("rb") as file:
            first = bounded_json.parse(file.read(HEAD).split(b"\n")[0])
        return _int(first["data"]["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _stored(run: Run) -> dict[str, Any]:
    """Of a run never started: what the store has. It is done when nothing is missing."""
    try:
        stages = run.plan.stages
        progress = progress_of(run)
        ended, share = len(progress.done), progress.share
    except (BadInput, OSError) as error:
        return {"problem": _line(error)}
    state = "done" if stages and ended == len(stages) else "queued"
    return {"total": len(stages), "done": ended, "share": share, "state": state}


def _tally(run: Run) -> dict[str, Any]:
    """Stages ended and failed in the last session, and why the last one failed."""
    total = cached = 0
    ended: set[str] = set()
    failed: dict[str, str] = {}
    tail = RunTail(run)
    while True:
        for event in tail.read(MOST):
            data = event["data"]
            if event["kind"] == "start" and "key" not in data:
                total, cached = _int(data.get("stages")), _int(data.get("cached"))
                ended.clear()
                failed.clear()
            elif event["kind"] == "end" and "key" in data:
                key, outcome = str(data["key"]), data.get("outcome")
                if outcome == "failed":
                    failed[key] = f"{data.get('title')}: {data.get('reason')}"
                elif outcome != "stopped":
                    ended.add(key)
        if not tail.behind:
            break
    told: dict[str, Any] = {"total": total, "done": cached + len(ended), "failed": len(failed)}
    with contextlib.suppress(BadInput, OSError):  # a run whose plan is gone has no bar
        told["share"] = _share(run, ended, failed)
    if failed:
        told["problem"] = _line(list(failed.values())[-1])
    return told


def _share(run: Run, ended: Iterable[str], failed: dict[str, str]) -> float:
    """How far a run is that nobody works at."""
    progress = progress_of(run)
    progress.settle(ended, failed)
    return progress.share


def _slots(progress: Progress) -> tuple[Slot, ...]:
    """What each slot does, those with a stage first."""
    busy = sorted(progress.active.items(), key=lambda pair: pair[1].slot)
    return (
        *(Slot(_line(a.slot), _line(a.title), key, a.share, a.since) for key, a in busy),
        *(Slot(_line(name), _line(words)) for name, words in progress.idle()),
    )


def _int(value: Any) -> int:
    return value if type(value) is int and 0 <= value < EXACT else 0
