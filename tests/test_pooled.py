"""Pooled scores: rows of one seed are no independent sample."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.results import statistics
from engine.results.curves import retrain_band
from engine.results.pooled import clustered_bootstrap, described


def mean(scores: np.ndarray) -> float:
    return float(scores.mean())


def test_for_a_mean_of_equal_groups_it_is_the_t_interval_but_for_the_drawing() -> None:
    groups = np.random.default_rng(1).normal(size=(6, 30)) + np.arange(6)[:, None]
    found = clustered_bootstrap(list(groups), mean, draws=20_000)
    exact = statistics.t_interval(groups.mean(axis=1).tolist())
    assert found.mean == pytest.approx(exact.mean)
    assert found.n == 6
    assert found.hi is not None
    assert exact.hi is not None
    assert found.hi - found.mean == pytest.approx(exact.hi - exact.mean, rel=0.03)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_it_covers_though_rows_of_a_seed_hang_together(spread: float) -> None:
    """Where an interval that takes rows for independent covers half of the time."""
    rng = np.random.default_rng(2)
    held, naive = 0, 0
    for _ in range(400):
        groups = rng.normal(size=(5, 100)) + spread * rng.normal(size=(5, 1))
        found = clustered_bootstrap(list(groups), mean, draws=200)
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= 0 <= found.hi
        naive += abs(groups.mean()) <= 1.96 * groups.std() / math.sqrt(groups.size)
    assert abs(held / 400 - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / 400)
    assert spread == 0 or naive / 400 < 0.7


def test_weights_follow_the_rows_and_draws_repeat() -> None:
    groups = [[1.0] * 9, [3.0]]
    found = clustered_bootstrap(groups, mean)
    assert found.mean == pytest.approx(1.2)
    assert clustered_bootstrap(groups, mean) == found
    assert clustered_bootstrap([[1.0, 2.0]], mean) == statistics.Estimate(1.5, None, None, 1)


def test_described_leaves_out_what_is_no_number() -> None:
    lines = described([(0.0, 3.0, math.nan), (math.inf,), (1.0, 2.4)])
    assert lines[0] == "n = 4 of 2 seeds"
    assert lines[1].startswith("mean +1.600 ± ")
    assert lines[3].startswith("beyond 2.33 0.500 ± 0.0")
    assert described([(), (math.nan,)]) == ["n = 0"]
    assert described([(0.5,)]) == ["n = 1"]


def test_the_band_is_wider_than_the_mean_is_sure() -> None:
    values = [0.1, 0.3, 0.2, None]
    own = statistics.t_interval([0.1, 0.3, 0.2])
    band = retrain_band({"values": values, "seeds": [0, 1, 2, 3]})
    assert band.n == 3
    assert band.hi is not None
    assert own.hi is not None
    assert band.hi - band.mean == pytest.approx(math.sqrt(2) * (own.hi - own.mean))
