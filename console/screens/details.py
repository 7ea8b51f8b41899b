"""One line of the comparison, opened: its seeds, its histograms, its budget curves, its meaning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widgets import ContentSwitcher
from textual.worker import get_current_worker

from console.charts import Options, bins, gaussian_histogram
from console.compare_model import Comparison, key_of, seed_table, who
from console.comparing import read_scores
from console.plotting import budget_series
from console.widgets import Column, Row
from console.widgets.chart import Chart
from console.widgets.lists import Choices
from console.widgets.words import Words
from engine.jobs.runs import Run
from engine.jobs.survey import RunReader
from engine.results.curves import budget_panels
from engine.results.explain import explain
from engine.results.tables import Line
from engine.results.tidy import registered_audits, shown_variants
from engine.results.utility import UTILITY_AUDIT
from engine.spec.errors import BadInput

VIEWS = {
    "details-seeds": "seeds",
    "details-scores": "histograms",
    "details-budgets": "budgets",
    "details-explain": "meaning",
}
ROLES = ("line", "retrain", "none")
SHORT = 16  # columns of a name in a legend


class Details(Vertical):
    """Shows the line with a key of the comparison it was last given."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket", "turn(1)", show=False),
        Binding("left_square_bracket", "turn(-1)", show=False),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.found: list[Run] = []
        self.comparison = Comparison([])
        self.key = ""

    def compose(self) -> ComposeResult:
        yield Words(id="details-head")
        yield Words(id="details-tabs")
        with ContentSwitcher(initial="details-seeds", id="details-switch"):
            yield Choices([], id="details-seeds")
            with Container(id="details-scores"):
                for role in ROLES:
                    yield Chart(
                        id=f"scores-{role}",
                        options=Options(legend=False),
                        notice="reading scores …",
                    )
            with Container(id="details-budgets"):
                yield Chart(id="budget-audit", notice="no budgets here")
                yield Chart(id="budget-utility", notice="accuracy was not measured")
            with VerticalScroll(id="details-explain"):
                yield Words(id="details-page")

    def on_mount(self) -> None:
        ascii_only = bool(getattr(self.app, "ascii", False))
        for chart in self.query(Chart):
            chart.options = replace(chart.options, ascii=ascii_only)

    @property
    def switch(self) -> ContentSwitcher:
        return self.query_one("#details-switch", ContentSwitcher)

    @property
    def line(self) -> Line | None:
        return next((one for one in self.comparison.lines if key_of(one) == self.key), None)

    def take(self, found: list[Run], comparison: Comparison) -> None:
        """New results; the open line stays open, as long as there is one with its key."""
        self.found, self.comparison = found, comparison
        if self.key:
            self._fill()

    def open(self, key: str) -> None:
        self.key = key
        for role in ROLES:  # nothing of the line that was open before
            chart = self.query_one(f"#scores-{role}", Chart)
            chart.notice = "reading scores …"
            chart.show([], "")
        self._fill()
        self.turn(0)

    def turn(self, by: int) -> None:
        """To the next view, or the one before."""
        names = list(VIEWS)
        now = names[(names.index(str(self.switch.current)) + by) % len(names)]
        self.switch.current = now
        told = (f"[{v}]" if name == now else f" {v} " for name, v in VIEWS.items())
        self.query_one("#details-tabs", Words).update(" ".join(told) + "   tab next  esc back")
        inside = [w for w in self.query_one(f"#{now}").query("Chart") if w.can_focus]
        (inside[0] if inside else self.query_one(f"#{now}")).focus()

    def action_turn(self, by: int) -> None:
        self.turn(by)

    # --- contents --------------------------------------------------------------------------------

    def _fill(self) -> None:
        line = self.line
        if line is None:
            return
        budget = "" if line.budget is None else f" at budget {line.budget:g}"
        self.query_one("#details-head", Words).update(
            f"{line.attack}: {who(line)}{budget}  {line.word}\n{line.reason}"
        )
        self._fill_seeds(line)
        self._fill_budgets(line)
        self._fill_page(line)
        self._read_scores(line, self.found, self.comparison)

    def _fill_seeds(self, line: Line) -> None:
        head, *body = seed_table(self.comparison.metrics(line))
        widths = [max(len(row[n]) for row in [head, *body]) for n in range(len(head))]
        table = self.query_one("#details-seeds", Choices)
        table.set_columns(
            [
                Column(str(n), title, widths[n], min(widths[n], 22), "right" if n else "left",
                       10 if n < 2 else 5 if n == 2 else 4)
                for n, title in enumerate(head)
            ]
        )  # fmt: skip
        table.update(
            Row(f"{number} {row[0]}", {str(n): cell for n, cell in enumerate(row)})
            for number, row in enumerate(body)
        )

    def _fill_budgets(self, line: Line) -> None:
        panels = [
            panel
            for panel in budget_panels(self.comparison.rows)
            if (panel.setting, panel.attack) == (line.setting, line.attack)
        ]
        for chart, audit in (("budget-audit", line.audit), ("budget-utility", UTILITY_AUDIT)):
            panel = next((one for one in panels if one.audit == audit), None)
            title = f"{panel.metric} against budget (%)" if panel else ""
            self.query_one(f"#{chart}", Chart).show(
                budget_series(panel, SHORT) if panel else [], title
            )

    def _fill_page(self, line: Line) -> None:
        pages = []
        for word in (f"{line.audit}.{line.metric}", *line.pages, "gap", "recovery"):
            try:
                pages.append(explain(word, registered_audits()))
            except BadInput:  # of an audit that is no longer installed
                continue
        self.query_one("#details-page", Words).update("\n".join(pages))

    @work(thread=True, exclusive=True, group="scores", exit_on_error=False)
    def _read_scores(self, line: Line, found: list[Run], comparison: Comparison) -> None:
        lines = {"line": line, **comparison.yardsticks(line)}
        told = {role: scores_behind(found, one) for role, one in lines.items()}
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show_scores, comparison, line, lines, told)

    def _show_scores(
        self,
        comparison: Comparison,
        line: Line,
        lines: dict[str, Line],
        told: dict[str, list[float]],
    ) -> None:
        if comparison is not self.comparison or key_of(line) != self.key:  # they are another's
            return
        farthest = max((abs(s) for scores in told.values() for s in scores), default=4.0)
        reach = min(100.0, max(4.0, float(math.ceil(farthest))))
        for role in ROLES:
            chart = self.query_one(f"#scores-{role}", Chart)
            other = lines.get(role)
            chart.display = role == "line" or (other is not None and key_of(other) != key_of(line))
            scores = told.get(role, [])
            if not scores:
                chart.notice = f"{line.audit} keeps no scores"
                chart.show([], who(other) if other else role)
                continue
            mean = sum(scores) / len(scores)
            half = 1.96 / len(scores) ** 0.5  # of one seed; of several, as the table has it
            if other is not None and other.mean is not None and other.hi is not None:
                half = other.hi - other.mean
            series = gaussian_histogram(*bins(scores, reach), mean, (mean - half, mean + half), "")
            name = who(other) if other else ""
            chart.show(series, f"{name}: {mean:+.2f} ± {half:.2f}")


def scores_behind(found: list[Run], line: Line) -> list[float]:
    """The scores of all seeds of a line, pooled."""
    wanted = (line.setting, line.attack, line.method, line.variant, line.budget, line.audit)
    seen: set[str] = set()
    scores: list[float] = []
    for run in found:
        variants = shown_variants(run.plan.searches, RunReader(run))
        for cell in run.plan.cells:
            row = (cell.setting, cell.attack, cell.method, cell.variant)
            place = (*row[:3], variants.get(row, cell.variant), cell.budget, cell.audit)
            if place == wanted and cell.key not in seen:
                seen.add(cell.key)
                scores += read_scores(run, cell.key)
    return scores
