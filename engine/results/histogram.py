"""Scores as a text histogram, with the density they would have if nothing were left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

EIGHTHS = " ▁▂▃▄▅▆▇█"
ASCII_LEVELS = " .:#"
CURVE, ASCII_CURVE = "•", "o"
PEAK = 1 / math.sqrt(2 * math.pi)  # of N(0, 1)
NEAREST, FARTHEST = 4.0, 100.0  # the axis reaches at least ±4 and never beyond ±100
FAINTEST = 0.25  # rows: a curve lower than this would only hide the bars of the tails
MARGIN = 5  # columns left of the plot: "0.40 "
SMALLEST_WIDTH, SMALLEST_HEIGHT = 24, 6


def counts(scores: ArrayLike, edges: Sequence[float]) -> list[int]:
    """How many scores fall between neighbouring `edges` (the last bin has both its ends).

    NaN and scores outside the edges are not counted.
    """
    values = _finite(scores)
    return [int(count) for count in np.histogram(values, bins=np.asarray(edges, dtype=float))[0]]


def text_histogram(
    scores: ArrayLike, width: int = 72, height: int = 12, title: str = "", ascii: bool = False
) -> list[str]:
    """Exactly `height` lines of `width` columns (at least 6 of 24): bars in density units, with
    N(0, 1) drawn over them on the same scale.

    The axis spans -4 to 4 and widens to the data. The top line holds the title, the number of
    scores, and how many could not be shown.
    """
    width, height = max(width, SMALLEST_WIDTH), max(height, SMALLEST_HEIGHT)
    given = np.asarray(scores, dtype=float).reshape(-1)
    values = _finite(given)
    shown = values[np.abs(values) <= FARTHEST]
    lo, hi = _reach(shown)
    columns, rows = width - MARGIN, height - 3

    per_bin = _columns_per_bin(columns, len(shown))
    step = (hi - lo) / columns * per_bin
    edges = lo + step * np.arange(math.ceil(columns / per_bin) + 1)
    bins = np.asarray(counts(shown, list(edges)), dtype=float)
    density = np.repeat(bins / (max(len(shown), 1) * step), per_bin)[:columns]
    centres = lo + (np.arange(columns) + 0.5) * (hi - lo) / columns
    curve = PEAK * np.exp(-(centres**2) / 2)

    top = 1.05 * max(PEAK, float(density.max()))
    grid = _draw(density / top * rows, curve / top * rows, rows, ascii)
    labels = {0: top, rows // 2: top * (rows - rows // 2) / rows}
    lines = [_headline(title, len(given), len(given) - len(shown), width)]
    for row, text in enumerate(grid):
        label = f"{labels[row]:.2f}"[:4] if row in labels else ""
        lines.append(f"{label:>{MARGIN - 1}} {text}")
    return [*lines, *_axis(lo, hi, columns, ascii)]


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    return values[np.isfinite(values)]


def _reach(values: NDArray[np.float64]) -> tuple[float, float]:
    if not len(values):
        return -NEAREST, NEAREST
    return min(-NEAREST, math.floor(values.min())), max(NEAREST, math.ceil(values.max()))


def _columns_per_bin(columns: int, scores: int) -> int:
    """Wider bars for fewer scores: about 2√n of them, at least 8."""
    return max(1, round(columns / max(8.0, 2 * math.sqrt(scores))))


def _draw(
    bars: NDArray[np.float64], curve: NDArray[np.float64], rows: int, ascii: bool
) -> list[str]:
    """Lines from the top; heights are in rows. The curve's mark replaces what is under it."""
    levels, mark = (ASCII_LEVELS, ASCII_CURVE) if ascii else (EIGHTHS, CURVE)
    full = len(levels) - 1
    lines = []
    for floor in range(rows - 1, -1, -1):
        filled = np.clip(np.rint((bars - floor) * full), 0, full).astype(int)
        on_curve = (curve >= max(floor, FAINTEST)) & (curve < floor + 1)
        lines.append(
            "".join(
                mark if here else levels[level]
                for here, level in zip(on_curve, filled, strict=True)
            )
        )
    return lines


def _headline(title: str, total: int, hidden: int, width: int) -> str:
    tally = f"n = {total}" if total else "no scores"
    if hidden:
        tally += f", {hidden} not shown"
    room = max(0, width - len(tally) - 1)
    return f"{title[:room]:<{room}} {tally}"[:width].ljust(width)


def _axis(lo: float, hi: float, columns: int, ascii: bool) -> list[str]:
    """A rule with ticks at round numbers, and their labels below, centred where they fit."""
    dash, tick = ("-", "+") if ascii else ("─", "┬")
    rule, labels = [dash] * columns, [" "] * columns
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (hi - lo) / s * 5 <= columns or s == 100)
    for value in range(math.ceil(lo / step) * step, math.floor(hi / step) * step + 1, step):
        column = min(columns - 1, int((value - lo) / (hi - lo) * columns))
        rule[column] = tick
        text = str(value)
        start = min(max(0, column - len(text) // 2), columns - len(text))
        labels[start : start + len(text)] = text
    return [" " * MARGIN + "".join(rule), " " * MARGIN + "".join(labels)]
