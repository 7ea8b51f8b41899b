"""Charts made of characters: what can be drawn (`Series`), on what (`Grid`), and in which inks.

    series → fit (which part of the data) → raster.render → Grid → a widget, or plain text

Nothing here knows Textual, nothing raises on any data or size, and the same input gives the same
cells, so that grids are tested as text.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from console.charts.scale import LARGEST, Floats, Range, View, rounded_out, steadied, x_bounds

Kind = Literal["line", "curve", "band", "bars", "points", "errorbars", "hline", "vline"]
Pattern = Literal["", "solid", "dashed", "dotted", "dashdot"]

# What a cell is painted with. Series colours follow: SERIES, SERIES + 1, …
TEXT, AXIS, LABEL, NOTICE, REFERENCE, SERIES = range(6)
PALETTE = 8
INKS = (
    "text",
    "axis",
    "label",
    "notice",
    "reference",
    *(f"series-{n + 1}" for n in range(PALETTE)),
)
NEUTRAL = -1  # the `ink` of a yardstick (a density, retraining, no unlearning)
BACK, FAINT, WASH, STRONG = 16, 256, 512, 1024  # the bits of a style above its foreground ink

PATTERNS = {"solid": "1", "dashed": "111100", "dotted": "100", "dashdot": "11110010"}
SAMPLES = {"solid": "──", "dashed": "╌╌", "dotted": "┈┈", "dashdot": "─╌"}
MARKERS, ASCII_MARKERS = "●◆▲■✕○◇□", "*+x@%&$~"
MERGED_GAP = 10  # cells


@dataclass(frozen=True, eq=False)
class Series:
    """One thing on a chart.

    `x`, `y`, `lo`, `hi` are 1-d and as long as each other, with these exceptions: `bars` may have
    their len(y) + 1 edges as `x`; `band` needs `lo` and `hi` but no `y`; `hline` has only `y`;
    `vline` has only `x`, and `lo`..`hi` for an interval across. NaN and infinities are gaps.
    """

    name: str
    x: ArrayLike = ()
    y: ArrayLike = ()
    ink: int = 0  # index into the palette; NEUTRAL for a yardstick
    kind: Kind = "line"
    lo: ArrayLike = ()
    hi: ArrayLike = ()
    faint: bool = False
    pattern: Pattern = ""  # "" lets the chart choose

    def __post_init__(self) -> None:
        for role in ("x", "y", "lo", "hi"):
            values = np.asarray(getattr(self, role), dtype=np.float64).reshape(-1)
            object.__setattr__(self, role, values)

    def array(self, role: str) -> Floats:
        return np.asarray(getattr(self, role), dtype=np.float64)

    def columns(self, *roles: str) -> list[Floats]:
        """The named arrays, cut to the shortest."""
        arrays = [self.array(role) for role in roles]
        shortest = min(map(len, arrays))
        return [values[:shortest] for values in arrays]

    def reach(self, axis: str) -> Iterable[Floats]:
        """The arrays that have to fit on the `axis` ("x" or "y")."""
        if axis == "x":
            used = {"hline": ""}.get(self.kind, "x")
        else:
            used = {"vline": "", "band": "lo hi", "errorbars": "y lo hi"}.get(self.kind, "y")
        return [self.array(role) for role in used.split()]

    @property
    def style(self) -> int:
        ink = REFERENCE if self.ink < 0 else SERIES + self.ink % PALETTE
        return ink + (FAINT if self.faint else 0)


@dataclass(frozen=True)
class Options:
    """How to draw: `patterns` tells lines apart without colour, `shade` fills bands with a
    character where a terminal has too few colours for a background."""

    title: str = ""
    legend: bool = True
    axes: bool = True
    ascii: bool = False
    patterns: bool = False
    shade: bool = False
    notice: str = ""  # shown in the middle when there is nothing to draw


def looks(series: Sequence[Series], options: Options) -> list[tuple[str, str, str]]:
    """(legend sample, marker, dot pattern) of each series."""
    order = tuple(PATTERNS)
    drawn, found = 0, []
    for one in series:
        number = max(one.ink, 0) % PALETTE
        marker = (ASCII_MARKERS if options.ascii else MARKERS)[number]
        pattern: str = one.pattern or ("dashed" if one.kind == "hline" else "solid")
        if options.patterns and not one.pattern and one.kind == "line" and not one.faint:
            pattern = order[drawn % len(order)]
            drawn += 1
        if one.kind in ("line", "curve", "hline"):
            if options.ascii:
                yardstick = {"hline": "-", "curve": "o"}.get(one.kind, "=")
                marker = "." if one.faint else yardstick if one.ink < 0 else marker
            sample = marker if options.ascii else SAMPLES[pattern]
        elif one.kind in ("bars", "band", "vline"):
            sample = {"bars": "▇#", "band": "░:", "vline": "│|"}[one.kind][options.ascii]
        else:
            sample = marker
        found.append((sample, marker, PATTERNS[pattern]))
    return found


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells: `chars` (code points) and `styles`, both of shape (height, width).

    A style is a foreground ink, plus BACK times a background ink, plus FAINT, WASH (the
    background is a tint) or STRONG. `plot` is (left, top, width, height) of the area of the data.
    """

    chars: NDArray[np.uint32]
    styles: NDArray[np.int32]
    plot: tuple[int, int, int, int] = (0, 0, 0, 0)
    notice: str = ""

    @property
    def size(self) -> tuple[int, int]:
        return self.chars.shape[1], self.chars.shape[0]

    def text(self) -> list[str]:
        return [_text(line) for line in self.chars]

    def runs(self, y: int) -> list[tuple[str, int]]:
        """Line `y` as (text, style) runs. Blanks join the run before them: fewer escape codes."""
        styles = self.styles[y].copy()
        blank = (self.chars[y] == 32) & (styles < BACK)
        last = np.maximum.accumulate(np.where(blank, 0, np.arange(len(styles))))
        joined = styles[last]
        styles = np.where(blank & (joined // BACK % BACK == 0), joined, styles)
        cuts = [0, *(np.flatnonzero(np.diff(styles)) + 1).tolist(), len(styles)]
        text = _text(self.chars[y])
        return [(text[a:b], int(styles[a])) for a, b in pairwise(cuts) if b > a]

    def changes(self, old: Grid) -> list[tuple[int, int, int]]:
        """The spans (y, start, end) in which this grid differs from an `old` one of equal size;
        spans with so small a gap that moving the cursor would cost more are one."""
        differs = (self.chars != old.chars) | (self.styles != old.styles)
        spans = []
        for y in np.flatnonzero(differs.any(axis=1)).tolist():
            changed = np.flatnonzero(differs[y])
            ends = np.flatnonzero(np.diff(changed) > MERGED_GAP)
            starts = changed[np.concatenate(([0], ends + 1))].tolist()
            stops = (changed[np.concatenate((ends, [len(changed) - 1]))] + 1).tolist()
            spans += [(y, start, stop) for start, stop in zip(starts, stops, strict=True)]
        return spans


def heading(series: Sequence[Series], options: Options, width: int) -> list[tuple[str, int]]:
    """Title and legend, bands last; where there is not enough room for all of them, the last one
    is cut and says so, and others are left out."""
    pieces = [(printable(options.title)[:width] + "  ", TEXT + STRONG)] if options.title else []
    room = width - sum(len(text) for text, _ in pieces)
    named = [pair for pair in zip(series, looks(series, options), strict=True) if pair[0].name]
    for one, (glyph, _, _) in sorted(named, key=lambda pair: pair[0].kind == "band"):
        if not options.legend:
            break
        name, least = printable(one.name), len(glyph) + 4
        if least > room:
            break
        if len(glyph) + 1 + len(name) > room:
            name = name[: room - len(glyph) - 2] + ("~" if options.ascii else "…")
        pieces += [(glyph + " ", one.style), (name + "  ", LABEL)]
        room -= len(glyph) + len(name) + 3
    return pieces


def _text(line: NDArray[np.uint32]) -> str:
    return line.tobytes().decode("utf-32-le" if line.dtype.byteorder != ">" else "utf-32-be")


@lru_cache(512)
def printable(text: str) -> str:
    """`text` with one column per character: escapes, controls, wide and combining ones become ?"""
    return "".join(
        c
        if c.isprintable()
        and not unicodedata.combining(c)
        and unicodedata.east_asian_width(c) not in "WF"
        else "?"
        for c in text
    )


# --- the view that fits ---


def fit(
    series: Sequence[Series],
    logx: bool = False,
    logy: bool = False,
    window: Range | None = None,
    previous: View | None = None,
) -> View | str:
    """The view that shows all of `series`, or the part of them within the x range `window`.

    Bounds are round and stay at those of the `previous` view while the data fill it, so that
    little is repainted. When there is nothing to show, a text that says why.
    """
    if previous is not None and (previous.logx, previous.logy) != (logx, logy):
        previous = None
    x = _extent((one.reach("x") for one in series), logx)
    y = _extent(_within(series, window), logy) or _extent(_within(series, None), logy)
    if x is None or y is None:
        return _nothing(series)
    bars = [one for one in series if one.kind == "bars"]
    if bars and not logy:
        y = min(0.0, y[0]), max(0.0, y[1] * 1.05)
    before = (previous.xmin, previous.xmax) if previous else None
    across = window or (x if bars else steadied(x_bounds(*x, logx), before, x, logx))
    below = (previous.ymin, previous.ymax) if previous else None
    up = steadied(rounded_out(*y, logy), below, y, logy)
    return View(*across, *up, logx, logy).usable()


def _within(series: Iterable[Series], window: Range | None) -> Iterable[Iterable[Floats]]:
    """The y values of each series at x positions within the window."""
    for one in series:
        values, x = one.reach("y"), one.array("x")
        if window is None or one.kind in ("hline", "bars"):
            yield values
        else:
            inside = (x >= window[0]) & (x <= window[1])
            yield [array[: len(x)][inside[: len(array)]] for array in values]


def _extent(parts: Iterable[Iterable[Floats]], log: bool) -> Range | None:
    """The least and greatest finite (on a log axis: positive) number."""
    ends: list[float] = []
    for arrays in parts:
        for values in arrays:
            kept = values[(np.abs(values) <= LARGEST) & ((values > 0) | (not log))]
            if len(kept):
                ends += [float(kept.min()), float(kept.max())]
    return (min(ends), max(ends)) if ends else None


def _nothing(series: Sequence[Series]) -> str:
    arrays = [values for one in series for axis in "xy" for values in one.reach(axis)]
    if not any(len(values) for values in arrays):
        return "no data yet"
    if not any(np.isfinite(values).any() for one in series for values in one.reach("y")):
        return "no finite values"
    return "nothing above 0 on a log axis"


# --- scores against N(0, 1) ---


def bins(scores: ArrayLike, reach: float = 4.0, farthest: float = 100.0) -> tuple[Floats, Floats]:
    """(edges, counts) of the scores on -4..4, or wider where they reach farther (to 100 at most):
    about 2√n bins. NaN, infinities and what lies beyond are left out."""
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    values = values[np.abs(values) <= farthest]
    lo = min(-reach, math.floor(values.min())) if len(values) else -reach
    hi = max(reach, math.ceil(values.max())) if len(values) else reach
    parts = min(200, max(8, round(2 * math.sqrt(len(values)))))
    edges = np.linspace(lo, hi, parts + 1)
    return edges, np.histogram(values, edges)[0].astype(np.float64)


def gaussian_histogram(
    edges: ArrayLike,
    counts: ArrayLike,
    mean: float | None = None,
    interval: Range | None = None,
    name: str = "observed",
    ink: int = 0,
) -> list[Series]:
    """Bars whose area is 1, the density of N(0, 1) on the same scale, and the mean with its
    interval. `edges` has one more number than `counts`."""
    at, tally = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    tally = np.where(np.isfinite(tally), tally, 0.0)
    total, widths = float(tally.sum()), np.diff(at)
    with np.errstate(all="ignore"):
        density = tally / (total * widths) if total > 0 and len(widths) == len(tally) else tally
    series = [Series(name if total > 0 else "", at, density, ink, "bars")]
    ends = at[np.isfinite(at)]
    x = np.linspace(ends.min(), ends.max(), 321) if len(ends) else np.linspace(-4, 4, 321)
    curve = np.exp(-np.square(np.clip(x, -40, 40)) / 2) / math.sqrt(2 * math.pi)
    series.append(Series("N(0,1)", x, curve, NEUTRAL, "curve"))
    if mean is not None and math.isfinite(mean):
        lo, hi = interval or (math.nan, math.nan)
        series.append(Series("mean", [mean], ink=ink + 1, kind="vline", lo=[lo], hi=[hi]))
    return series
