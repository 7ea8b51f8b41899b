"""The axes of charts: bounds that fit and stay, ticks people can read, smoothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from console.charts import Series, fit
from console.charts.scale import View, panned, smooth, tick_label, ticks, zoomed


def test_nothing_to_draw_says_why() -> None:
    nan, inf = math.nan, math.inf
    assert fit([]) == "no data yet"
    assert fit([Series("a")]) == "no data yet"
    assert fit([Series("a", [1, 2], [nan, inf])]) == "no finite values"
    assert fit([Series("a", [1, 2], [-1, 0])], logy=True) == "nothing above 0 on a log axis"


def test_log_bounds_ignore_what_is_not_positive() -> None:
    """One zero among losses must not stretch the axis down to 1e-12."""
    view = fit([Series("a", [0, 1, 2, 3], [0, -1, 0.2, 0.9])], logy=True)
    assert isinstance(view, View) and view.ymin >= 0.1


def test_bounds_stay_while_the_data_fill_them() -> None:
    first = fit([Series("a", range(90), range(90))])
    assert isinstance(first, View)
    again = fit([Series("a", range(91), range(91))], previous=first)
    assert again == first
    longer = fit([Series("a", range(400), range(400))], previous=first)
    assert isinstance(longer, View) and longer.xmax >= 399


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0, 0.5, "0"),
        (2.3, 0.1, "2.3"),
        (0.25, 0.05, "0.25"),
        (250, 50, "250"),
        (1500, 500, "1.5k"),
        (10_000, 0, "10k"),
        (10_000, 10_000, "10k"),
        (12_345, 5, "12345"),
        (-2e6, 1e6, "-2M"),
        (1e-3, 0, "1e-3"),
        (2.5e-4, 5e-5, "2.5e-4"),
        (0.01, 0, "0.01"),
        (1e20, 0, "1e20"),
    ],
)
def test_tick_labels(value: float, step: float, text: str) -> None:
    assert tick_label(value, step) == text


def test_log_ticks_are_decades() -> None:
    assert [tick.label for tick in ticks(0.002, 3000, True, 8)] == [
        "0.01",
        "0.1",
        "1",
        "10",
        "100",
        "1k",
    ]
    assert [tick.label for tick in ticks(0.2, 3, True, 5)] == ["0.2", "0.5", "1", "2"]


def test_smoothing_is_debiased_and_keeps_gaps() -> None:
    y = np.array([3.0, 1.0, math.nan, 2.0, math.inf, 5.0])
    kept, expected, sums = 0.9, [], [0.0, 0.0]
    for value in y:
        if math.isfinite(value):
            sums = [sums[0] * kept + value, sums[1] * kept + 1]
            expected.append(sums[0] / sums[1])
        else:
            expected.append(value)
    assert np.allclose(smooth(y, kept), expected, equal_nan=True)
    assert np.array_equal(smooth(y, 0), y, equal_nan=True)
    assert np.allclose(smooth(np.full(5000, 7.0), 0.99), 7)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-2, 1e6), st.booleans(), st.integers(2, 9))
@example(lo=500001.0, width=899999.0, log=False, most=2)  # 1 multiple of 500k, 5 of 200k
def test_ticks_lie_within_and_ascend(lo: float, width: float, log: bool, most: int) -> None:
    lo = abs(lo) + 1e-6 if log else lo
    found = ticks(lo, lo + width, log, most)
    values = [tick.value for tick in found]
    assert values == sorted(values) and len({tick.label for tick in found}) == len(found)
    assert len(found) <= most + 2
    slack = 1e-6 * width
    assert all(lo - slack <= value <= lo + width + slack for value in values)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.booleans(), st.floats(0, 1))
def test_zoom_and_pan_can_be_taken_back(lo: float, width: float, log: bool, at: float) -> None:
    bounds = (abs(lo) + 1, abs(lo) + 1 + width) if log else (lo, lo + width)
    back = zoomed(zoomed(bounds, log, 2.0, at), log, 0.5, at)
    assert np.allclose(back, bounds, rtol=1e-6, atol=1e-6 * width)
    assert np.allclose(panned(panned(bounds, log, 0.25), log, -0.25), bounds, rtol=1e-6)
