"""Compare: every method against retraining, over one run or several, down to the seeds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import ContentSwitcher
from textual.worker import get_current_worker

from console.cards import VERDICTS
from console.compare_model import (
    BAR,
    HEADINGS,
    HIDEABLE,
    WIDE_BAR,
    Comparison,
    Shown,
    View,
    key_of,
    who,
)
from console.comparing import rows_of
from console.screens.choose import Choose, Option, Page
from console.screens.compare_exports import ExportsScreen
from console.screens.data import show_data
from console.screens.details import Details
from console.screens.warned import WarningLine
from console.selection import Selection, named, selected
from console.viewmodel import Snapshot, elided
from console.widgets import Cell, Column, Row
from console.widgets.lists import Choices
from console.widgets.table import Table
from console.widgets.words import Words
from engine.jobs import runs
from engine.jobs.home import Home
from engine.jobs.run_warnings import warnings_of
from engine.jobs.runs import Run
from engine.results.explain import explain
from engine.results.margins import audits_of
from engine.results.tidy import Audits
from engine.spec.errors import BadInput

NAME = 19  # columns of a method's name on a narrow screen
AGAIN = 2.0  # seconds between two readings of results that are still coming in


class CompareScreen(ExportsScreen):
    MODE: ClassVar[str] = "compare"
    HELP: ClassVar[str] = (
        "The runs that are marked (on Runs, or by r here), else the open run; U takes the marks away. "
        "Every judged audit of every method, with its verdict: ✗ residue (poison is left), "
        "✓ removed (shown to leave next to nothing), ? inconclusive, ✖ wrecked (the model lost its "
        "use), nothing to remove (the attack left nothing to judge by), = reference (retraining). z "
        "counts standard errors from a model that never saw "
        "the poison; the gap is the paired difference to retraining, and its bar the 95 % interval "
        "around it: where it crosses ┊ no gap was shown. Enter opens seeds, histograms, budget "
        "curves, the poisoned rows still detected, and the explanation of a line."
    )
    CSS_PATH = "compare.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.comparison = Comparison([])
        self.selection = Selection()
        self.found: list[Run] = []
        self._shown: dict[str, Shown] = {}
        self._seen: object = None  # what the results read last were made of
        self._read_at = 0.0
        self._problem = ""  # why there is nothing to compare
        self._snapshot = Snapshot()
        self._table_told: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        yield Words(id="compare-head")
        with ContentSwitcher(initial="compare-list", id="compare-switch"):
            with Vertical(id="compare-list"):
                yield WarningLine(id="compare-warning")
                yield Choices([], id="compare-table", empty="reading results …")
                yield Words(id="compare-reason")
            yield Details(id="compare-details")

    @property
    def table(self) -> Choices:
        return self.query_one("#compare-table", Choices)

    @property
    def details(self) -> Details:
        return self.query_one(Details)

    @property
    def home(self) -> Home:
        return Home(self._snapshot.home)

    def on_mount(self) -> None:
        self.table.restore(self._table_told)
        self.table.focus()

    def on_resize(self) -> None:
        super().on_resize()
        self.call_after_refresh(self._list)

    # --- which runs, and their results -----------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.chelate.open_first(snapshot)
        now = selected(snapshot, self.chelate.marked, self.chelate.open_id)
        if now != self.selection:
            self._begin(now)
        if not now.ids:
            if not snapshot.loading:
                how = "." if self.chelate.read_only else ": 4 composes one."
                self.table.empty = f"No runs yet{how}"
                self.table.update([])
            return
        rows = [snapshot.run(run_id) for run_id in now.ids]
        state = tuple((row.id, row.created, row.state, row.done, row.failed) for row in rows if row)
        due = snapshot.t - self._read_at >= AGAIN
        if state != self._seen and due:
            self._seen, self._read_at = state, snapshot.t
            self._read(self.home, now)

    def _begin(self, now: Selection) -> None:
        """Other runs than before, or chosen in another way: nothing of the former ones stays."""
        others, self.selection = now.ids != self.selection.ids, now
        if others:
            self.action_back()
            self._seen, self._read_at, self._problem = None, 0.0, ""
            self.table.empty = "reading results …"
            self._show([], Comparison([], self.chelate.ascii), {})
        else:
            self._head()

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False)
    def _read(self, home: Home, selection: Selection) -> None:
        problem, rows = "", []
        warnings: dict[str, int] = {}
        found: list[Run] = []
        audits: Audits | None = None
        try:
            found = [runs.find(home, run_id) for run_id in selection.ids]
            rows, audits = rows_of(found), audits_of(found)
            warnings = warnings_of(found).counts
        except runs.NOT_SHOWN as error:  # whatever their files say, the screen stays
            problem = runs.why_not_shown(error)
        if not get_current_worker().is_cancelled:
            comparison = Comparison(rows, self.chelate.ascii, audits)
            take = partial(self._take, selection, found, comparison, problem, warnings)
            self.app.call_from_thread(take)

    def _take(
        self,
        selection: Selection,
        found: list[Run],
        comparison: Comparison,
        problem: str,
        warnings: dict[str, int],
    ) -> None:
        if selection.ids != self.selection.ids:  # read for others than are to be shown now
            return
        first = not self.comparison.lines and not self._table_told.get("cursor")
        self.table.empty = "" if problem else "Nothing has been measured yet."
        self._problem = problem
        self._show(found, comparison, warnings)
        if first:  # not on the title of the first group, of which there is less to say
            self.table.move_to(next((k for k, s in self._shown.items() if s.line), 0))

    def _show(self, found: list[Run], comparison: Comparison, warnings: dict[str, int]) -> None:
        self.found, self.comparison = found, comparison
        self.show_warnings(warnings)
        self._list()
        self.details.take(found, comparison)
        if self.drilled and self.details.line is None:  # what was open is no longer there
            self.action_back()

    # --- the list --------------------------------------------------------------------------------

    def _list(self) -> None:
        comparison, view = self.comparison, self.view
        comparison.bar = WIDE_BAR if self.has_class("-wide") else BAR
        shown = comparison.matrix(view) if view.matrix else comparison.shown(view)
        self._shown = {line.key: line for line in shown}
        wanted = self._columns()
        if wanted != self.table.columns:
            self.table.set_columns(wanted)
        self.table.update(
            Row(
                line.key,
                {n: Cell(self._short(n, text), style) for n, (text, style) in line.cells.items()},
            )
            for line in shown
        )
        self._head()
        self._reason()

    def _short(self, column: str, text: str) -> str:
        """A method's name must not lose its end, where the variants differ."""
        room = NAME if self.has_class("-narrow") else 44
        return elided(text, room) if column == "method" and len(text) > room else text

    def _columns(self) -> list[Column]:
        longest = max((len(who(line)) + 2 for line in self.comparison.lines), default=10)
        if self.view.matrix:
            families = self.comparison.families()
            return [
                Column("method", "method", min(longest, 40), min(longest, NAME), priority=10),
                Column("budget", "budget", 6, 6, "right", 9),
                *(Column(name, name, 25, 22, priority=5) for name in families),
            ]
        sizes = {
            "method": (min(longest, 44), min(longest, NAME)),
            "bar": (self.comparison.bar, self.comparison.bar),
        }
        return [
            Column(
                heading.key,
                heading.title,
                *sizes.get(heading.key, (heading.width, heading.least)),
                align="right" if heading.number else "left",
                priority=heading.priority,
            )
            for heading in self.comparison.headings(self.view)
        ]

    def _head(self) -> None:
        how = "matrix" if self.view.matrix else f"by {self.view.group}, sorted: {self.view.sort}"
        counts = [
            f"{self.comparison.signs[word]} {count}"
            for word in VERDICTS
            if (count := sum(line.verdict == word for line in self.comparison.lines))
        ]
        told = "   ".join(["  ".join(counts), how]) if counts else how
        room = max(40, self.size.width)
        line = f"{self.selection.heading(room)}   {told}"
        # Two lines where one has no room for all: the names of the runs come first.
        text = line if len(line) <= room else f"{self.selection.heading(room)}\n{told}"
        self.query_one("#compare-head", Words).update("\n".join([text, *self.comparison.margins]))

    def runs_shown(self) -> str:
        return named(self.selection.ids, 60)

    def _reason(self) -> None:
        line = self._line()
        text = self._problem  # it has more room here than in the table
        if line is not None:
            budget = "" if line.budget is None else f" {line.budget:g}"
            text = f"{who(line)}{budget}: {line.word}: {line.reason}"
        elif self._shown:
            text = "enter opens a line; x explains its verdict; s sorts; g groups; p pins a line"
        self.query_one("#compare-reason", Words).update(text)

    def _line(self) -> Any:
        shown = self._shown.get(self.table.cursor_key or "")
        return shown.line if shown else None

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        if event.table is self.table:
            self._reason()

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        if event.table is self.table:
            self.action_drill()

    # --- actions ---------------------------------------------------------------------------------

    @property
    def drilled(self) -> bool:
        return self.query_one("#compare-switch", ContentSwitcher).current == "compare-details"

    def action_drill(self) -> None:
        line = self._line()
        if line is None or self.drilled:
            return
        self.query_one("#compare-switch", ContentSwitcher).current = "compare-details"
        self.details.open(key_of(line))

    def action_back(self) -> None:
        if self.drilled:
            self.query_one("#compare-switch", ContentSwitcher).current = "compare-list"
            self.table.focus()

    def action_next_view(self) -> None:
        if self.drilled:
            self.details.turn(1)
        else:
            self.action_drill()

    def action_group(self) -> None:
        self._look(replace(self.view.next_group(), matrix=False))

    def action_order(self) -> None:
        self._look(replace(self.view.next_sort(), matrix=False))

    def action_matrix(self) -> None:
        self._look(replace(self.view, matrix=not self.view.matrix))

    def action_pin_line(self) -> None:
        line = self._line()
        if line is not None and not self.view.matrix:
            self._look(self.view.pin(key_of(line)))

    def _look(self, view: View) -> None:
        self.view = view
        self._list()

    def action_columns(self) -> None:
        options = [Option(h.key, h.title) for h in HEADINGS if h.key in HIDEABLE]
        shown = [option.id for option in options if option.id not in self.view.hidden]

        def take(wanted: list[str] | None) -> None:
            if wanted is not None:
                self._look(replace(self.view, hidden=frozenset(HIDEABLE) - set(wanted)))

        self.app.push_screen(Choose("Columns", options, shown, many=True), take)

    def action_choose_runs(self) -> None:
        options = [
            Option(row.id, row.id, row.title or row.name, note=row.state)
            for row in self._snapshot.runs
            if row.state != "unreadable"
        ]

        def take(wanted: list[str] | None) -> None:
            if wanted is not None:
                self._mark(set(wanted))

        now = list(self.selection.ids)
        self.app.push_screen(Choose("Runs to compare", options, now, many=True), take)

    def _mark(self, wanted: set[str]) -> None:
        """The marks of Runs are these from now on. The open run alone needs none."""
        marked = self.chelate.marked  # one set, which Runs paints
        marked.clear()
        marked |= wanted if wanted != {self.chelate.open_id} else set()
        self.publish(self._snapshot)

    def action_unmark_all(self) -> None:
        self._mark(set())

    def action_explain(self) -> None:
        """The page of the cursor's verdict and metric."""
        line = self._line()
        words = [*line.pages, f"{line.audit}.{line.metric}"] if line else ["residue"]
        pages = []
        for word in [*words, "gap", "recovery", "z", "tee"]:
            try:
                pages.append(explain(word, self.comparison.audits))
            except BadInput:
                continue
        self.app.push_screen(Page("What it means", "\n".join(pages)))

    def action_data(self) -> None:
        if self.found:
            show_data(self, self.found)

    def action_copy_line(self) -> None:
        """The line of the cursor, as its columns stand, separated by tabs."""
        shown = self._shown.get(self.table.cursor_key or "")
        if shown is None:
            return
        cells = [shown.cells.get(column.key, ("", ""))[0].strip() for column in self.table.columns]
        self._copy("\t".join(cells), "the line")

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return {"view": self.view.state(), "table": self.table.state()}

    def restore(self, told: dict[str, Any]) -> None:
        view, table = told.get("view"), told.get("table")  # an earlier version kept runs, too
        if isinstance(view, dict):
            self.view = View.of(view)
        if isinstance(table, dict):
            self._table_told = table
            if self.is_mounted:
                self.table.restore(table)
