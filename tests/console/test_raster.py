"""Charts as text: what they look like, and that no data and no size breaks them."""

from __future__ import annotations

import math
import timeit
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import charts
from console.charts import BACK, FAINT, NEUTRAL, REFERENCE, SERIES, Grid, Options, Series

from console.charts import bins, fit, gaussian_histogram, printable  # isort: skip
from console.charts.raster import render
from console.charts.scale import View

STEPS = np.arange(2000.0)
RETRAIN = 2.2 * np.exp(-STEPS / 450) + 0.07
LOSS = 2.3 * np.exp(-STEPS / 400) + 0.1 * (1 + np.sin(STEPS / 15)) * np.exp(-STEPS / 800)
LINES = [
    Series("scrub", STEPS, LOSS, 0),
    Series("retrain", STEPS, RETRAIN, NEUTRAL, pattern="dashed"),
]
SCORES = [NormalDist(0.6, 1.05).inv_cdf((i + 0.5) / 400) for i in range(400)]
Z = gaussian_histogram(*bins(SCORES), 0.6, (0.5, 0.7))
BUDGETS = [0.005, 0.01, 0.02, 0.04, 0.08]
MEANS = [0.9, 0.7, 0.5, 0.3, 0.2]
LOWS, HIGHS = [0.8, 0.6, 0.45, 0.2, 0.1], [1, 0.8, 0.55, 0.4, 0.3]
CURVE = [
    Series("none", y=[0.95], kind="hline", ink=NEUTRAL),
    Series("", BUDGETS, MEANS),
    Series("scrub", BUDGETS, MEANS, 0, "errorbars", LOWS, HIGHS),
]
BAND = [
    Series("retrain", [0, 5, 10], lo=[1, 2, 1], hi=[2, 4, 5], kind="band", ink=1),
    Series("scrub", [0, 10], [0, 5]),
]
FOUR = [Series(name, [0, 10], [i, i], i) for i, name in enumerate("abcd")]
SHAPES = [Series("a", [1, 2, 3], [1, 2, 3], 0, "points"), Series("b", [1, 2, 3], [3, 2.5, 1], 1)]


def draw(
    series: list[Series],
    width: int = 44,
    height: int = 10,
    logx: bool = False,
    logy: bool = False,
    **how: Any,
) -> Grid:
    found = fit(series, logx, logy)
    if isinstance(found, str):
        return render(series, width, height, None, Options(**{"notice": found, **how}))
    return render(series, width, height, found, Options(**how))


GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "two lines": (
        {"series": LINES},
        """
|── scrub  ╌╌ retrain                        |
|    │⣶                                      |
|   2┤⠘⢧⣄                                    |
|    │  ⠸⣦⡄                                  |
|    │    ⠹⠤⣄                                |
|   1┤      ⠙⠛⣆⣤⣀                            |
|    │         ⠈⠛⠳⠷⢶⣀⣤⣀                      |
|   0┤               ⠈⠉⠙⠛⠛⠒⠷⠶⠤⠶⠶⢤⣤⣤⣀⣤⣤⣀⣤⣤⣀⣤⣤⣀|
|    └┬────────┬─────────┬─────────┬────────┬|
|     0       500       1k       1.5k      2k|
""",
    ),
    "both log, ascii": (
        {"series": LINES, "logx": True, "logy": True, "ascii": True},
        """
|* scrub  = retrain                          |
|     |====================*                 |
|    1+                   ============       |
|     |                              =====   |
|     |                                 *=== |
|  0.1+                                   *==|
|     |                                    **|
| 0.01+                                     *|
|     ++----------+-----------+----------+---|
|      1         10          100        1k   |
""",
    ),
    "patterns instead of colours": (
        {"series": FOUR, "patterns": True},
        """
|── a  ╌╌ b  ┈┈ c  ─╌ d                      |
|    │⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ ⠁⠉⠉ |
|    │                                       |
|   2┤⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ |
|    │                                       |
|    │⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ ⠤⠤ |
|    │                                       |
|   0┤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀|
|    └┬──────────────────┬──────────────────┬|
|     0                  5                 10|
""",
    ),
    "a band, shaded": (
        {"series": BAND, "shade": True},
        """
|── scrub  ░ retrain                         |
|    │                                ░⢀⣀⡤⠴⠒⠋|
|   4┤                   ░░░░░░░░░⣀⡤⠴⠒⠋⠉░░░░░|
|    │            ░░░░░░░░░░⣀⣠⠤⠖⠚⠉⠁░░░░░░░░░░|
|    │     ░░░░░░░░░░░⢀⣀⡤⠴⠚⠉⠁░░░░░░░░░░░░░░░░|
|   2┤░░░░░░░░░░⢀⣀⡤⠴⠒⠋⠉       ░░░░░░░░░░░░░░░|
|    │░    ⣀⣠⠤⠖⠚⠉                           ░|
|   0┤⣠⠤⠖⠚⠉⠁                                 |
|    └┬──────────────────┬──────────────────┬|
|     0                  5                 10|
""",
    ),
    "z against N(0,1)": (
        {"series": Z, "width": 60, "height": 12, "title": "z n=400"},
        """
|z n=400  ▇ observed  ── N(0,1)  │ mean                      |
|    │                              ├┼┤                      |
| 0.4┤                         ⢀⣀⣀⣀⡀ │                       |
|    │                       ⢠⠼⠉  ▁⠉⠧⡄▆▄▂                    |
|    │                     ⢀⡼⠉  ▄▇███⠉⠧⡄██▅                  |
|    │                    ⡴⠋   ▆█████│█⠙⢦██▇▂                |
| 0.2┤                  ⢠⠞⠁ ▃▅███████│██⠈⠳⡄██▆▃              |
|    │                ⢀⡼⠉ ▁▂█████████│████⠉⢧⡀██▄▁            |
|    │             ⢀⣠⠞⠉ ▃▇███████████│██████⠉⠳⣄⡀██▃▁         |
|   0┤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣠⠤⠴⠚⠉▂▅▆██████████████│█████████⠉⠓⠦⠤⣄▇▅▂▂▂▂▂▁⣀|
|    └┬────────────┬─────────────┬─────────────┬────────────┬|
|    -4           -2             0             2            4|
""",
    ),
    "z against N(0,1), ascii": (
        {"series": Z, "width": 60, "height": 12, "title": "z n=400", "ascii": True},
        """
|z n=400  # observed  o N(0,1)  | mean                       |
|    |                              [+]                      |
| 0.4+                         ooooo |                       |
|    |                       ooo   ooo::.                    |
|    |                     ooo  :####ooo##:                  |
|    |                   ooo   :#####|#ooo##.                |
| 0.2+                  oo  .:#######|###oo##:.              |
|    |                ooo  .#########|####ooo##:             |
|    |             oooo .############|######oooo##.          |
|   0+oooooooooo.....::##############|###############:.....oo|
|    ++------------+-------------+-------------+------------+|
|    -4           -2             0             2            4|
""",
    ),
    "budget curve": (
        {"series": CURVE, "height": 12, "logx": True},
        """
|╌╌ none  ● scrub                            |
|   1┤●⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ ⠒⠒ |
|    │┴⠉⠓⠦⢤⣀⡀  ┬                             |
|    │      ⠉⠓⠲●⣀⡀                           |
|    │         ┴ ⠉⠓⠲⠤⣄⡀                      |
| 0.5┤                ⠉⠙●⢤⣀⡀                 |
|    │                     ⠉⠓⠦⣄⣀ ┬           |
|    │                         ⠈⠙●⠲⠤⠤⢤⣀⣀⣀ ┬  |
|    │                           ┴      ⠈⠉●  |
|   0┤                                    ┴  |
|    └┬────────┬────────┬──────────┬────────┬|
|   5e-3     0.01     0.02       0.05     0.1|
""",
    ),
    "gaps": (
        {"series": [Series("a", range(6), [1, 2, math.nan, 2, math.inf, 1])], "height": 8},
        """
|── a                                        |
|   2┤      ⣠⠞               ⠁               |
|    │    ⢀⡼⠁                                |
|    │   ⣠⠏                                  |
|    │ ⢀⡞⠁                                   |
|   1┤⡴⠋                                    ⢀|
|    └┬──────────────┬───────────────┬───────|
|     0              2               4       |
""",
    ),
    "close numbers": (
        {"series": [Series("a", [0, 1], [1.00001, 1.00005])], "height": 8},
        """
|── a                                        |
|        │                            ⣀⣀⡤⠤⠖⠚⠉|
| 1.00004┤                     ⣀⣠⠤⠴⠒⠚⠉⠁      |
|        │             ⢀⣀⣠⠤⠴⠒⠋⠉⠁             |
| 1.00002┤      ⢀⣀⡤⠤⠖⠒⠋⠉                     |
|        │⣀⡤⠴⠒⠚⠉⠉                            |
|        └┬────────────────┬────────────────┬|
|         0               0.5               1|
""",
    ),
    "log of nothing positive": (
        {"series": [Series("a", [1, 2], [-1, 0])], "height": 5, "logy": True},
        """
|── a                                        |
|                                            |
|                                            |
|       nothing above 0 on a log axis        |
|                                            |
""",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_it_looks_as_it_should(name: str) -> None:
    how, picture = GOLDEN[name]
    assert [f"|{line}|" for line in draw(**how).text()] == picture.strip().splitlines()


def test_the_curve_is_drawn_on_the_colour_of_the_bars() -> None:
    grid = draw(Z, 60, 12)
    over = (grid.styles % BACK == REFERENCE) & (grid.styles // BACK % BACK == SERIES)
    assert over.sum() > 5
    assert all(0x2800 < code < 0x2900 for code in grid.chars[over])


def test_a_band_is_a_tint_behind_the_line() -> None:
    grid = draw(BAND)
    tinted = grid.styles & charts.WASH > 0
    crossed = tinted & (grid.styles % BACK == SERIES)
    assert tinted.sum() > 60 and crossed.any()
    assert (grid.chars[tinted & ~crossed] == 32).all()


def test_bars_and_density_have_one_scale() -> None:
    """400 scores whose histogram is N(0,1) itself: the bars reach the curve."""
    scores = [NormalDist().inv_cdf((i + 0.5) / 20000) for i in range(20000)]
    bars, curve = gaussian_histogram(*bins(scores))
    middles = (bars.x[1:] + bars.x[:-1]) / 2
    assert np.abs(bars.y - np.interp(middles, curve.x, curve.y)).max() < 0.01
    assert math.isclose(float((bars.y * np.diff(bars.x)).sum()), 1)


def test_few_scores_are_seen_among_many() -> None:
    edges, counts = np.linspace(-4, 4, 41), np.zeros(40)
    counts[[20, 38]] = 5000, 1
    bottom = draw(gaussian_histogram(edges, counts), 60, 12).text()[-3]
    assert "▁" in bottom[50:]


def test_faint_dots_do_not_thicken_the_line_over_them() -> None:
    noisy = Series("", [0, 1, 2, 3], [0, 5, 0, 5], faint=True)
    line = Series("a", [0, 3], [2, 2])
    both = draw([noisy, line], legend=False)
    assert both.text() == draw([line, noisy], legend=False).text()
    strong = both.styles == SERIES
    assert set(both.chars[strong].tolist()) <= {ord(c) for c in "⠉⠒⠤⣀"}
    assert (both.styles == SERIES + FAINT).any()


def test_a_spike_among_40_000_points_is_seen() -> None:
    y = np.zeros(40_000)
    y[12_345] = 7
    column = 5 + int(12_345 / 40_000 * 39)
    assert "".join(
        line[column] for line in draw([Series("", range(40_000), y)]).text()[:-2]
    ).strip()


def test_40_000_points_take_milliseconds() -> None:
    x = np.arange(40_000.0)
    series = [Series("a", x, np.sin(x / 1000))]
    assert min(timeit.repeat(lambda: draw(series, 53, 20), number=1, repeat=10)) < 0.025


def test_a_resumed_stage_repeats_steps() -> None:
    there_and_back, straight = [0, 1, 2, 3, 2, 3, 4], [0, 1, 2, 3, 4]
    pictures = [draw([Series("a", steps, steps)]).text() for steps in (there_and_back, straight)]
    assert pictures[0] == pictures[1]


def test_lines_enter_and_leave_the_window() -> None:
    line = Series("", [0, 100], [0, 100])
    text = render([line], 30, 8, View(40, 41, 40, 41), Options(axes=False)).text()
    assert text[0][-1] != " " and text[-1][0] != " " and all(row.strip() for row in text)


def test_names_cannot_break_the_cells() -> None:
    assert printable("a\x1b[31mb\n表́") == "a?[31mb???"
    assert all(len(line) == 44 for line in draw([Series("\x1b[2J表", [0, 1], [0, 1])]).text())


def test_changes_are_the_spans_that_differ() -> None:
    old, new = draw(LINES), draw(LINES)
    assert new.changes(old) == []
    new.chars[3, 7], new.chars[3, 9], new.chars[3, 40], new.styles[5, 2] = 65, 65, 65, SERIES
    assert new.changes(old) == [(3, 7, 10), (3, 40, 41), (5, 2, 3)]


# --- any data, any size ---

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-5, 5),
    st.sampled_from([0.0, -0.0, 1e-300, 5e-324, 1.7e308, -1.7e308, 1.0, 1.0 + 2e-16]),
)
arrays = st.lists(numbers, max_size=12)
kinds = st.sampled_from(["line", "curve", "band", "bars", "points", "errorbars", "hline", "vline"])
any_series = st.builds(
    Series,
    st.text(max_size=8),
    arrays,
    arrays,
    st.integers(-2, 20),
    kinds,
    arrays,
    arrays,
    st.booleans(),
    st.sampled_from(["", "dashed", "dotted"]),
)
any_options = st.builds(
    Options, st.text(max_size=9), *[st.booleans()] * 5, notice=st.text(max_size=5)
)


