"""Series to a grid of terminal cells: braille lines, bands, bars, error bars, axes, a legend.

A line of any length costs a few passes of numpy: its points are reduced to what each column of
dots must show (first, last, lowest, highest), so no spike is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from console.charts import (
    AXIS,
    BACK,
    FAINT,
    LABEL,
    NOTICE,
    TEXT,
    WASH,
    Grid,
    Options,
    Series,
    heading,
    looks,
    printable,
)
from console.charts.scale import (
    Floats,
    Tick,
    View,
    axis_range,
    cell_at,
    edges_between,
    ticks,
    x_labels,
)

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]
Area = tuple[int, int, int, int]  # left, top, width, height

EIGHTHS, ASCII_EIGHTHS = " ▁▂▃▄▅▆▇█", "  ..:::##"
BRAILLE, BRAILLE_BITS = 0x2800, np.array([[1, 8], [2, 16], [4, 32], [64, 128]], dtype=np.uint8)
FARTHEST = 1e6  # dots: a value out of view is drawn towards, no farther than this
SMALLEST = (18, 5)  # narrower or lower charts are all plot, without axes
LAYERS = {"band": 0, "bars": 1, "hline": 3, "vline": 4, "line": 5, "curve": 5}  # faint lines: 2
PREFIX = 4  # columns for the labels of the y axis; more where they are longer


def render(
    series: Sequence[Series], width: int, height: int, view: View | None, options: Options
) -> Grid:
    """Draw `series` on `width` x `height` cells. Without a `view` there is nothing to show but
    the notice (`console.charts.fit` finds one). Sizes below 1 give an empty grid."""
    width, height = max(0, width), max(0, height)
    canvas = Canvas(width, height, options)
    if not width or not height:
        return canvas.grid((0, 0, width, height))
    headed = height > 2 and (options.title or (options.legend and any(s.name for s in series)))
    if headed:
        canvas.write(0, 0, width, heading(series, options, width))
    top = 1 if headed else 0
    if view is None:
        notice = options.notice or "no data"
        shown = printable(notice)[:width]
        row = top + (height - top) // 2
        canvas.write(row, (width - len(shown)) // 2, width, [(shown, NOTICE)])
        return canvas.grid((0, top, width, height - top), notice)
    view = view.usable()
    left, below = 0, 0
    if options.axes and width >= SMALLEST[0] and height >= SMALLEST[1]:
        below = 2
        y_ticks = ticks(view.ymin, view.ymax, view.logy, (height - top - below) // 3 + 1)
        left = max(PREFIX, *(len(tick.label) + 1 for tick in y_ticks)) if y_ticks else PREFIX
        left = min(left + 1, width // 3)
        canvas.axes(view, y_ticks, (left, top, width - left, height - top - below))
    plot = (left, top, width - left, height - top - below)
    Plot(canvas, plot, view, options).draw(series)
    return canvas.grid(plot)


@dataclass
class Canvas:
    """The cells while they are written."""

    width: int
    height: int
    options: Options
    chars: NDArray[np.uint32] = field(init=False)
    styles: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.chars = np.full((self.height, self.width), 32, dtype=np.uint32)
        self.styles = np.zeros((self.height, self.width), dtype=np.int32)

    def grid(self, plot: Area, notice: str = "") -> Grid:
        self.styles[(self.chars == 32) & (self.styles % FAINT < BACK)] = TEXT
        return Grid(self.chars, self.styles, plot, notice)

    def write(self, y: int, x: int, end: int, pieces: Iterable[tuple[str, int]]) -> None:
        for text, style in pieces:
            for character in text:
                if 0 <= x < min(end, self.width) and 0 <= y < self.height:
                    self.chars[y, x], self.styles[y, x] = ord(character), style
                x += 1

    def axes(self, view: View, y_ticks: list[Tick], plot: Area) -> None:
        left, top, columns, rows = plot
        bar, dash, corner, y_mark, x_mark = tuple("|-+++" if self.options.ascii else "│─└┤┬")
        bottom = top + rows
        for y in range(top, bottom):
            self.write(y, left - 1, left, [(bar, AXIS)])
        self.write(bottom, left - 1, self.width, [(corner + dash * columns, AXIS)])
        for tick in y_ticks:
            y = bottom - 1 - cell_at(float(view.up(tick.value)), rows)
            self.write(y, left - 1, left, [(y_mark, AXIS)])
            label = tick.label[: left - 1]
            self.write(y, left - 1 - len(label), left - 1, [(label, LABEL)])
        for column, label in x_labels(view, columns):
            self.write(bottom, left + column, self.width, [(x_mark, AXIS)])
            start = min(max(0, left + column - len(label) // 2), self.width - len(label))
            self.write(bottom + 1, start, self.width, [(label, LABEL)])


class Plot:
    """Draws series on the plot area of a canvas."""

    def __init__(self, canvas: Canvas, area: Area, view: View, options: Options) -> None:
        left, top, self.columns, self.rows = area
        window = np.s_[top : top + self.rows, left : left + self.columns]
        self.chars, self.styles = canvas.chars[window], canvas.styles[window]
        self.view, self.options = view, options
        self.fine = (1, 1) if options.ascii else (4, 2)  # dots per cell: down, across
        self.dots = np.zeros((self.rows, self.columns), dtype=np.uint8)
        self.back = np.zeros((self.rows, self.columns), dtype=np.int32)  # what fillings leave
        self.barred = np.zeros((self.rows, self.columns), dtype=bool)

    def draw(self, series: Sequence[Series]) -> None:
        """Fillings first, then faint lines, yardsticks, lines, marks: each over the ones before."""
        if self.rows < 1 or self.columns < 1:
            return
        drawn = zip(series, looks(series, self.options), strict=True)
        for one, (_, marker, pattern) in sorted(drawn, key=lambda pair: _layer(pair[0])):
            match one.kind:
                case "bars":
                    self._bars(one)
                case "band":
                    self._band(one)
                case "points" | "errorbars":
                    self._points(one, marker)
                case "vline":
                    self._vline(one)
                case "hline":
                    self._ink(self._hline(one, pattern), one, marker)
                case _:
                    self._ink(self._line(one, pattern), one, marker)
            if one.faint:
                self.dots[:] = 0  # what is drawn over a faint line replaces its dots

    # lines: a mask of dots, then cells

    def _ink(self, mask: Mask, one: Series, marker: str) -> None:
        if self.options.ascii:
            hit, low = mask, mask
        else:
            cells = mask.reshape(self.rows, 4, self.columns, 2)
            bits = (cells * BRAILLE_BITS[None, :, None, :]).sum(axis=(1, 3), dtype=np.uint8)
            hit, low = bits > 0, bits & 0x3F == 0
        if one.kind == "curve":  # its flat end would hide the bars of the tails
            hit = hit & ~(low & self.barred & (np.arange(self.rows) == self.rows - 1)[:, None])
        if self.options.ascii:
            self.chars[hit] = ord(marker)
        else:
            self.dots |= np.where(hit, bits, 0).astype(np.uint8)
            self.chars[hit] = BRAILLE + self.dots[hit].astype(np.uint32)
        self.styles[hit] = one.style + self.back[hit]

    def _hline(self, one: Series, pattern: str) -> Mask:
        mask = np.zeros((self.rows * self.fine[0], self.columns * self.fine[1]), dtype=bool)
        heights = self.view.up(one.y)
        for height in heights[(heights >= 0) & (heights <= 1)].tolist():
            mask[len(mask) - 1 - cell_at(height, len(mask))] = True
        return self._patterned(mask, pattern)

    def _line(self, one: Series, pattern: str) -> Mask:
        """Dots of the line through the points: each run between gaps is connected."""
        height, width = self.rows * self.fine[0], self.columns * self.fine[1]
        x, y, run = self._points_in_view(one)
        edges = np.zeros((height + 1, width), dtype=np.int32)  # +1 where dots begin, -1 after them
        if len(x):
            column = np.minimum((x * width).astype(np.int64), width - 1)
            depth = np.ceil(np.clip((1 - y) * height, -FARTHEST, FARTHEST)).astype(np.int64) - 1
            row = np.where(y == 1, 0, depth)  # the top edge belongs to the picture
            new = np.flatnonzero((column[1:] != column[:-1]) | (run[1:] != run[:-1])) + 1
            starts, ends = np.append(0, new), np.append(new - 1, len(x) - 1)
            low, high = np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts)
            _strokes(edges, column[starts], low, high)
            joined = np.flatnonzero(run[ends[:-1]] == run[starts[1:]])
            _bridges(
                edges,
                (column[ends[joined]], row[ends[joined]]),
                (column[starts[joined + 1]], row[starts[joined + 1]]),
            )
        return self._patterned(np.cumsum(edges[:-1], axis=0) > 0, pattern)

    def _points_in_view(self, one: Series) -> tuple[Floats, Floats, Ints]:
        """Fractions across and up, and the number of the run, of the points between the left and
        right edge, with a point on the edge itself where a line crosses it."""
        xs, ys = one.columns("x", "y")
        x, y = self.view.across(xs), self.view.up(ys)
        known = np.isfinite(x + y)
        run = np.zeros(len(x), dtype=np.int64)
        if not known.all():
            run, x, y = np.cumsum(~known, dtype=np.int64)[known], x[known], y[known]
        if (x[1:] < x[:-1]).any():  # a stage that was resumed repeats some steps
            order = np.argsort(x, kind="stable")
            x, y, run = x[order], y[order], np.zeros_like(run)
        first, last = int(np.searchsorted(x, 0.0, "left")), int(np.searchsorted(x, 1.0, "right"))
        before, after = max(first - 1, 0), min(last + 1, len(x))
        x, y, run = x[before:after].copy(), y[before:after].copy(), run[before:after]
        if len(x) > 1 and x[0] < 0:
            y[0] = np.interp(0.0, x[:2], y[:2]) if run[0] == run[1] else np.nan
            x[0] = 0.0
        if len(x) > 1 and x[-1] > 1:
            y[-1] = np.interp(1.0, x[-2:], y[-2:]) if run[-1] == run[-2] else np.nan
            x[-1] = 1.0
        shown = (x >= 0) & (x <= 1) & np.isfinite(y)
        return x[shown], y[shown], run[shown]

    def _patterned(self, mask: Mask, pattern: str) -> Mask:
        if "0" in pattern and not self.options.ascii:
            period = np.array([dot == "1" for dot in pattern])
            mask &= period[np.arange(mask.shape[1]) % len(period)]
        return mask

    # fillings

    def _bars(self, one: Series) -> None:
        density = self._mean_per_column(one)
        top = np.nan_to_num(self.view.up(density), nan=0.0) * self.rows
        floor = np.arange(self.rows - 1, -1, -1)[:, None]
        eighths = np.rint(np.clip(top - floor, 0, 1) * 8).astype(np.int64)
        base = 0.0 if self.view.logy else float(self.view.up(0.0))
        ground = min(max(int(base * self.rows), 0), self.rows - 1)
        eighths[floor[:, 0] < ground] = 0
        tiny = (density > 0) & (top > ground) & (eighths[self.rows - 1 - ground] == 0)
        eighths[self.rows - 1 - ground, tiny] = 2 if self.options.ascii else 1  # few is not none
        levels = ASCII_EIGHTHS if self.options.ascii else EIGHTHS
        hit = eighths > 0
        self.chars[hit] = np.array([ord(level) for level in levels], dtype=np.uint32)[eighths][hit]
        self.styles[hit] = one.style
        self.barred |= hit & (self.chars != 32)
        if not self.options.ascii:
            self.back[eighths >= 5] = one.style % BACK * BACK + (WASH if one.faint else 0)

    def _mean_per_column(self, one: Series) -> Floats:
        """The mean of the step function over each column: its area is kept at any width."""
        x, y = one.array("x"), np.nan_to_num(one.array("y"), nan=0.0, posinf=0.0, neginf=0.0)
        edges = x if len(x) == len(y) + 1 else edges_between(x[: len(y)])
        y = y[: max(0, len(edges) - 1)]
        if not len(y) or not np.isfinite(edges).all() or (edges[1:] < edges[:-1]).any():
            return np.zeros(self.columns)
        span = axis_range((self.view.xmin, self.view.xmax), self.view.logx)
        cuts = np.linspace(*span, self.columns + 1)
        cuts = 10.0**cuts if self.view.logx else cuts
        with np.errstate(all="ignore"):
            area = np.append(0.0, np.cumsum(y * np.diff(edges)))
            means: Floats = np.diff(np.interp(cuts, edges, area)) / np.diff(cuts)
        return np.nan_to_num(means)

    def _band(self, one: Series) -> None:
        xs, los, his = one.columns("x", "lo", "hi")
        x = self.view.across(xs)
        lo, hi = self.view.up(np.fmin(los, his)), self.view.up(np.fmax(los, his))
        known = np.isfinite(x) & np.isfinite(los) & np.isfinite(his) & np.isfinite(hi)
        lo = np.where(np.isfinite(lo), lo, 0.0)  # a log axis: the band reaches below it
        run, (x, lo, hi) = np.cumsum(~known)[known], (part[known] for part in (x, lo, hi))
        order = np.argsort(x, kind="stable")
        x, lo, hi, run = x[order], lo[order], hi[order], run[order]
        if not len(x):
            return
        centres = (np.arange(self.columns) + 0.5) / self.columns
        right = np.clip(np.searchsorted(x, centres), 1, max(1, len(x) - 1))
        inside = (centres >= x[0]) & (centres <= x[-1])
        if len(x) > 1:
            inside &= run[right] == run[right - 1]
        low = np.where(inside, np.interp(centres, x, lo), np.inf)
        high = np.where(inside, np.interp(centres, x, hi), -np.inf)
        shown = (x >= 0) & (x <= 1)
        column = np.minimum((x[shown] * self.columns).astype(np.int64), self.columns - 1)
        np.minimum.at(low, column, lo[shown])
        np.maximum.at(high, column, hi[shown])
        seen = (high >= 0) & (low <= 1) & (high >= low)
        low, high = (np.clip(np.where(seen, ends, 0), 0, 1) * self.rows for ends in (low, high))
        bottom, top = np.rint(low), np.rint(high)
        thin = top <= bottom  # never thinner than a cell
        bottom[thin] = np.minimum(np.floor((low + high)[thin] / 2), self.rows - 1)
        top[thin] = bottom[thin] + 1
        floor = np.arange(self.rows - 1, -1, -1)[:, None]
        hit = seen & (floor >= bottom) & (floor < top)
        if self.options.ascii or self.options.shade:
            self.chars[hit] = ord(":" if self.options.ascii else "░")
            self.styles[hit] = one.style % BACK + FAINT
        else:
            self.back[hit] = self.styles[hit] = one.style % BACK * BACK + WASH

    # marks

    def _points(self, one: Series, marker: str) -> None:
        bar, cap_low, cap_high = "|--" if self.options.ascii else "│┴┬"
        xs, ys = one.columns("x", "y")
        at, heights = self.view.across(xs), self.view.up(ys)
        if one.kind == "errorbars":
            _, los, his = one.columns("x", "lo", "hi")
            lows, highs = self.view.up(np.fmin(los, his)), self.view.up(np.fmax(los, his))
            for x, lo, hi in zip(at.tolist(), lows.tolist(), highs.tolist(), strict=False):
                if not (0 <= x <= 1 and hi >= 0) or lo > 1:
                    continue
                lo = lo if lo >= 0 else -1.0  # also NaN: below a log axis
                column, high = cell_at(x, self.columns), cell_at(min(hi, 1.0), self.rows)
                low = cell_at(max(lo, 0.0), self.rows)
                for level in range(low, high + 1):
                    self._mark(column, level, bar, one)
                if high > low:
                    self._mark(column, low, cap_low if lo >= 0 else bar, one)
                    self._mark(column, high, cap_high if hi <= 1 else bar, one)
        shown = (at >= 0) & (at <= 1) & (heights >= 0) & (heights <= 1)
        across = np.minimum((at[shown] * self.columns).astype(np.int64), self.columns - 1)
        up = np.minimum((heights[shown] * self.rows).astype(np.int64), self.rows - 1)
        self.chars[self.rows - 1 - up, across] = ord(marker)
        self.styles[self.rows - 1 - up, across] = one.style + self.back[self.rows - 1 - up, across]

    def _mark(self, column: int, level: int, character: str, one: Series) -> None:
        row = self.rows - 1 - level
        self.chars[row, column] = ord(character)
        self.styles[row, column] = one.style + self.back[row, column]

    def _vline(self, one: Series) -> None:
        """A line up from each x, and in the top row the interval around it."""
        bar, left, dash, right, cross = "|[-]+" if self.options.ascii else "│├─┤┼"
        at, lows, highs = (self.view.across(values) for values in (one.x, one.lo, one.hi))
        middles = [cell_at(x, self.columns) if 0 <= x <= 1 else -1 for x in at.tolist()]
        for middle in middles:
            for level in range(self.rows if middle >= 0 else 0):
                self._mark(middle, level, bar, one)
        for middle, *ends in zip(middles, lows.tolist(), highs.tolist(), strict=False):
            if self.rows < 2 or not (min(ends) <= 1 and max(ends) >= 0):
                continue
            start, end = (cell_at(min(max(x, 0.0), 1.0), self.columns) for x in sorted(ends))
            signs = dict.fromkeys(range(start, end + 1), dash)
            signs |= {start: left, end: right} if end > start else {}
            signs |= {middle: cross} if middle >= 0 else {}
            for column, sign in signs.items():
                self._mark(column, self.rows - 1, sign, one)


def _layer(one: Series) -> int:
    return 2 if one.faint and one.kind not in ("bars", "band") else LAYERS.get(one.kind, 6)


def _strokes(
    edges: NDArray[np.int32],
    column: Ints,
    low: Ints,
    high: Ints,
) -> None:
    """Vertical strokes from row `low` to row `high`, cut to the picture."""
    height = len(edges) - 1
    seen = (high >= 0) & (low < height)
    np.add.at(edges, (np.maximum(low[seen], 0), column[seen]), 1)
    np.add.at(edges, (np.minimum(high[seen], height - 1) + 1, column[seen]), -1)


def _bridges(edges: NDArray[np.int32], start: tuple[Ints, Ints], stop: tuple[Ints, Ints]) -> None:
    """Straight lines from (column, row) to (column, row), one column or more apart: in each
    column, a stroke over the rows that the line passes there."""
    (c1, r1), (c2, r2) = start, stop
    steps = c2 - c1
    which = np.repeat(np.arange(len(c1)), steps + 1)
    step = np.arange(len(which)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    parts = np.maximum(steps[which], 1)
    enter, leave = np.clip((step - 0.5) / parts, 0, 1), np.clip((step + 0.5) / parts, 0, 1)
    rise = (r2 - r1)[which]
    a = np.rint(r1[which] + enter * rise).astype(np.int64)
    b = np.rint(r1[which] + leave * rise).astype(np.int64)
    _strokes(edges, c1[which] + step, np.minimum(a, b), np.maximum(a, b))
