"""Compare: every method against retraining, over one run or several, down to the seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
from console.exporting import FORMS, export
from console.plotting import elided
from console.screens.choose import Ask, Choose, Option, Page, free_path
from console.screens.data import show_data
from console.screens.details import Details
from console.screens.warned import WarnedScreen, WarningLine
from console.viewmodel import Snapshot
from console.widgets import Cell, Column, Row
from console.widgets.lists import Choices
from console.widgets.table import Table
from console.widgets.words import Words
from engine.jobs import runs
from engine.jobs.home import Home
from engine.jobs.run_warnings import warnings_of
from engine.jobs.runs import Run
from engine.results.explain import explain
from engine.results.tables import to_markdown
from engine.results.tidy import registered_audits
from engine.spec.errors import BadInput
from engine.spec.places import expanded

NAME = 19  # columns of a method's name on a narrow screen
AGAIN = 2.0  # seconds between two readings of results that are still coming in


class CompareScreen(WarnedScreen):
    MODE: ClassVar[str] = "compare"
    HELP: ClassVar[str] = (
        "Every judged audit of every method, with its verdict: ✗ residue (poison is left), "
        "✓ removed (shown to be equivalent to its null), ? inconclusive, ✖ wrecked (the model lost "
        "its use), = reference (retraining). z counts standard errors from a model that never saw "
        "the poison; the gap is the paired difference to retraining, and its bar the 95 % interval "
        "around it: where it crosses ┊ no gap was shown. Enter opens seeds, histograms, budget "
        "curves and the explanation of a line."
    )
    CSS_PATH = "compare.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.view = View()
        self.comparison = Comparison([])
        self.chosen: tuple[str, ...] = ()  # ids of the runs compared
        self.found: list[Run] = []
        self._shown: dict[str, Shown] = {}
        self._seen: object = None  # what the results read last were made of
        self._read_at = 0.0
        self._snapshot = Snapshot()
        self._table_told: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        with ContentSwitcher(initial="compare-list", id="compare-switch"):
            with Vertical(id="compare-list"):
                yield Words(id="compare-head")
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

    def compare_runs(self, run_ids: tuple[str, ...]) -> None:
        """Compare these runs from now on."""
        if run_ids != self.chosen:
            self.chosen, self._seen, self._read_at = run_ids, None, 0.0
            if self._snapshot.serial:
                self.publish(self._snapshot)

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        ids = tuple(i for i in self.chosen if snapshot.run(i)) or self._default(snapshot)
        if not ids:
            if not snapshot.loading:
                self.table.empty = "No runs yet: 4 composes one."
                self.table.update([])
            return
        rows = [snapshot.run(run_id) for run_id in ids]
        state = tuple((row.id, row.state, row.done, row.failed) for row in rows if row)
        due = snapshot.t - self._read_at >= AGAIN
        if state != self._seen and due:
            self._seen, self._read_at = state, snapshot.t
            self._read(self.home, ids)

    @staticmethod
    def _default(snapshot: Snapshot) -> tuple[str, ...]:
        """The open run, else the latest with something to compare."""
        if snapshot.open is not None:
            return (snapshot.open.row.id,)
        done = [row.id for row in snapshot.runs if row.state not in ("queued", "unreadable")]
        return tuple(done[:1])

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False)
    def _read(self, home: Home, ids: tuple[str, ...]) -> None:
        problem, rows = "", []
        warnings: dict[str, int] = {}
        found: list[Run] = []
        try:
            found = [runs.find(home, run_id) for run_id in ids]
            rows = rows_of(found)
            warnings = warnings_of(found).counts
        except BadInput as error:
            problem = str(error)
        if not get_current_worker().is_cancelled:
            comparison = Comparison(rows, self.chelate.ascii)
            self.app.call_from_thread(self._take, found, comparison, problem, warnings)

    def _take(
        self, found: list[Run], comparison: Comparison, problem: str, warnings: dict[str, int]
    ) -> None:
        first = not self.comparison.lines and not self._table_told.get("cursor")
        self.found, self.comparison = found, comparison
        self.show_warnings(warnings)
        self.table.empty = problem or "Nothing has been measured yet."
        self._list()
        if first:  # not on the title of the first group, of which there is less to say
            self.table.move_to(next((k for k, s in self._shown.items() if s.line), 0))
        self.details.take(found, comparison)

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
        names = ", ".join(run.id for run in self.found) or "no run"
        how = "matrix" if self.view.matrix else f"by {self.view.group}, sorted: {self.view.sort}"
        counts = [
            f"{self.comparison.signs[word]} {count}"
            for word in VERDICTS
            if (count := sum(line.verdict == word for line in self.comparison.lines))
        ]
        self.query_one("#compare-head", Words).update(f"{names}   {'  '.join(counts)}   {how}")

    def _reason(self) -> None:
        line = self._line()
        text = ""
        if line is not None:
            budget = "" if line.budget is None else f" {line.budget:g}"
            text = f"{who(line)}{budget}: {line.verdict}: {line.reason}"
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
            if wanted:
                self.compare_runs(tuple(wanted))

        now = [run.id for run in self.found]
        self.app.push_screen(Choose("Runs to compare", options, now, many=True), take)

    def action_explain(self) -> None:
        """The page of the cursor's verdict and metric."""
        line = self._line()
        words = [line.verdict, f"{line.audit}.{line.metric}"] if line else ["residue"]
        pages = []
        for word in [*words, "gap", "recovery", "z", "tee"]:
            try:
                pages.append(explain(word, registered_audits()))
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

    def action_copy_table(self) -> None:
        self._copy(to_markdown(self.comparison.rows), "the table as Markdown")

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.say(f"Copied {what}.")

    def action_export(self) -> None:
        if not self.comparison.rows:
            self.say("Nothing to export yet.", "warning")
            return
        options = [Option(form, told) for form, told in FORMS.items()]

        def take(wanted: list[str] | None) -> None:
            if wanted:
                self._ask_where(wanted[0])

        self.app.push_screen(Choose("Export", options), take)

    def _ask_where(self, form: str) -> None:
        name = self.found[0].id if len(self.found) == 1 else "comparison"
        start = free_path(Path.cwd(), name, form)

        def check(text: str) -> str:
            path = expanded(text)
            if not text.strip() or path.is_dir():
                return "a file, please"
            return f"{path} exists; choose another name" if path.exists() else ""

        def take(text: str | None) -> None:
            if text:
                self._export(form, expanded(text))

        self.app.push_screen(Ask(f"Export {FORMS[form]} to", str(start), check), take)

    @work(thread=True, group="export", exit_on_error=False)
    def _export(self, form: str, path: Path) -> None:
        told: Callable[..., Any] = self.app.call_from_thread
        try:
            export(form, path, self.found, self.comparison.rows)
        except (BadInput, OSError) as error:
            told(self.say, str(error), "error")
        else:
            told(self.say, f"Wrote {path}")

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return {"view": self.view.state(), "runs": list(self.chosen), "table": self.table.state()}

    def restore(self, told: dict[str, Any]) -> None:
        view, chosen, table = told.get("view"), told.get("runs"), told.get("table")
        if isinstance(view, dict):
            self.view = View.of(view)
        if isinstance(chosen, list):
            self.chosen = tuple(str(run_id) for run_id in chosen)
        if isinstance(table, dict):
            self._table_told = table
            if self.is_mounted:
                self.table.restore(table)
