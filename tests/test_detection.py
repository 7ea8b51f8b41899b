"""Rows detected at a false discovery rate: the rate holds, planted rows are found and named, and
chance is what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.jobs.row_scores import PLACES_LOST, RowScores
from engine.results.detection import (
    CONFIRMED,
    FDR,
    Model,
    detect,
    found_again,
    p_values,
    q_values,
    rank_p_values,
)


def model(
    seed: int,
    scores: Sequence[float] | np.ndarray,
    rows: Sequence[int] | None = None,
    ranks: Sequence[int] | None = None,
    **more: object,
) -> Model:
    """Its rows are 0, 1, … where they are not given."""
    places = np.arange(len(scores)) if rows is None else np.asarray(rows)
    told = None if ranks is None else np.asarray(ranks)
    known = {"rows": places, "ranks": told, "every_rank": told, "draws": 99 if ranks else 0,
             "poisoned": len(scores), "data": "d"}  # fmt: skip
    return Model(seed, 0, RowScores(np.asarray(scores, dtype=float), **known | more))  # type: ignore[arg-type]


# --- p and q -------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_values_are_scipys(p: list[float]) -> None:
    expected = stats.false_discovery_control(p, method="bh")
    np.testing.assert_allclose(q_values(p), expected, rtol=1e-12, atol=0)


def test_the_example_of_benjamini_and_hochberg() -> None:
    """Their table of fifteen p-values (1995, section 3.2): at 5 % the first four are rejected."""
    p = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528,
         .7590, 1.0]  # fmt: skip
    assert (q_values(p) <= 0.05).tolist() == [True] * 4 + [False] * 11
    assert q_values(p)[3] == pytest.approx(0.0095 * 15 / 4)


def test_small_cases_by_hand() -> None:
    # .04 · 3/1 = .12, .05 · 3/2 = .075, .5 · 3/3: the first takes the second's, which is smaller.
    np.testing.assert_allclose(q_values([0.5, 0.04, 0.05]), [0.5, 0.075, 0.075])
    assert q_values([0.3]).tolist() == [0.3]
    assert q_values([]).tolist() == []


def test_poison_lies_above() -> None:
    np.testing.assert_allclose(
        p_values([0.0, 1.6448536269514722, -2.0]), [0.5, 0.05, 0.9772498680518208]
    )
    found = detect([model(0, [5.0, -5.0, 0.0, 0.1])])
    assert (found.detected, found.below) == (1, 1)
    assert [row.row for row in found.detected_rows()] == [0]


def test_ranks_have_their_exact_p() -> None:
    np.testing.assert_allclose(rank_p_values([99, 98, 0], 99), [0.01, 0.02, 1.0])
    assert np.mean([rank_p_values(r, 99) <= CONFIRMED for r in range(100)]) == CONFIRMED


# --- the rate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [0, 6, 60])
def test_the_false_discovery_rate_is_kept(planted: int) -> None:
    """3 seeds of 100 rows; the first `planted` of each are shifted by 3."""
    rng = np.random.default_rng(planted)
    runs, shares = 1500, []
    for _ in range(runs):
        scores = rng.normal(size=(3, 100))
        scores[:, :planted] += 3
        found = detect([model(seed, some) for seed, some in enumerate(scores)])
        hits = (found.q <= FDR).reshape(3, 100)
        shares.append(hits[:, planted:].sum() / max(1, hits.sum()))
    expected = FDR * (100 - planted) / 100  # exact for independent rows
    assert abs(np.mean(shares) - expected) < 4 * np.std(shares) / math.sqrt(runs)


def test_planted_rows_are_the_ones_named() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.permutation(5000)[:200] for _ in range(3)]
    scores = rng.normal(size=(3, 200))
    planted = {(seed, int(rows[seed][at])) for seed in range(3) for at in (5, 77, 150)}
    for seed in range(3):
        scores[seed, [5, 77, 150]] = 8 + seed
    found = detect([model(s, scores[s], rows[s]) for s in (2, 0, 1)])  # the order is no matter
    named = {(one.seed, one.row) for one in found.scored() if one.detected and one.score > 7}
    assert named == planted
    surest = found.detected_rows()[:9]
    assert {(row.best.seed, row.row) for row in surest} == planted
    assert found.rows == 600 and found.share == found.detected / 600


def test_one_family_holds_all_seeds() -> None:
    """Alone .004 of 20 rows would be detected (q .08); not among 60."""
    scores = [stats.norm.isf(0.004), *[-3.0] * 19]
    assert detect([model(0, scores)]).detected == 1
    assert detect([model(0, scores), model(1, [-3.0] * 20), model(2, [-3.0] * 20)]).detected == 0


# --- the rank test beside it ---------------------------------------------------------------------


def test_the_rank_test_confirms_and_pools() -> None:
    found = detect([model(0, [6.0, 6.0, 0.0], ranks=[99, 10, 99]), model(1, [0.0], ranks=[50])])
    assert found.detected == 2
    assert found.confirmed == 1
    shift, variance = 99 + 10 + 99 + 50 - 4 * 49.5, 4 * 99 * 101 / 12
    assert found.rank_z == pytest.approx(shift / math.sqrt(variance))
    assert found.rank_p == pytest.approx(stats.norm.sf(found.rank_z))
    without = detect([model(0, [6.0], ranks=[99]), model(1, [0.0])])
    assert without.confirmed is without.rank_z is without.rank_p is None


# --- found again ---------------------------------------------------------------------------------


def brute_force(overlap: int, one: tuple[int, int], other: tuple[int, int]) -> float:
    """Expected rows detected twice, over all ways to choose (hits of rows) in both seeds; the first
    `overlap` rows are the same."""
    found = [
        len(set(a) & set(b) & set(range(overlap)))
        for a in combinations(range(one[1]), one[0])
        for b in combinations(range(other[1]), other[0])
    ]
    return sum(found) / len(found)


def test_chance_is_exact() -> None:
    rows, others = np.array([0, 1, 2, 10, 11]), np.array([0, 1, 2, 20])
    hits, others_hits = np.array([1, 1, 0, 0, 0], bool), np.array([1, 1, 1, 0], bool)
    found = found_again([(rows, hits), (others, others_hits)])
    assert found is not None
    assert (found.rows, found.found) == (3, 2)
    assert found.chance == pytest.approx(brute_force(3, (2, 5), (3, 4)))
    # Of independent rows with probability 2/5 · 3/4 each: two or more of three.
    assert found.p == pytest.approx(stats.binom.sf(1, 3, 0.3))
    assert (found.lo, found.hi) == tuple(stats.binom.ppf([0.025, 0.975], 3, 0.3)) == (0, 3)


def test_rows_of_three_seeds_count_once_however_often_they_are_found() -> None:
    rows = np.arange(4)
    hits = np.array([1, 1, 0, 0], bool)
    found = found_again([(rows, hits)] * 3)
    assert found is not None
    assert (found.rows, found.found) == (4, 2)
    assert found.chance == pytest.approx(4 * stats.binom.sf(1, 3, 0.5))


def test_without_a_row_in_common_there_is_nothing_to_say() -> None:
    hits = np.ones(2, bool)
    assert found_again([(np.array([0, 1]), hits), (np.array([2, 3]), hits)]) is None
    found = detect([model(0, [0.0], [0]), model(1, [0.0], [1])])
    assert found.again is None and found.again_not == "no row was poisoned under two seeds"
    assert detect([model(0, [0.0])]).again_not == "one seed"


def test_the_p_of_found_again_holds_its_level() -> None:
    rng = np.random.default_rng(7)
    runs, small, chances, founds = 2000, 0, [], []
    for _ in range(runs):
        told = []
        for hits in (12, 20, 8):
            rows = rng.permutation(200)[:60]
            told.append((rows, rng.permutation(60) < hits))
        found = found_again(told)
        assert found is not None
        small += found.p <= 0.05
        chances.append(found.chance)
        founds.append(found.found)
    assert small / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    gap = np.array(founds) - np.array(chances)
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(runs)


def test_rows_that_come_back_are_noticed() -> None:
    rng = np.random.default_rng(8)
    hard = np.arange(15)
    models = []
    for seed in range(2):
        scores = rng.normal(size=100)
        scores[hard] += 6
        models.append(model(seed, scores))
    found = detect(models)
    assert found.again is not None
    assert found.again.found >= 14 and found.again.chance < 4 and found.again.p < 1e-6
    first = found.detected_rows()[0]
    assert first.detected == first.poisoned == (0, 1)
    assert first.best.score == max(m.of.scores[first.row] for m in models)


# --- what is not known ---------------------------------------------------------------------------


def test_lost_places_are_told_and_nothing_is_named() -> None:
    lost = RowScores(np.array([7.0, 0.0]), every_rank=np.array([99, 5, 4]), draws=99, poisoned=3,
                     lost=PLACES_LOST, data="d")  # fmt: skip
    found = detect([model(0, [6.0, 0.0, 0.0], ranks=[99, 1, 1]), Model(1, 0, lost)])
    assert (found.detected, found.rows, found.left_out) == (2, 5, 1)
    assert found.lost == [PLACES_LOST]
    assert found.again is None and "not known" in found.again_not
    assert found.confirmed is None and found.rank_z is not None, "ranks pool without places"
    assert [row.row for row in found.detected_rows()] == [None, 0]


def test_rows_of_different_data_are_not_taken_for_the_same() -> None:
    found = detect([model(0, [6.0]), model(1, [6.0], data="e")])
    assert found.again is None and "different data" in found.again_not


def test_nothing_scored_is_no_crash() -> None:
    found = detect([model(0, [])])
    assert (found.rows, found.detected, found.share) == (0, 0, None)
