"""Figures for paper and screen, by matplotlib: SVG, PDF or PNG, the same bytes every time.

Colours are Okabe and Ito's, which people with any colour vision tell apart, and every curve has a
marker and a dash of its own besides. No pyplot: a figure belongs to its caller alone.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.results.curves import BudgetPanel, LossPanel, ScorePanel, error_arms, mean_trace
from engine.results.pooled import described
from engine.spec.errors import BadInput
from engine.spec.outputs import FORCE, check_output, is_stdout, write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ((), (4, 1.5), (1, 1), (6, 1.5, 1, 1.5))
RETRAIN, NONE, DENSITY = "#009E73", "#666666", "#000000"
BARS = "#56B4E9"
PANEL = (3.4, 2.6)  # inches: a column of a two-column paper
FARTHEST = 100.0  # a score beyond is not shown, but counted
FORMATS = ("svg", "pdf", "png")
STYLE: dict[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.usetex": False,
    "axes.unicode_minus": True,
}


@contextmanager
def _style(**more: Any) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's matplotlibrc must not change a paper's figures
        settings: Any = mpl.rcParams
        settings.update(STYLE | more)
        yield


def budget_figure(panels: Sequence[BudgetPanel]) -> Figure:
    """Each metric against the budget: error bars are 95 % t-intervals over seeds; retraining is a
    band (where another one would fall), no unlearning a dashed line, in every panel."""
    with _style():
        figure, axes = _grid(len(panels), legend=True)
        for panel, plot in zip(panels, axes, strict=True):
            _draw_budget(plot, panel)
        _shared_legend(figure, axes)
        return figure


def _draw_budget(plot: Axes, panel: BudgetPanel) -> None:
    if panel.retrain is not None:
        low, high = panel.retrain.lo, panel.retrain.hi
        if low is not None and high is not None:
            plot.axhspan(low, high, color=RETRAIN, alpha=0.18, linewidth=0, label="_band")
        plot.axhline(panel.retrain.mean, color=RETRAIN, linewidth=1, label="retraining (95 % band)")
    if panel.none is not None:
        plot.axhline(panel.none.mean, color=NONE, linewidth=1, dashes=(5, 3), label="no unlearning")
    for number, curve in enumerate(panel.curves):
        plot.errorbar(
            [100 * budget for budget in curve.budgets],
            [found.mean for found in curve.levels],
            yerr=error_arms(curve.levels),
            capsize=2,
            elinewidth=0.8,
            label=plain(curve.label),
            **_look(number),
        )
    plot.set_xlabel("budget (% of the training compute)")
    plot.set_ylabel(plain(panel.metric.replace("_", " ")))
    plot.set_title(plain(panel.title), loc="left")


def score_figure(panels: Sequence[ScorePanel]) -> Figure:
    """Histograms as densities over N(0, 1), all on one scale."""
    with _style():
        figure, axes = _grid(len(panels), share=True)
        every = [abs(score) for panel in panels for score in panel.scores]
        reach = max((score for score in every if score <= FARTHEST), default=4.0)
        reach = max(4.0, float(math.ceil(reach)))
        for panel, plot in zip(panels, axes, strict=True):
            _draw_scores(plot, panel, reach)
        if axes:
            axes[0].legend(loc="upper right")
        return figure


def _draw_scores(plot: Axes, panel: ScorePanel, reach: float) -> None:
    import numpy as np

    scores = np.asarray(panel.scores, dtype=float)
    scores = scores[np.isfinite(scores) & (np.abs(scores) <= reach)]
    bins = min(80, max(16, round(2 * math.sqrt(len(scores)))))
    if len(scores):
        plot.hist(
            scores, bins=bins, range=(-reach, reach), density=True, color=BARS, label="scores"
        )
        mean = float(scores.mean())
        plot.axvline(mean, color="#D55E00", linewidth=1.2, label="mean")
        told = "\n".join(described(panel.seeds))
        plot.text(0.02, 0.96, told, transform=plot.transAxes, va="top", fontsize=7)
    x = np.linspace(-reach, reach, 401)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    plot.plot(x, density, color=DENSITY, linewidth=1, label="N(0, 1)")
    plot.set_xlim(-reach, reach)
    plot.set_xlabel("score")
    plot.set_ylabel("density")
    plot.set_title(plain(panel.title), loc="left")


def loss_figure(panels: Sequence[LossPanel]) -> Figure:
    """Loss against the optimizer step: every seed thin, their mean thick; a log axis where all
    values are positive."""
    with _style():
        figure, axes = _grid(len(panels))
        for panel, plot in zip(panels, axes, strict=True):
            labels = list(dict.fromkeys(trace.label for trace in panel.traces))
            for number, label in enumerate(labels):
                traces = [trace for trace in panel.traces if trace.label == label]
                look = _look(number)
                for trace in traces:
                    plot.plot(
                        trace.steps, trace.values, color=look["color"], linewidth=0.5, alpha=0.35
                    )
                whole = mean_trace(label, traces)
                plot.plot(
                    whole.steps,
                    whole.values,
                    color=look["color"],
                    dashes=DASHES[number % len(DASHES)] or (None, None),
                    label=plain(label),
                )
            if all(value > 0 for trace in panel.traces for value in trace.values):
                plot.set_yscale("log")
            plot.set_xlabel("optimizer step")
            plot.set_ylabel("loss (thick: mean over seeds)")
            plot.set_title(plain(panel.title), loc="left")
            if labels:
                plot.legend(loc="upper left", bbox_to_anchor=(0, -0.2), borderaxespad=0)
        return figure


def plain(text: str) -> str:
    """`text` with nothing in it that matplotlib would take for mathematics."""
    return text.replace("$", r"\$")


def _look(number: int) -> dict[str, Any]:
    """Colour, marker and dash of the n-th curve."""
    dashes = DASHES[(number // len(PALETTE)) % len(DASHES)] if number else DASHES[0]
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[number % len(MARKERS)],
        "dashes": dashes or (None, None),
    }


def _grid(count: int, share: bool = False, legend: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, max(1, count))
    rows = max(1, math.ceil(count / columns))
    width, height = PANEL
    figure = Figure(
        figsize=(columns * width, rows * height + (0.5 if legend else 0)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    flat = [plot for row in grid for plot in row]
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def _shared_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels, which mostly show the same methods."""
    entries: dict[str, Any] = {}
    for plot in axes:
        for handle, label in zip(*plot.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center",
            ncols=min(len(entries), 3 if len(axes) > 1 else 2),
        )  # fmt: skip


