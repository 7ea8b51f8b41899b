"""The axes of a chart: which part of the data is in view, where the ticks go, what they say.

Data coordinates are the numbers themselves; axis coordinates are their log10 on a log axis, else
the same. What cannot be placed (NaN, infinities, 0 and below on a log axis) is NaN there: a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Range = tuple[float, float]

LARGEST = 1e290  # beyond this, a difference of two numbers may overflow
FINEST = 1e-12  # of a number: narrower ranges cannot be told apart in float64
GROWTH = 10  # the end of the x axis grows in steps of about a tenth of it
KEPT = 0.5  # an axis stays as it is while the data fill this much of it
WIDEST_LABEL = 8
SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class View:
    """The rectangle of data that a chart shows, in data coordinates."""

    xmin: float
    xmax: float
    ymin: float
    ymax: float
    logx: bool = False
    logy: bool = False

    def usable(self) -> View:
        """The nearest view with finite, ascending, distinguishable (and on a log axis positive)
        bounds."""
        xmin, xmax = mended(self.xmin, self.xmax, self.logx)
        ymin, ymax = mended(self.ymin, self.ymax, self.logy)
        return replace(self, xmin=xmin, xmax=xmax, ymin=ymin, ymax=ymax)

    def across(self, x: ArrayLike) -> Floats:
        """Where `x` lies: 0 at the left edge, 1 at the right; NaN for what has no place."""
        return _fraction(x, self.xmin, self.xmax, self.logx)

    def up(self, y: ArrayLike) -> Floats:
        """Where `y` lies: 0 at the bottom, 1 at the top; NaN for what has no place."""
        return _fraction(y, self.ymin, self.ymax, self.logy)


def on_axis(values: ArrayLike, log: bool) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        if log:
            return np.log10(np.where(numbers > 0, numbers, np.nan))
        sizes = np.abs(numbers)
        if numbers.size and sizes.max() <= LARGEST:  # not so where one is NaN
            return numbers
        return np.where(sizes <= LARGEST, numbers, np.nan)


def _fraction(values: ArrayLike, lo: float, hi: float, log: bool) -> Floats:
    start, stop = axis_range((lo, hi), log)
    with np.errstate(all="ignore"):
        fraction = (on_axis(values, log) - start) * (1 / (stop - start))
    return (
        fraction
        if np.isfinite(fraction).all()
        else np.where(np.isfinite(fraction), fraction, np.nan)
    )


def axis_range(bounds: Range, log: bool) -> Range:
    """Data bounds in axis coordinates. They must be positive on a log axis."""
    return (math.log10(bounds[0]), math.log10(bounds[1])) if log else bounds


def data_range(bounds: Range, log: bool) -> Range:
    """Axis bounds in data coordinates."""
    if not log:
        return bounds
    lo, hi = (10.0 ** min(max(bound, -300.0), 290.0) for bound in bounds)
    return lo, hi


def mended(lo: float, hi: float, log: bool) -> Range:
    """Bounds as `View.usable` wants them. A single value gets room on both sides."""
    if not math.isfinite(lo) or not math.isfinite(hi):
        lo, hi = (1.0, 10.0) if log else (0.0, 1.0)
    lo, hi = (min(max(bound, -LARGEST), LARGEST) for bound in sorted((lo, hi)))
    if log:
        hi = max(hi, 1e-290) if hi > 0 else 1.0
        lo = max(lo, 1e-300) if lo > 0 else hi / 1e6
        if hi <= lo * (1 + FINEST):
            lo, hi = max(lo / 2, 1e-300), max(hi * 2, 1e-299)
        return lo, hi
    size = max(abs(lo), abs(hi))
    if hi - lo <= max(size * FINEST, 1e-290):
        room = max(size * 0.1, 1e-280) if size else 1.0
        lo, hi = lo - room, hi + room
    return lo, hi


# --- bounds that stay put ---


def nice_step(size: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is at least `size` (a positive number)."""
    exponent = math.floor(math.log10(size))
    power = 10.0**exponent
    return next((m * power for m in (1, 2, 5) if m * power >= size * (1 - 1e-9)), 10 * power)


