"""Runs: every run of this home folder, and what can be done with it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from console.screens.steering import SteeringScreen
from console.themes import TONES, progress_bar, sign
from console.viewmodel import RunRow, Snapshot, fuzzy
from console.widgets import Cell, Column, Row
from console.widgets.lists import FilterLine, Rows
from console.widgets.table import Table

COLUMNS = (
    Column("state", "state", 9, 9, priority=9),
    Column("run", "run", 34, 20, priority=8, grow=1),
    Column("progress", "progress", 23, 21, priority=7),
    Column("left", "left", 8, 7, "right", priority=6),
    Column("device", "device", 6, 6, priority=4),
    Column("created", "created", 12, 11, priority=5),
    Column("title", "what", 40, 24, priority=1, grow=2),
)
SORTS = (None, ("state", False), ("run", False), ("left", False), ("created", True))
RANK = {"running": 0, "failed": 1, "lost": 2, "unreadable": 3, "stopped": 4, "paused": 5,
        "queued": 6, "done": 7}  # fmt: skip
BAR = 8


class RunsScreen(SteeringScreen):
    MODE: ClassVar[str] = "runs"
    HELP: ClassVar[str] = (
        "Every run of the home folder, the newest first. A run is an experiment on its way through "
        "its stages; it lives in processes of its own, so closing this console changes nothing. "
        "“lost” means that its supervisor is gone without saying how it ended: resume goes on. An "
        "imported run was computed on another machine, and can only be looked at."
    )
    CSS_PATH = "runs.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._shown: object = None
        self._cache: dict[str, tuple[RunRow, Row]] = {}
        self._filter = ""
        self._snapshot = Snapshot()

    def body(self) -> ComposeResult:
        yield FilterLine("filter: letters in this order", id="runs-filter")
        yield Rows(COLUMNS, empty="reading …", marks=True, ascii=self.chelate.ascii, id="runs")
        yield Static("", id="runs-facts", markup=False)

    @property
    def table(self) -> Rows:
        return self.query_one("#runs", Rows)

    def on_mount(self) -> None:
        self.table.marked = self.chelate.marked
        self.table.focus()

    # --- showing ---------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        key = (snapshot.runs, snapshot.loading, self._filter)
        if key == self._shown:
            return
        self._shown = key
        table = self.table
        rows = snapshot.runs
        if self._filter:
            rows = tuple(r for r in rows if fuzzy(self._filter, f"{r.id} {r.state} {r.title}"))
            table.empty = "no run matches; escape in the filter shows all"
        elif snapshot.loading:
            table.empty = "reading …"
        else:
            table.empty = f"No runs in {snapshot.home} yet."
            if not self.chelate.read_only:
                table.empty += (
                    "\n4 composes one; `chelate run quickstart` runs the shipped example."
                )
        table.update(self._row(row) for row in rows)
        if self._cache.keys() - {row.id for row in snapshot.runs}:
            self._cache = {row.id: self._cache[row.id] for row in rows if row.id in self._cache}
        self._tell()

    def _row(self, row: RunRow) -> Row:
        known = self._cache.get(row.id)
        if known is not None and known[0] == row:
            return known[1]
        ascii_ = self.chelate.ascii
        tone = TONES.get(row.state, "")
        progress = ""
        if row.total:
            count = f"{row.done + row.failed}/{row.total}"
            progress = f"{progress_bar(row.share, BAR, ascii_)} {row.share:4.0%} {count}"
        made = Row(
            row.id,
            {
                "state": Cell(f"{sign(row.state, ascii_)} {row.state}"[:10], tone),
                "run": row.id,
                "progress": Cell(progress, "bad" if row.failed else ""),
                "left": "" if row.seconds_left is None else short_duration(row.seconds_left),
                "device": Cell(row.device, "muted"),
                "created": Cell(moment(row.created), "muted"),
                "title": Cell(row.problem or _title(row), "warn" if row.problem else "muted"),
            },
            {"state": RANK.get(row.state, 9), "left": row.seconds_left, "created": row.created},
        )
        self._cache[row.id] = (row, made)
        return made

    def _tell(self) -> None:
        """What there is to say about the run of the cursor."""
        row = self.run_at_hand()
        if row is None:
            text = ""
        else:
            told = row.problem or (f"now: {row.stage}" if row.stage else _title(row))
            failed = f"{row.failed} stages failed. " if row.failed else ""
            text = f"{row.id}\n{failed}{told}"
        self.query_one("#runs-facts", Static).update(text)

    def run_at_hand(self) -> RunRow | None:
        key = self.table.cursor_key
        return self._snapshot.run(key) if key is not None else None

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        self._tell()

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        self.action_open()

    def on_filter_line_typed(self, event: FilterLine.Typed) -> None:
        self._filter = event.value.strip()
        self.publish(self._snapshot)

    # --- doing -----------------------------------------------------------------------------------

    def action_open(self) -> None:
        row = self.run_at_hand()
        if row is not None:
            self.chelate.watch_run(row.id)

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    def action_sort(self) -> None:
        table = self.table
        at = SORTS.index(table.sort) if table.sort in SORTS else 0
        column, descending = SORTS[(at + 1) % len(SORTS)] or (None, False)
        table.sort_by(column, descending)

    def action_mark(self) -> None:
        self.table.action_mark()
        self.table.action_move(1)

    def action_unmark_all(self) -> None:
        self.chelate.marked.clear()
        self.table.update(list(self.table.rows))

    def action_archive(self) -> None:
        self.steer("archive")

    def action_delete(self) -> None:
        self.steer("delete")

    def action_copy(self) -> None:
        row = self.run_at_hand()
        if row is not None:
            self.app.copy_to_clipboard(row.id)
            self.say(f"copied {row.id}")

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return {"table": self.table.state(), "filter": self._filter}

    def restore(self, told: dict[str, Any]) -> None:
        if isinstance(told.get("table"), dict):
            self.table.restore(told["table"])
        if isinstance(told.get("filter"), str) and told["filter"]:
            self.query_one(FilterLine).value = told["filter"]


def _title(row: RunRow) -> str:
    return f"imported from {row.origin}: {row.title}" if row.origin else row.title


def short_duration(seconds: float) -> str:
    """At most seven columns: 45 s, 3m12s, 2h05m, 3d04h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def moment(t: float) -> str:
    """When: the time of day for the last day, else the date."""
    if not t:
        return ""
    recent = abs(time.time() - t) < 20 * 3600
    return time.strftime("%H:%M:%S" if recent else "%Y-%m-%d", time.localtime(t))