# --- files ---------------------------------------------------------------------------------------


def render(figure: Figure, form: str, name: str = "chelate", text: bool = False) -> bytes:
    """The figure's bytes in a format of FORMATS; the same for the same numbers.

    `name` keeps the ids of several SVG figures on one page apart. With `text` an SVG's words stay
    words, in the reader's font; otherwise they are outlines, the same everywhere. Raises BadInput.
    """
    if form not in FORMATS:
        raise BadInput(f"figures are written as {', '.join(FORMATS)}, not {form!r}.")
    empty: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": "chelate"},
        "png": {"Software": "chelate"},
    }
    out = io.BytesIO()
    with _style(**{"svg.hashsalt": name, "svg.fonttype": "none" if text else "path"}):
        figure.savefig(out, format=form, dpi=300, metadata=empty[form])
    return out.getvalue()


def form_of(path: Path) -> str:
    """The format that a figure's name asks for; SVG for standard output. Raises BadInput."""
    form = "svg" if is_stdout(path) else path.suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise BadInput(f"{path}: a figure's name ends in .{', .'.join(FORMATS)}.")
    return form


def write(figure: Figure, path: Path, *, force: bool = False, otherwise: str = FORCE) -> None:
    """Raises BadInput if the ending names no format, something is in the way, or the file cannot be
    written."""
    form = form_of(path)
    check_output(path, force=force, otherwise=otherwise)  # drawing takes a second
    drawn = render(figure, form)
    write_output(path, drawn.decode() if form == "svg" else drawn, force=force, otherwise=otherwise)


def inline_svg(figure: Figure, name: str) -> str:
    """An <svg> element for an HTML page: no prologue, no reference to anything outside."""
    text = render(figure, "svg", name, text=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return f'<svg role="img" {text[5:]}'.strip()
