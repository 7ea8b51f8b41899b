"""Queue and devices: what each slot does now, and what comes next."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Static

from console.screens import live_view
from console.screens.runs import short_duration
from console.screens.steering import SteeringScreen
from console.selection import named
from console.themes import TONES, progress_bar, sign
from console.viewmodel import OpenRun, RunRow, Slot, Snapshot, StageRow, fuzzy
from console.widgets import Cell, Column, Row
from console.widgets.lists import FilterLine, Rows

BREAK = "\t"  # in keys of rows: the run, and where it is not the whole of it, the stage
MOST = 2_000  # rows
RUN_ROOM = 16, 24  # columns of a run's id, on a narrow screen and on a wide one
COLUMNS = (
    Column("state", "state", 9, 9, priority=9),
    Column("slot", "slot", 7, 6, priority=7),
    Column("run", "run", RUN_ROOM[1], RUN_ROOM[0], priority=8),
    Column("stage", "stage", 40, 24, priority=8, grow=1),
    Column("share", "", 12, 12, priority=5),
    Column("time", "time", 8, 7, "right", priority=6),
    Column("tee", "TEE", 7, 6, "right", priority=4),
)


class QueueScreen(SteeringScreen):
    MODE: ClassVar[str] = "queue"
    HELP: ClassVar[str] = (
        "First what is under way, in the open run and in the others that go on at the same time "
        "and share the machine; then what failed and what waits in the open run, the next first. "
        "A run has its own supervisor, which gives each device slot one stage after the other, the "
        "longest way to the end first. Every line names its run. "
        "TEE is planned compute: 1 is one epoch of the training, forward and backward."
    )
    CSS_PATH = "queue.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._snapshot = Snapshot()
        self._filter = ""

    def body(self) -> ComposeResult:
        yield Static("", id="queue-head", markup=False)
        yield FilterLine("filter: letters in this order", id="queue-filter")
        with Container(id="queue-panes"):
            yield Rows(COLUMNS, empty="", ascii=self.chelate.ascii, id="queue")
            yield Static("", id="queue-facts", markup=False)

    @property
    def table(self) -> Rows:
        return self.query_one("#queue", Rows)

    def on_mount(self) -> None:
        self.table.focus()

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        told = snapshot.open
        under_way: list[Row] = []
        rest: list[Row] = []
        if told is None:
            self.table.empty = "No run is open: 1 lists them, enter opens one."
            head = f"{snapshot.count('running')} runs going on"
        else:
            head = live_view.headline(told, self.chelate.ascii)
            tee = sum(s.tee * (1 - s.share) for s in told.stages if s.state != "failed")
            head += f"  {len(told.queue)} wait, {tee:.4g} TEE to do"
            under_way, rest = self._stages(told)
            self.table.empty = f"Nothing is under way and nothing waits in {told.row.id}."
        others = [
            line
            for row in snapshot.runs
            if row.state == "running" and (told is None or row.id != told.row.id)
            for line in self._slots(row)
        ]
        self.table.update([*under_way, *others, *rest])
        self.query_one("#queue-head", Static).update(head)
        pane = self.query_one("#queue-facts", Static)
        empty = OpenRun(RunRow(""))
        pane.update(
            live_view.facts(empty, snapshot.machine, None, max(20, pane.size.width - 2),
                            self.chelate.ascii)
        )  # fmt: skip

    def _stages(self, told: OpenRun) -> tuple[list[Row], list[Row]]:
        """The open run's lines: of what is under way, and of the rest."""
        by_key = {stage.key: stage for stage in told.stages}
        running = sorted((s for s in told.stages if s.state == "running"), key=lambda s: s.slot)
        failed = [s for s in told.stages if s.state in ("failed", "diverged", "stopped")]
        waiting = [by_key[key] for key in told.queue]

        def lines(found: list[StageRow]) -> list[Row]:
            if self._filter:
                found = [s for s in found if fuzzy(self._filter, f"{s.title} {s.state} {s.slot}")]
            return [self._stage(told.row.id, stage) for stage in found[:MOST]]

        idle = [slot for slot in told.row.slots if not slot.key]
        under_way = lines(running) + [self._slot(told.row, slot) for slot in idle]
        return under_way, lines([*failed, *waiting])

    def _stage(self, run_id: str, stage: StageRow) -> Row:
        ascii_ = self.chelate.ascii
        went = time.time() - stage.since if stage.state == "running" else stage.seconds
        text = f"{stage.title}: {stage.reason}" if stage.reason else stage.title
        share = progress_bar(stage.share, 7, ascii_) + f" {stage.share:4.0%}"
        return Row(
            f"{run_id}{BREAK}{stage.key}",
            {
                "run": Cell(self._run_name(run_id), "muted"),
                "state": Cell(f"{sign(stage.state, ascii_)} {stage.state}",
                              TONES.get(stage.state, "")),
                "slot": stage.slot,
                "stage": Cell(text, "bad" if stage.state in ("failed", "diverged") else ""),
                "share": share if stage.state == "running" else "",
                "time": short_duration(went) if went else "",
                "tee": Cell(f"{stage.tee:.3g}" if stage.tee else "", "muted"),
            },
        )  # fmt: skip

    def _run_name(self, run_id: str) -> str:
        """Cut in its middle: runs of one preset differ at the end."""
        return named([run_id], RUN_ROOM[self.app.size.width >= 110])

    def _slots(self, row: RunRow) -> list[Row]:
        """Another run's lines; one at least, for there is a supervisor."""
        return [self._slot(row, slot) for slot in row.slots or (Slot("", ""),)]

    def _slot(self, row: RunRow, slot: Slot) -> Row:
        ascii_ = self.chelate.ascii
        state = "running" if slot.key else "idle"
        share = progress_bar(slot.share, 7, ascii_) + f" {slot.share:4.0%}"
        return Row(
            f"{row.id}{BREAK}{slot.key or slot.name + slot.text}",
            {
                "run": self._run_name(row.id),
                "state": Cell(f"{sign(state, ascii_)} {state}", TONES.get(state, "muted")),
                "slot": slot.name,
                "stage": slot.text,
                "share": share if slot.key else "",
                "time": short_duration(time.time() - slot.since) if slot.since else "",
            },
        )

    # --- doing -----------------------------------------------------------------------------------

    def run_at_hand(self) -> RunRow | None:
        """The run of the cursor's line; of an empty list, the open one."""
        key = self.table.cursor_key
        if key is not None:
            return self._snapshot.run(key.partition(BREAK)[0])
        return self._snapshot.open.row if self._snapshot.open is not None else None

    def on_table_row_selected(self, event: Rows.RowSelected) -> None:
        row = self.run_at_hand()
        if row is not None:
            self.chelate.watch_run(row.id)

    def on_filter_line_typed(self, event: FilterLine.Typed) -> None:
        self._filter = event.value.strip()
        self.publish(self._snapshot)

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    def action_copy(self) -> None:
        key = self.table.cursor_key
        if key is not None:
            text = key.replace(BREAK, " ")
            self.app.copy_to_clipboard(text)
            self.say(f"copied {text}")

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return {"filter": self._filter}

    def restore(self, told: dict[str, Any]) -> None:
        if isinstance(told.get("filter"), str) and told["filter"]:
            self.query_one(FilterLine).value = told["filter"]