def rounded_out(lo: float, hi: float, log: bool, parts: int = 5) -> Range:
    """Bounds at round numbers around the data, so that they seldom move while data arrive."""
    lo, hi = mended(lo, hi, log)
    if log and hi >= 3 * lo:
        return _log_floor(lo), 1 / _log_floor(1 / hi)
    step = nice_step((hi - lo) / parts)  # with hi < 3 lo, less than lo: the bounds stay above 0
    low, high = math.floor(lo / step + 1e-9) * step, math.ceil(hi / step - 1e-9) * step
    return min(lo, low), max(hi, high)


def _log_floor(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max((m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)), default=value)


def steadied(wanted: Range, previous: Range | None, needed: Range, log: bool) -> Range:
    """`previous`, while the data (`needed`) lie within it and fill a good part of it."""
    if previous is None or previous[0] > needed[0] or previous[1] < needed[1]:
        return wanted
    if log and previous[0] <= 0:
        return wanted
    new, old = axis_range(wanted, log), axis_range(previous, log)
    return previous if new[1] - new[0] >= KEPT * (old[1] - old[0]) else wanted


def x_bounds(lo: float, hi: float, log: bool) -> Range:
    """The x range of a curve that is still growing: its end moves in steps, and its start is 0
    when the data begin near there."""
    lo, hi = mended(lo, hi, log)
    if log:
        return lo, 1 / _log_floor(1 / hi)
    if 0 <= lo < 0.1 * hi:
        lo = 0.0
    step = nice_step((hi - lo) / GROWTH)
    return lo, max(hi, math.ceil(hi / step - 1e-9) * step)


# --- zoom and pan ---


def zoomed(bounds: Range, log: bool, factor: float, centre: float = 0.5) -> Range:
    """`bounds` narrowed by `factor` (wider below 1) about the fraction `centre` of the axis."""
    lo, hi = axis_range(mended(*bounds, log), log)
    fixed = lo + (hi - lo) * centre
    return mended(
        *data_range((fixed - (fixed - lo) / factor, fixed + (hi - fixed) / factor), log), log
    )


def panned(bounds: Range, log: bool, fraction: float) -> Range:
    """`bounds` moved right by a `fraction` of their own width."""
    lo, hi = axis_range(mended(*bounds, log), log)
    shift = (hi - lo) * fraction
    return mended(*data_range((lo + shift, hi + shift), log), log)


# --- ticks ---


@dataclass(frozen=True)
class Tick:
    value: float
    label: str


def ticks(lo: float, hi: float, log: bool, most: int) -> list[Tick]:
    """About `most` (at least 2) round numbers within the bounds, with labels that differ."""
    most = max(2, most)
    lo, hi = mended(lo, hi, log)
    values, step = (_log_ticks(lo, hi, most), 0.0) if log else _linear_ticks(lo, hi, most)
    if log and len(values) < 2:
        values, step = _linear_ticks(lo, hi, most)
    found: dict[str, Tick] = {}
    for value in values:
        label = tick_label(value, step)
        found.setdefault(label, Tick(value, label))
    return list(found.values())


def _linear_ticks(lo: float, hi: float, most: int) -> tuple[list[float], float]:
    """Multiples of a round step. Rather one more than `most` than a single one."""
    step = nice_step((hi - lo) / most)
    found = _multiples(lo, hi, step)
    other = nice_step(step * (1.5 if len(found) > most else 0.4))
    if len(found) < 2 or (len(found) > most and len(_multiples(lo, hi, other)) > 1):
        found, step = _multiples(lo, hi, other), other
    if len(found) > most + 2:
        step *= 2
        found = _multiples(lo, hi, step)
    return [k * step for k in found], step


def _multiples(lo: float, hi: float, step: float) -> range:
    return range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1)


