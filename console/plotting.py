"""`plot`: losses, z histograms and budget curves of runs, as text or as a figure for paper.

What is shown is gathered here once (`loss_panels`, `score_panels`, `engine.results.curves`), for
the terminal, the Compare screen, the figures and the report alike.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from console.charts import NEUTRAL, Options, Series, fit, looks
from console.charts.raster import render
from console.comparing import read_scores, rows_of
from console.output import say, say_written, writes_ascii
from console.viewmodel import elided
from engine.jobs import runs
from engine.jobs.events import EventTail
from engine.jobs.home import Home, resolve_home
from engine.jobs.runs import Run, attempt_folder
from engine.jobs.survey import RunReader
from engine.results.curves import (
    BudgetPanel,
    LossPanel,
    ScorePanel,
    Trace,
    budget_panels,
    curve_label,
    error_arms,
    mean_trace,
    pooled_trace,
    role_of,
)
from engine.results.histogram import text_histogram
from engine.results.tidy import registered_audits, shown_variants
from engine.spec.errors import BadInput
from engine.spec.outputs import check_output
from engine.spec.planned import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["loss", "z", "budget"]
Panel = BudgetPanel | LossPanel | ScorePanel
WIDEST, IN_A_PIPE, HEIGHT = 120, 100, 16  # columns, columns, lines


def show_plot(
    kind: str, run_ids: Sequence[str], home: Path | None, out: Path | None, force: bool = False
) -> None:
    """Print the panels, or write them to `out`. Raises BadInput where there is nothing to show, and
    where `out` cannot be a new figure."""
    if kind not in get_args(Kind):
        raise BadInput(f"plot {kind}: must be one of {', '.join(get_args(Kind))}.")
    if out is not None:
        from engine.results.figures import form_of

        form_of(out)
        check_output(out, force=force)
    place = Home(resolve_home(home))
    found = [runs.find(place, word) for word in run_ids]
    panels = panels_of(kind, found)
    if not panels:
        raise BadInput(f"nothing to plot in {', '.join(run.id for run in found)}: {MISSING[kind]}.")
    if out is not None:
        from engine.results.figures import write

        write(figure_of(panels), out, force=force)
        say_written(out)
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else IN_A_PIPE
    ascii_only = writes_ascii()
    for panel in panels:
        say("\n".join(text_of(panel, min(columns, WIDEST), HEIGHT, ascii_only)) + "\n")


MISSING = {
    "loss": "no stage has told its loss; was its event log deleted?",
    "z": "no finished audit has scores with a standard-normal null",
    "budget": "no finished measurement varies with the budget",
}


def panels_of(kind: str, found: Sequence[Run]) -> list[Panel]:
    if kind == "loss":
        return list(loss_panels(found))
    if kind == "z":
        return list(score_panels(found))
    return list(budget_panels(rows_of(found)))


def figure_of(panels: Sequence[Panel]) -> Figure:
    """One figure of panels that are all of a kind."""
    from engine.results import figures

    budgets = [panel for panel in panels if isinstance(panel, BudgetPanel)]
    scores = [panel for panel in panels if isinstance(panel, ScorePanel)]
    losses = [panel for panel in panels if isinstance(panel, LossPanel)]
    if budgets:
        return figures.budget_figure(budgets)
    return figures.score_figure(scores) if scores else figures.loss_figure(losses)


# --- gathering -----------------------------------------------------------------------------------


def score_panels(found: Sequence[Run]) -> list[ScorePanel]:
    """Scores pooled over seeds: no unlearning, retraining, and each method at its last budget."""
    normal = {
        name
        for name, audit in registered_audits().items()
        if audit.primary and audit.metrics[audit.primary].null == "standard-normal"
    }
    groups: dict[tuple[str, ...], dict[float | None, list[tuple[float, ...]]]] = defaultdict(dict)
    seen: set[str] = set()  # two runs may share a measurement
    for run in found:
        variants = shown_variants(run.plan.searches, RunReader(run))
        for cell in run.plan.cells:
            if cell.audit in normal and cell.key not in seen:
                seen.add(cell.key)
                row = (cell.setting, cell.attack, cell.method, cell.variant)
                variant = variants.get(row, cell.variant)
                place = (cell.setting, cell.attack, cell.audit, cell.method, variant)
                seeds = groups[place].setdefault(cell.budget, [])
                if scores := read_scores(run, cell.key):
                    seeds.append(tuple(scores))
    panels = []
    for (setting, attack, _, method, variant), budgets in groups.items():
        measured = [budget for budget, seeds in budgets.items() if seeds]
        if not measured:
            continue
        last = max(measured, key=lambda budget: budget or 0.0)
        who = "no unlearning" if role_of(method) == "none" else curve_label(method, variant)
        at = "" if last is None else f" at budget {last:g}"
        where = " ".join(filter(None, (attack, setting)))
        panels.append(ScorePanel(f"{where}: {who}{at}", tuple(budgets[last])))
    return panels


def loss_panels(found: Sequence[Run]) -> list[LossPanel]:
    """Per attack, the losses of the trainings and of the unlearnings, a trace for each seed."""
    panels: dict[str, dict[tuple[str, int, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    owner: dict[str, Run] = {}
    for run in found:
        for cell in run.plan.cells:
            for title, label, key in _losses(run, cell):
                panels[title][label, cell.seed, cell.unit].add(key)
                owner.setdefault(key, run)
    told = []
    for title, traces in panels.items():
        read = [
            pooled_trace(
                label, (point for key in sorted(keys) for point in losses(owner[key], key))
            )
            for (label, *_), keys in traces.items()
        ]
        shown = tuple(trace for trace in read if trace.steps)
        if shown:
            told.append(LossPanel(title, shown))
    return told


def _losses(run: Run, cell: Cell) -> list[tuple[str, str, str]]:
    """(panel, label, stage) of the trainings and unlearnings behind a cell."""
    where = " ".join(part for part in (cell.attack, cell.setting) if part)
    stage = run.plan.stages[run.plan.stages[cell.key].inputs["model"]]
    if stage.kind == "unlearn":
        return [
            (f"{where}: training", "poisoned", stage.inputs["start"]),
            (f"{where}: unlearning", curve_label(cell.method, cell.variant), stage.key),
        ]
    label = "poisoned" if cell.role == "none" else cell.method
    return [(f"{where}: training", label, stage.key)]


def losses(run: Run, key: str) -> list[tuple[float, float]]:
    """(step, loss) as told by the attempts at a stage, in this run or whichever computed it."""
    folders = [run.folder / "attempts"]
    record = run.store.record(key)
    told = attempt_folder(run, key, record.attempt) if record is not None else None
    if told is not None and told.parent not in folders:
        folders.append(told.parent)
    for folder in folders:
        paths = sorted(folder.glob(f"{key[:16]}.*/events.jsonl"))
        points = [
            (float(event["data"]["step"]), float(event["data"]["value"]))
            for path in paths
            for event in EventTail(path).read()
            if event["kind"] == "metric" and event["data"].get("name") == "loss"
            and isinstance(event["data"].get("value"), int | float)
            and isinstance(event["data"].get("step"), int | float)
        ]  # fmt: skip
        if points:
            return points
    return []


# --- text ----------------------------------------------------------------------------------------


def text_of(panel: Panel, width: int, height: int, ascii_only: bool = False) -> list[str]:
    """A panel as lines of text."""
    if isinstance(panel, ScorePanel):
        return text_histogram(panel.scores, width, height, panel.title, ascii_only)
    drawn = series_of(panel)
    options = Options(legend=False, ascii=ascii_only, patterns=True)
    samples = [sample for sample, _, _ in looks(drawn, options)]
    entries = [
        f"{sample} {one.name}" for sample, one in zip(samples, drawn, strict=True) if one.name
    ]
    legend = textwrap.wrap("   ".join(e.replace(" ", "\0") for e in entries), width)
    head = [panel.title, *(line.replace("\0", " ") for line in legend)]
    log = isinstance(panel, LossPanel) and all(min(t.values) > 0 for t in panel.traces)
    view = fit(drawn, logy=log)
    if isinstance(view, str):
        return [*head, view]
    grid = render(drawn, width, max(8, height - len(head)), view, options)
    return [*head, *(line.rstrip() for line in grid.text())]


def series_of(panel: BudgetPanel | LossPanel) -> list[Series]:
    """A panel for the chart widget and for text; the yardsticks first, the methods over them."""
    return budget_series(panel) if isinstance(panel, BudgetPanel) else loss_series(panel)


def budget_series(panel: BudgetPanel, longest: int = 60) -> list[Series]:
    """`longest`: columns of a name in the legend."""
    drawn: list[Series] = []
    every = [budget for curve in panel.curves for budget in curve.budgets]
    first, last = 100 * min(every), 100 * max(every)
    if panel.retrain is not None:
        low, high = panel.retrain.lo, panel.retrain.hi
        if low is not None and high is not None:
            drawn.append(
                Series("", x=[first, last], lo=[low] * 2, hi=[high] * 2, ink=NEUTRAL, kind="band")
            )
        drawn.append(
            Series("retrain", y=[panel.retrain.mean], ink=NEUTRAL, kind="hline", pattern="dotted")
        )
    if panel.none is not None:
        drawn.append(Series("none", y=[panel.none.mean], ink=NEUTRAL, kind="hline"))
    for number, curve in enumerate(panel.curves):
        x = [100 * budget for budget in curve.budgets]
        means = [found.mean for found in curve.levels]
        below, above = error_arms(curve.levels)
        drawn.append(Series("", x, means, number, "line", faint=True))
        drawn.append(
            Series(
                elided(curve.label, longest), x, means, number, "errorbars",
                lo=[m - arm for m, arm in zip(means, below, strict=True)],
                hi=[m + arm for m, arm in zip(means, above, strict=True)],
            )
        )  # fmt: skip
    return drawn


def loss_series(panel: LossPanel) -> list[Series]:
    """Every seed faint, their mean over it."""
    labels = list(dict.fromkeys(trace.label for trace in panel.traces))
    drawn = []
    for number, label in enumerate(labels):
        traces: list[Trace] = [trace for trace in panel.traces if trace.label == label]
        if len(traces) > 1:
            drawn += [Series("", t.steps, t.values, number, faint=True) for t in traces]
        whole = mean_trace(label, traces)
        drawn.append(Series(label, whole.steps, whole.values, number))
    return drawn
