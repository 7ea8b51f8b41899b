"""An app with one screen of the console in it: what the screen needs of the app, and no more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from console.screens.base import ConsoleScreen
from console.viewmodel import RunRow, Snapshot
from console.widgets import SpanApp
from engine.jobs import runs
from engine.jobs.home import Home

PATIENCE = 20.0  # seconds; only ever reached when something hangs


class Host(SpanApp[None]):
    """`tick` publishes the home as it is now."""

    CSS = "#too-small { display: none; }"
    read_only = ascii = False

    def __init__(self, screen: ConsoleScreen, home: Home) -> None:
        super().__init__()
        self.shown, self.place = screen, home
        self.snapshot = Snapshot()
        self.watched: list[str] = []
        self.said: list[str] = []
        self.open_id: str | None = None
        self.marked: set[str] = set()

    def came_to_front(self, screen: ConsoleScreen) -> None:
        pass

    def open_first(self, snapshot: Snapshot) -> None:
        if self.open_id is None and snapshot.runs:
            self.open_id = snapshot.runs[0].id

    def watch_run(self, run_id: str) -> None:
        self.watched.append(run_id)

    def notify(self, message: str, **_: Any) -> None:
        self.said.append(message)

    def on_mount(self) -> None:
        self.push_screen(self.shown)

    def tick(self) -> None:
        rows = tuple(
            RunRow(run.id, title=str(run.facts.get("title")), state=run.state())
            for run in runs.every(self.place)
        )
        self.snapshot = Snapshot(
            self.snapshot.serial + 1, time.time(), self.place.root, rows, loading=False
        )
        self.shown.publish(self.snapshot)


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str = "") -> None:
    """Wait until the screen is as expected, however slow the machine."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain: {what}"
        await pilot.pause(0.02)


Body = Callable[[Pilot[Any], Host], Awaitable[None]]