def _log_ticks(lo: float, hi: float, most: int) -> list[float]:
    start, stop = math.log10(lo), math.log10(hi)
    first, last = math.ceil(start - 1e-9), math.floor(stop + 1e-9)
    if last - first < 2:  # few decades: 1, 2, 5 in each
        fine = [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)]
        within = [value for value in fine if lo * (1 - 1e-9) <= value <= hi * (1 + 1e-9)]
        if len(within) <= most or last <= first:
            return within[:: math.ceil(len(within) / most)] if within else []
    stride = math.ceil((last - first + 1) / most)
    return [10.0**e for e in range(first, last + 1) if e % stride == 0]


def tick_label(value: float, step: float = 0.0) -> str:
    """A short text for a tick: 0, 2.3, 250, 10k, 1.5M, 1e-3. `step` is the distance between
    ticks, so that neighbours differ; 0 when there is none (decades)."""
    size = abs(value)
    if size == 0 or (step and size < step * 1e-6):
        return "0"
    resolution = step or size / 100
    digits = max(0, math.floor(math.log10(size)) - math.floor(math.log10(resolution) + 1e-9))
    exponential = _trim_exponent(f"{value:.{min(digits, 12)}e}")
    if size < 0.0015 or size >= 1e15 or (not step and size < 0.01):
        return exponential
    plain = _trim(f"{value:.{min(max(0, -math.floor(math.log10(resolution) + 1e-9)), 15)}f}")
    candidates = [plain]
    for scale, suffix in SUFFIXES:
        if size >= scale * (1 - 1e-9):
            decimals = max(0, -math.floor(math.log10(resolution / scale) + 1e-9))
            candidates.insert(0, _trim(f"{value / scale:.{min(decimals, 15)}f}") + suffix)
            break
    shortest = min(candidates, key=len)
    return exponential if len(shortest) > WIDEST_LABEL > len(exponential) else shortest


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _trim_exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{_trim(mantissa)}e{int(exponent)}"


def x_labels(view: View, columns: int) -> list[tuple[int, str]]:
    """As many ticks as fit without their labels touching: (column of the plot, label)."""
    for most in range(max(2, columns // 7), 1, -1):
        found = ticks(view.xmin, view.xmax, view.logx, most)
        placed = [(cell_at(float(view.across(t.value)), columns), t.label) for t in found]
        ends = [(c - len(label) // 2, c - len(label) // 2 + len(label)) for c, label in placed]
        if all(a[1] + 1 < b[0] for a, b in pairwise(ends)):
            return placed
    return placed[:1]


def cell_at(fraction: float, cells: int) -> int:
    """The cell of `cells` in which a fraction of the way lies; 0 for NaN."""
    return min(max(int(fraction * cells), 0), cells - 1) if math.isfinite(fraction) else 0


def edges_between(centres: Floats) -> Floats:
    """The edges of bins with these centres, which must ascend."""
    if len(centres) < 2:
        return np.append(centres - 0.5, centres[-1:] + 0.5)
    with np.errstate(all="ignore"):
        half = np.diff(centres) / 2
        ends = [centres[0] - half[0]], centres[:-1] + half, [centres[-1] + half[-1]]
    return np.concatenate(ends)


# --- smoothing ---


def smooth(y: ArrayLike, weight: float) -> Floats:
    """The debiased exponential moving average of `y`, shape (n,): each value is the mean of all
    up to it, weighted by `weight`**age. Gaps stay gaps and do not age what came before.

    By doubling: a sum over the last 2m values is one over m plus one over the m before those. A
    loop in Python would take longer than drawing.
    """
    values = np.array(y, dtype=np.float64).reshape(-1)
    finite = np.isfinite(values)
    average = values[finite] * (1 - weight)
    if not len(average) or not 0 < weight < 1:
        return values
    covered, decay = 1, weight
    with np.errstate(all="ignore"):
        while covered < len(average) and decay > 1e-18:
            average[covered:] += decay * average[:-covered]
            covered, decay = 2 * covered, decay * decay
        values[finite] = average / -np.expm1(np.arange(1, len(average) + 1) * math.log(weight))
    return values
