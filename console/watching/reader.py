"""The one thread that reads files for the console, and publishes what it knows as a Snapshot.

Screens say what they want to know (`open`, `want`, `want_text`) and look at `snapshot`; what takes
time and is not painting can be handed over with `do`. The thread is a daemon and holds nothing
that anybody else needs: it may die with the process at any moment.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from console.viewmodel import OpenRun, RunRow, Snapshot
from console.watching.index import Index
from console.watching.machine import Meters
from console.watching.textlog import TextTail
from engine.jobs.events import strip_control
from engine.jobs.home import Home
from engine.jobs.runs import ID, Run

LIST_EVERY, METERS_EVERY = 1.0, 2.0  # seconds
PROBLEM_STAYS = 5.0  # seconds for people to read it
SHARE = 25  # of the time at most a 25th goes into looking through the list of runs


class Reader:
    def __init__(self, home: Home, interval: float = 0.1) -> None:
        self.home = home
        self.interval = interval
        self.snapshot = Snapshot(home=home.root)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._over = False
        self._jobs: list[Callable[[], object]] = []
        self._index = Index(home)
        self._meters = Meters()
        self._open_id: str | None = None
        self._feed: object = None  # console.watching.feed.Feed, whose import costs half a second
        self._opened: OpenRun | None = None
        self._want: tuple[tuple[str, ...], str] = ((), "loss")
        self._text: TextTail | None = None
        self._problem, self._problem_since = "", 0.0
        self._next_list = self._next_meters = 0.0
        self._thread = threading.Thread(target=self._work, name="chelate-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, wait: float = 2.0) -> None:
        self._over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(wait)

    # --- what screens ask for --------------------------------------------------------------------

    def open(self, run_id: str | None) -> None:
        """Read this run from now on."""
        if run_id is None or ID.fullmatch(run_id):
            self._open_id = run_id
            self._wake.set()

    def want(self, tracks: tuple[str, ...], metric: str) -> None:
        """The curves and looks of these tracks of the open run, the first one's looks."""
        if (tracks, metric) != self._want:
            self._want = (tracks, metric)
            self._wake.set()

    def want_text(self, path: Path | None) -> None:
        """The end of this text file."""
        with self._lock:
            if path is None:
                self._text = None
            elif self._text is None or self._text.path != path:
                self._text = TextTail(path)
        self._wake.set()

    def do(self, job: Callable[[], object]) -> None:
        """Have the thread do something; what it raises is shown as a problem."""
        with self._lock:
            self._jobs.append(job)
        self._wake.set()

    def refresh(self) -> None:
        """Look through the list of runs now."""
        self._next_list = 0.0
        self._wake.set()

    # --- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._over:
            self._wake.clear()
            began = time.monotonic()
            try:
                more = self._pass()
            except Exception as error:  # a reader that died in silence would look like a quiet run
                more = False
                self._problem, self._problem_since = _told(error), time.monotonic()
                self._publish()
            # Whoever is behind goes on at once, but lets the painting have its turn.
            pause = 0.005 if more else max(0.02, self.interval - (time.monotonic() - began))
            self._wake.wait(pause)

    def _pass(self) -> bool:
        with self._lock:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            job()
        changed = False
        now = time.monotonic()
        if now >= self._next_list:
            changed |= self._index.scan()
            wait = 0.0 if self._index.busy else max(LIST_EVERY, SHARE * self._index.cost)
            self._next_list = now + wait
        if now >= self._next_meters:
            machine = self._meters.read()
            changed |= machine != self.snapshot.machine
            self._next_meters = now + METERS_EVERY
        else:
            machine = self.snapshot.machine
        opened = self._read_open()
        changed |= opened is not self._opened
        self._opened = opened
        with self._lock:
            text = self._text
        if text is not None:
            text.poll()
        changed |= (text.log if text else None) is not self.snapshot.text
        if self._problem and time.monotonic() - self._problem_since > PROBLEM_STAYS:
            self._problem, changed = "", True
        if changed or self.snapshot.loading:
            self._publish(machine=machine, text=text.log if text else None)
        return bool(jobs or self._index.busy or getattr(self._feed, "behind", False))

    def _read_open(self) -> OpenRun | None:
        """The open run as it is now; the same object when nothing changed."""
        wanted = self._open_id
        if wanted is None:
            self._feed = None
            return None
        from console.watching.feed import Feed

        feed = self._feed
        fresh = not isinstance(feed, Feed) or feed.run.id != wanted
        if fresh or not isinstance(feed, Feed):
            feed = self._feed = Feed(Run(self.home, wanted))
        feed.want(*self._want)
        news = feed.poll()
        row = self._row(wanted)
        old = self._opened
        if old is not None and not (fresh or news) and old.row == row and self._told == self._want:
            return old
        self._told = self._want
        return feed.told(row)

    _told: tuple[tuple[str, ...], str] | None = None

    def _row(self, run_id: str) -> RunRow | None:
        entry = self._index.entry(run_id)
        if entry is None and not self._index.complete:
            return RunRow(run_id, run_id, state="reading")
        return entry.row if entry else None

    def _publish(self, **changed: object) -> None:
        old = self.snapshot
        self.snapshot = Snapshot(
            old.serial + 1,
            time.time(),
            self.home.root,
            self._index.rows,
            not self._index.complete,
            changed.get("machine", old.machine),  # type: ignore[arg-type]
            self._opened,
            self._index.ended,
            changed.get("text", old.text),  # type: ignore[arg-type]
            self._problem,
        )


def _told(error: Exception) -> str:
    place = traceback.extract_tb(sys.exc_info()[2])[-1]
    told = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return strip_control(told)[:300]
