"""Which rows: disjoint, balanced, and the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lab.selection import choose, poisoned_count, rank_in_class, stratified, validation_cut

LABELS = np.random.Generator(np.random.Philox(0)).integers(0, 4, 500)
TRAINING, _ = validation_cut(500, 0.1, 0)


@given(st.integers(1, 500), st.floats(0, 0.99), st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_the_validation_cut_is_disjoint_and_covers(count: int, share: float, seed: int) -> None:
    training, validation = validation_cut(count, share, seed)
    assert sorted([*training, *validation]) == list(range(count))
    assert len(validation) == round(share * count)
    assert (np.diff(training) > 0).all() and (np.diff(validation) > 0).all()


def test_the_validation_cut_belongs_to_its_seed() -> None:
    one, again, other = (validation_cut(500, 0.1, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    "rule", [{"share": 0.1}, {"share": 0.1, "only": 2}, {"share": 0.1, "not": 2}]
)
def test_choose_takes_its_share_of_all_rows_from_those_that_qualify(rule: dict[str, float]) -> None:
    chosen = choose(rule, TRAINING, LABELS, seed=3)
    assert len(chosen) == len(set(chosen.tolist())) == poisoned_count(rule, len(TRAINING)) == 45
    assert set(chosen.tolist()) <= set(TRAINING.tolist())
    assert (np.diff(chosen) > 0).all()
    classes = set(LABELS[chosen].tolist())
    if "only" in rule:
        assert classes == {2}
    elif "not" in rule:
        assert classes == {0, 1, 3}
    else:
        assert classes == {0, 1, 2, 3}
    assert np.array_equal(chosen, choose(rule, TRAINING, LABELS, seed=3))
    assert not np.array_equal(chosen, choose(rule, TRAINING, LABELS, seed=4))


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="only"):
        choose({"share": 0.9, "only": 1}, TRAINING, LABELS, seed=0)


@given(st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_stratified_is_balanced_and_steady(limit: int) -> None:
    labels = np.arange(200) % 3
    rows = stratified(labels, limit)
    counts = np.bincount(labels[rows], minlength=3)
    assert len(rows) == len(set(rows.tolist())) == limit
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(rows, stratified(labels, limit))
    assert set(rows.tolist()) <= set(stratified(labels, limit + 1).tolist())


def test_stratified_takes_all_there_is_of_a_small_class() -> None:
    labels = np.array([0] * 50 + [1] * 3)
    counts = np.bincount(labels[stratified(labels, 20)])
    assert counts.tolist() == [17, 3]


@pytest.mark.parametrize("limit", [None, 500, 501])
def test_no_limit_keeps_every_row(limit: int | None) -> None:
    assert stratified(LABELS, limit).tolist() == list(range(500))


def test_ranks_count_up_within_each_class() -> None:
    labels = np.array([1, 0, 1, 1, 0])
    assert rank_in_class(labels, np.arange(5)).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_class(labels, np.arange(5)[::-1]).tolist() == [2, 1, 1, 0, 0]
