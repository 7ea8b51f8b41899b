"""Logs: what every attempt of the open run printed and reported, and its supervisor's own log."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Static

from console.screens.base import ConsoleScreen
from console.screens.runs import short_duration
from console.themes import TONES, sign
from console.viewmodel import OpenRun, Snapshot, StageRow
from console.widgets import Cell, Column, Row
from console.widgets.lists import FilterLine, Rows
from console.widgets.table import Table
from console.widgets.textview import TextView

COLUMNS = (
    Column("name", "attempt", 30, 20, priority=9, grow=1),
    Column("attempt", "#", 2, 2, "right", priority=5),
    Column("time", "time", 7, 6, "right", priority=6),
)
OWN = {
    "events": ("supervisor's events", "events.jsonl"),
    "supervisor": ("supervisor.log", "supervisor.log"),
    "workers": ("workers.log", "workers.log"),
}
SOURCES = ("output.log", "events.jsonl")
ORDER = {"failed": 0, "running": 1, "stopped": 2}


class LogsScreen(ConsoleScreen):
    MODE: ClassVar[str] = "logs"
    HELP: ClassVar[str] = (
        "On the list: the supervisor's own files, then every attempt of the open run, failed ones "
        "first, then those under way. o switches between what an attempt printed and its events. "
        "Escape sequences in the files are taken out before they are shown. Of a long file only "
        "the end is read."
    )
    CSS_PATH = "logs.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._snapshot = Snapshot()
        self._source = 0
        self._path: Path | None = None
        self._cursor_to: str | None = None
        self._remembered = ""  # the run that the cursor of last time was in

    def body(self) -> ComposeResult:
        yield Static("", id="logs-head", markup=False)
        yield FilterLine("search", id="logs-search")
        with Container(id="logs-panes"):
            yield Rows(COLUMNS, empty="No run is open.", ascii=self.chelate.ascii, id="attempts")
            yield TextView("log", empty="", ascii=self.chelate.ascii, id="text")
        yield Static("", id="logs-path", markup=False)

    @property
    def table(self) -> Rows:
        return self.query_one("#attempts", Rows)

    @property
    def text(self) -> TextView:
        return self.query_one("#text", TextView)

    def on_mount(self) -> None:
        self.table.focus()

    # --- showing ---------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if snapshot.open is None:
            return
        if self._remembered != snapshot.open.row.id:
            self._cursor_to = None
        self.table.update(self._rows(snapshot.open))
        if self._cursor_to is not None and self._cursor_to in {r.key for r in self.table.rows}:
            self.table.move_to(self._cursor_to)
            self._cursor_to = None
        self._choose(snapshot.open)
        self._head(snapshot.open)
        log = snapshot.text
        if log is None or log.path != self._path:
            return
        self.text.title = f"{log.path.name}{', its end' if log.cut else ''}"
        self.text.show([(line, _level(line)) for line in log.lines], log.start, log.problem)

    def _head(self, told: OpenRun) -> None:
        """Whose file is below: the run, the stage and the attempt at it."""
        key = self.table.cursor_key
        stage = next((s for s in told.stages if s.key == key), None)
        if stage is not None:
            what = f"{stage.title}, attempt {stage.attempt}: {SOURCES[self._source]}"
        else:
            what = OWN[key][0] if key in OWN else ""
        line = self.query_one("#logs-head", Static)
        line.update(f"run {told.row.id}" + (f"  {what}" if what else ""))

    def _rows(self, told: OpenRun) -> list[Row]:
        rows = [Row(key, {"name": Cell(title, "muted")}) for key, (title, _) in OWN.items()]
        tried = [stage for stage in told.stages if stage.attempt]
        return rows + [self._row(s) for s in sorted(tried, key=lambda s: ORDER.get(s.state, 9))]

    def _row(self, stage: StageRow) -> Row:
        text = f"{sign(stage.state, self.chelate.ascii)} {stage.title}"
        return Row(
            stage.key,
            {
                "name": Cell(text, TONES.get(stage.state, "") if stage.state != "done" else ""),
                "attempt": Cell(str(stage.attempt), "muted"),
                "time": short_duration(stage.seconds) if stage.seconds else "",
            },
        )

    def _choose(self, told: OpenRun) -> None:
        """Have the file of the cursor read."""
        folder = self.chelate.home.runs / told.row.id
        key = self.table.cursor_key
        if key is None:
            return
        if key in OWN:
            path = folder / OWN[key][1]
        else:
            stage = next((s for s in told.stages if s.key == key), None)
            if stage is None:
                return
            path = folder / "attempts" / f"{key[:16]}.{stage.attempt}" / SOURCES[self._source]
        if path != self._path:
            self._path = path
            self.text.tail = True
            self.text.show([], 0, "reading …")
            self.chelate.reader.want_text(path)
            self.query_one("#logs-path", Static).update(str(path))

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        if self._snapshot.open is not None and self._cursor_to is None:
            self._choose(self._snapshot.open)
            self._head(self._snapshot.open)

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        self.set_focus(self.text)

    def on_screen_suspend(self) -> None:
        self._path = None
        self.chelate.reader.want_text(None)

    # --- doing -----------------------------------------------------------------------------------

    def action_next_pane(self) -> None:
        self.set_focus(self.text if self.table.has_focus else self.table)

    def action_source(self) -> None:
        self._source = (self._source + 1) % len(SOURCES)
        if self._snapshot.open is not None:
            self._choose(self._snapshot.open)
            self._head(self._snapshot.open)

    def action_search(self) -> None:
        self.query_one(FilterLine).open()

    def on_filter_line_typed(self, event: FilterLine.Typed) -> None:
        self.text.search(event.value)

    def action_next_hit(self) -> None:
        self._hit(1)

    def action_last_hit(self) -> None:
        self._hit(-1)

    def _hit(self, direction: int) -> None:
        if not self.text.next_hit(direction):
            self.say("nothing found" if self.text.query_text else "/ searches", "warning")

    def action_tail(self) -> None:
        self.text.toggle_tail()

    def action_copy(self) -> None:
        lines = self.text.visible_lines
        self.app.copy_to_clipboard("\n".join(lines))
        self.say(f"copied {len(lines)} lines")

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        opened = self._snapshot.open
        return {
            "run": opened.row.id if opened is not None else "",
            "attempt": self.table.cursor_key,
            "source": self._source,
        }

    def restore(self, told: dict[str, Any]) -> None:
        if isinstance(told.get("attempt"), str) and isinstance(told.get("run"), str):
            self._cursor_to, self._remembered = told["attempt"], told["run"]
        if told.get("source") in range(len(SOURCES)):
            self._source = told["source"]


def _level(line: str) -> str:
    """A guess, for colour only."""
    start = line[:200].lower()
    if "error" in start or "traceback" in start or "outcome=failed" in start:
        return "error"
    return "warning" if "warning" in start else ""