def check(grid: Grid, width: int, height: int) -> None:
    assert grid.size == (max(0, width), max(0, height))
    lines = grid.text()
    assert all(len(line) == grid.size[0] and line.isprintable() for line in lines)
    assert (grid.styles % BACK < len(charts.INKS)).all() and (
        grid.styles // BACK % BACK < len(charts.INKS)
    ).all()
    for y, line in enumerate(lines):
        assert "".join(text for text, _ in grid.runs(y)) == line
    left, top, columns, rows = grid.plot
    assert left + columns <= grid.size[0] and top + rows <= grid.size[1]


@settings(max_examples=250, deadline=None)
@given(
    st.lists(any_series, max_size=4),
    st.integers(-2, 70),
    st.integers(-2, 24),
    st.booleans(),
    st.booleans(),
    st.none() | st.tuples(numbers, numbers),
    any_options,
)
def test_nothing_raises(
    series: list[Series],
    width: int,
    height: int,
    logx: bool,
    logy: bool,
    window: Any,
    options: Options,
) -> None:
    found = fit(series, logx, logy, window)
    view = None if isinstance(found, str) else found
    check(render(series, width, height, view, options), width, height)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(any_series, max_size=3),
    st.builds(View, numbers, numbers, numbers, numbers, st.booleans(), st.booleans()),
)
def test_any_view_will_do(series: list[Series], view: View) -> None:
    check(render(series, 40, 12, view, Options()), 40, 12)


def filling(values: list[float], ascii: bool) -> Grid:
    """A line from the left edge to the right one."""
    view = View(0, len(values) - 1, min(values), max(values))
    line = Series("", range(len(values)), values)
    return render([line], 44, 10, view, Options(axes=False, ascii=ascii))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=300), st.booleans())
def test_monotone_data_give_monotone_rows(values: list[float], ascii: bool) -> None:
    grid = filling(sorted(values), ascii)
    marked = grid.chars != 32
    tops = [int(np.argmax(column)) for column in marked.T]
    assert marked.any(axis=0).all()
    assert all(a >= b for a, b in pairwise(tops))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=200))
def test_lines_are_connected(values: list[float]) -> None:
    """Neighbouring columns touch: the rows of one reach those of the next, or its neighbours."""
    grid = filling(values, ascii=True)
    rows = [np.flatnonzero(column) for column in (grid.chars != 32).T]
    for here, there in pairwise(rows):
        assert here.min() <= there.max() + 1 and there.min() <= here.max() + 1


def test_every_ink_of_the_palette_is_used_in_turn() -> None:
    assert Series("", ink=charts.PALETTE + 2).style == Series("", ink=2).style == SERIES + 2
    assert Series("", ink=NEUTRAL).style == REFERENCE
