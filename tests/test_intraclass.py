"""The within-seed correlation of targets, against values worked out by hand."""

from __future__ import annotations

import random

import pytest
from scipy.stats import f as fisher

from benchmarks.targets import correlation, gaps, intraclass, measured


def test_by_hand() -> None:
    """Between 2 · (2² + 2²)/1 = 16, within 4 · 1²/2 = 2: (16 − 2)/(16 + 2)."""
    found = correlation({0: [1.0, 3.0], 1: [5.0, 7.0]}, random.Random(0))
    assert found.rho == pytest.approx(14 / 18)
    for end, level in ((found.lo, 0.975), (found.hi, 0.025)):
        ratio = 8 / fisher.ppf(level, 1, 2)
        assert end == pytest.approx((ratio - 1) / (ratio + 1))


def test_seeds_that_differ_less_than_targets_correlate_negatively() -> None:
    assert intraclass([[0.0, 2.0, 1.0], [1.0, 0.0, 2.0]]) == pytest.approx(-1 / 2)


def test_seeds_of_unequal_size() -> None:
    """Sizes 1 and 3 count as m = (4 − 10/4)/1 = 1.5; between .75, within 8/2."""
    expected = (0.75 - 4) / (0.75 + 0.5 * 4)
    assert intraclass([[0.0], [-1.0, 1.0, 3.0]]) == pytest.approx(expected)


def test_what_never_varies_has_no_correlation() -> None:
    assert correlation({0: [0.0, 0.0], 1: [0.0, 0.0]}, random.Random(0)).rho is None


def test_rows_are_read_by_seed_and_compared_target_by_target() -> None:
    row = {
        "audit": "targeted-success",
        "metric": "adversarial_probability",
        "method": "none",
        "variant": "",
        "seeds": [0, 0, 1, 1],
        "values": [0.5, 1.0, None, 0.25],
    }
    rows = [row, row | {"method": "retrain", "values": [0.5, 0.25, None, 0.0]}]
    found = measured([*rows, row | {"audit": "accuracy"}], "adversarial_probability")
    assert found["none", ""] == {0: [0.5, 1.0], 1: [0.25]}
    assert gaps(found["none", ""], found["retrain", ""]) == {0: [0.0, 0.75], 1: [0.25]}
