"""Intervals cover, tests hold their level, corrections equal their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.results import statistics

probabilities = st.lists(st.floats(0, 1), max_size=8)
samples = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


def test_t_interval_covers_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 5):
        draws = rng.normal(3.0, 2.0, size=(4000, n))
        found = [statistics.t_interval(list(row)) for row in draws]
        hits = np.mean(
            [e.lo <= 3.0 <= e.hi for e in found if e.lo is not None and e.hi is not None]
        )
        assert abs(hits - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_value_has_no_interval() -> None:
    assert statistics.t_interval([0.25]) == statistics.Estimate(0.25, None, None, 1)


@settings(deadline=None)
@given(samples)
def test_order_of_seeds_changes_no_digit(values: list[float]) -> None:
    assert statistics.t_interval(values) == statistics.t_interval(values[::-1])
    assert statistics.t_test(values) == statistics.t_test(values[::-1])


def test_t_test_matches_scipy() -> None:
    from scipy.stats import ttest_1samp

    values = [0.1, -0.3, 0.7, 0.4]
    assert statistics.t_test(values) == pytest.approx(ttest_1samp(values, 0).pvalue)


def test_equal_differences_have_no_spread() -> None:
    assert statistics.t_test([0.0, 0.0]) == 1.0
    assert statistics.t_test([0.1, 0.1, 0.1]) == 0.0
    assert statistics.tost_t([0.1, 0.1, 0.1], 0.2) == 0.0
    assert statistics.tost_t([0.1, 0.1, 0.1], 0.1) == 1.0


def test_a_floor_under_the_deviation_only_raises_p() -> None:
    from scipy.stats import t

    for values in ([0.1, 0.1, 0.1], [0.0, 0.3, 0.1]):
        sd = max(statistics.standard_deviation(values), 0.05)
        error = sd / math.sqrt(3)
        centre = statistics.mean(values)
        assert statistics.t_test(values, 0.05) == pytest.approx(2 * t.sf(centre / error, 2))
        assert statistics.tost_t(values, 0.2, 0.05) == pytest.approx(
            t.cdf((centre - 0.2) / error, 2)
        )
    assert statistics.t_test([0.0, 0.0], 0.1) == 1.0


def test_replication_band_holds_the_next_mean_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(21)
    for n, new in ((3, 3), (5, 2)):
        draws = rng.normal(1.0, 0.5, size=(4000, n))
        later = rng.normal(1.0, 0.5, size=(4000, new)).mean(axis=1)
        bands = [statistics.replication_band(list(row), new) for row in draws]
        assert all(band.n == n for band in bands)
        held = [
            band.lo <= mean <= band.hi
            for band, mean in zip(bands, later, strict=True)
            if band.lo is not None and band.hi is not None
        ]
        assert abs(np.mean(held) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)
    assert statistics.replication_band([0.5], 3) == statistics.Estimate(0.5, None, None, 1)


def test_ratio_interval_is_the_set_of_ratios_a_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(22)
    below = rng.normal(0.8, 0.1, size=5)
    above = 0.6 * below + rng.normal(0.0, 0.05, size=5)
    found = statistics.ratio_interval(list(above), list(below))
    assert found is not None
    for ratio in found:
        assert statistics.t_test(list(above - ratio * below)) == pytest.approx(0.05)
    inside = statistics.t_test(list(above - sum(found) / 2 * below))
    assert inside > 0.05


def test_ratio_interval_ends_where_the_denominator_is_noise() -> None:
    assert statistics.ratio_interval([0.1, 0.2, 0.3], [0.4, -0.3, 0.1]) is None
    assert statistics.ratio_interval([0.1], [0.4]) is None
    below = [0.5, 0.6, 0.7]
    assert statistics.ratio_interval(below, below) == pytest.approx((1.0, 1.0))
    assert statistics.ratio_interval([0.0] * 3, below) == pytest.approx((0.0, 0.0))


def test_ratio_interval_covers_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(23)
    below = rng.normal(1.0, 0.1, size=(3000, 4))
    above = rng.normal(0.3, 0.2, size=(3000, 4)) + 0.5 * (below - 1.0)
    pairs = zip(above, below, strict=True)
    found = [statistics.ratio_interval(list(a), list(b)) for a, b in pairs]
    held = np.mean([lo <= 0.3 <= hi for lo, hi in filter(None, found)])
    assert all(found)
    assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 3000)


def brute_force_holm(p: list[float]) -> list[float]:
    """The smallest level at which Holm's procedure, run as written, rejects each hypothesis."""
    order = sorted(range(len(p)), key=lambda i: p[i])

    def rejects(index: int, level: float) -> bool:
        for rank, i in enumerate(order):
            if p[i] > level / (len(p) - rank) * (1 + 1e-12):
                return False
            if i == index:
                return True
        raise AssertionError

    levels = sorted({min(1.0, k * value) for value in p for k in range(1, len(p) + 1)} | {1.0})
    return [next((x for x in levels if rejects(i, x)), 1.0) for i in range(len(p))]


@settings(deadline=None)
@given(probabilities)
def test_holm_equals_its_definition(p: list[float]) -> None:
    assert statistics.holm(p) == pytest.approx(brute_force_holm(p))


@settings(deadline=None)
@given(probabilities)
def test_holm_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    for raw, adjusted in zip(p, statistics.holm(p), strict=True):
        assert raw <= adjusted <= min(1.0, len(p) * raw)


@settings(deadline=None)
@given(samples, st.floats(0.01, 5), st.floats(0.01, 5))
def test_tost_is_easier_with_a_wider_margin(values: list[float], a: float, b: float) -> None:
    narrow, wide = sorted((a, b))
    assert statistics.tost_t(values, wide) <= statistics.tost_t(values, narrow)
    centre = statistics.mean(values)
    assert statistics.tost_z(centre, 0.3, wide) <= statistics.tost_z(centre, 0.3, narrow)


@settings(deadline=None)
@given(st.floats(0, 3), st.floats(0, 3), st.floats(0.01, 1))
def test_tost_is_harder_with_a_larger_shift(a: float, b: float, error: float) -> None:
    near, far = sorted((a, b))
    assert statistics.tost_z(near, error, 0.15) <= statistics.tost_z(far, error, 0.15)
    assert statistics.tost_z(near, error, 0.15) == statistics.tost_z(-near, error, 0.15)


def test_tost_on_the_margin_is_a_coin_toss() -> None:
    assert statistics.tost_z(0.15, 0.05, 0.15) == pytest.approx(0.5)
    assert statistics.tost_t([0.05, 0.15, 0.25], 0.15) == pytest.approx(0.5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.data())
def test_rate_intervals_contain_the_rate(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    for interval in (statistics.wilson, statistics.clopper_pearson):
        lo, hi = interval(successes, trials)
        assert 0 <= lo <= successes / trials + 1e-12
        assert successes / trials - 1e-12 <= hi <= 1
        mirror_lo, mirror_hi = interval(trials - successes, trials)
        assert (mirror_lo, mirror_hi) == pytest.approx((1 - hi, 1 - lo), abs=1e-9)


def test_rate_intervals_match_scipy() -> None:
    from scipy.stats import binomtest

    result = binomtest(3, 40)
    exact, wilson = result.proportion_ci(0.95, "exact"), result.proportion_ci(0.95, "wilson")
    assert statistics.clopper_pearson(3, 40) == pytest.approx((exact.low, exact.high))
    assert statistics.wilson(3, 40) == pytest.approx((wilson.low, wilson.high))


def test_assumption_tests_hold_their_level() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(2000, 4, 30))
    variances = scores.var(axis=2, ddof=1).mean(axis=1)
    spread = [statistics.variance_test(v, 4 * 29) for v in variances]
    together = [statistics.homogeneity_test(list(m), [30] * 4) for m in scores.mean(axis=2)]
    for p in (spread, together):
        assert abs(np.mean(np.asarray(p) < 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_assumption_tests_see_both_sides() -> None:
    assert statistics.variance_test(1.3, 500) < 0.001
    assert statistics.variance_test(0.7, 500) < 0.001
    assert statistics.homogeneity_test([0.5, -0.5], [100, 100]) < 0.001


def test_detectable_shift_is_2_8_standard_errors() -> None:
    assert statistics.detectable_shift(1.0) == pytest.approx(2.80, abs=0.005)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 1), st.floats(0.1, 1), st.booleans())
def test_larger_shifts_need_fewer_seeds(sd: float, shift: float, known: bool) -> None:
    few = statistics.seeds_for_difference(2 * shift, sd, known=known)
    many = statistics.seeds_for_difference(shift, sd, known=known)
    assert few is not None
    assert many is None or few <= many


@pytest.mark.parametrize("known", [True, False])
def test_sample_sizes_reach_their_power(known: bool) -> None:
    rng = np.random.default_rng(3)
    n = statistics.seeds_for_equivalence(0.0, 0.1, 0.1, known=known)
    assert n is not None
    draws = rng.normal(0.0, 0.1, size=(1500, n))
    error = 0.1 / math.sqrt(n)
    passed = [
        (statistics.tost_z(row.mean(), error, 0.1) if known else statistics.tost_t(list(row), 0.1))
        < 0.05
        for row in draws
    ]
    assert 0.75 < np.mean(passed) < 0.97


def test_hopeless_sample_sizes_are_none() -> None:
    assert statistics.seeds_for_equivalence(0.2, 0.1, 0.15, known=True) is None
    assert statistics.seeds_for_difference(0.0, 0.1, known=False) is None
    assert statistics.seeds_for_difference(1e-9, 1.0, known=True) is None
    assert statistics.seeds_for_difference(1e-257, 0.8, known=False) is None
