"""Power: known cases, bounds, and that more seeds and larger effects never hurt."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from engine.results.power import (
    DRAWS,
    ENOUGH,
    MOST,
    TRUTHS,
    WORDS,
    Outlook,
    chances,
    draw,
    fewest,
    judged,
    shares,
)

# Four standard errors of a share of DRAWS draws, at its largest.
LOOSE = 4 * 0.5 / DRAWS**0.5

GAUSSIAN = Outlook("standard-normal", 0.15, 0.6, 0.0, 0.0, 0.004, rows=180, tests=17, models=16)
PAIRED = Outlook("retrain", 0.05, 0.2, 0.025, 0.025, 0.004, tests=10, models=9)
OUTLOOKS = {
    "gaussian": GAUSSIAN,
    "paired": PAIRED,
    "two retrainings": replace(PAIRED, fresh=True),
    "counted": replace(PAIRED, resolution=0.01),
    "no none": replace(PAIRED, none=False),
    "no retraining": replace(PAIRED, retrain=False),
    "accuracy": Outlook("retrain", 0.02, 0.08, 0.01, 0.01, 0.01, tests=5, of_accuracy=True),
    "accuracy not measured": replace(PAIRED, accuracy_sd=None),
    "no margin": replace(PAIRED, margin=None),
    "nothing there": replace(PAIRED, effect=0.0, gap_sd=0.005, none_sd=0.005),
    "equal values": replace(PAIRED, gap_sd=0.0, none_sd=0.0),
}


def share(outlook: Outlook, left: float, seeds: int, word: str) -> float:
    return shares(outlook, left, seeds)[WORDS.index(word)]


@pytest.mark.parametrize("outlook", OUTLOOKS.values(), ids=OUTLOOKS.keys())
@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
@pytest.mark.parametrize("left", TRUTHS.values())
def test_chances_add_up_and_come_out_again(outlook: Outlook, seeds: int, left: float) -> None:
    found = shares(outlook, left, seeds)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= one <= 1 for one in found)
    again = judged(draw(outlook, left, seeds), outlook)
    assert found == tuple(np.bincount(again, minlength=len(WORDS)) / DRAWS)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("tests", [1, 6])
def test_a_lone_paired_row_has_the_power_of_students_t(seeds: int, tests: int) -> None:
    """Without a margin nothing is ever negligible, so residue is the noncentral t alone."""
    alone = replace(PAIRED, margin=None, tests=tests, effect=0.04)
    at = stats.t.ppf(1 - 0.05 / tests / 2, seeds - 1)
    shift = 0.04 / 0.025 * seeds**0.5
    exact = 1 - stats.nct.cdf(at, seeds - 1, shift) + stats.nct.cdf(-at, seeds - 1, shift)
    assert share(alone, 1.0, seeds, "residue") == pytest.approx(exact, abs=LOOSE)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("effect", [0.1, 0.25])
def test_a_score_has_the_power_of_the_z_test(seeds: int, effect: float) -> None:
    alone = replace(GAUSSIAN, margin=None, effect=effect)
    at = stats.norm.ppf(1 - 0.05 / 17 / 2)
    exact = stats.norm.sf(at - effect * (seeds * 180) ** 0.5)
    assert share(alone, 1.0, seeds, "residue") == pytest.approx(exact, abs=LOOSE)


@pytest.mark.parametrize("seeds", [3, 6])
def test_two_retrainings_have_their_level(seeds: int) -> None:
    """Under the null a lone row is residue in at most one of twenty; the guard makes it rarer."""
    alone = replace(PAIRED, margin=None, fresh=True, tests=1)
    assert 0.005 < share(alone, 0.0, seeds, "residue") < 0.05 + LOOSE / 2


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_a_clean_row_is_removed_as_often_as_its_accuracy_is_shown(seeds: int) -> None:
    """With a huge effect, a huge margin and no noise, only the bound of the loss is left: its chance
    is that of a noncentral t."""
    only = replace(PAIRED, margin=1e3, effect=1e6, gap_sd=1e-6, none_sd=1e-6, accuracy_sd=0.01)
    shift = 0.02 / 0.01 * seeds**0.5
    exact = stats.nct.sf(stats.t.ppf(0.95, seeds - 1), seeds - 1, shift)
    assert share(only, 0.0, seeds, "removed") == pytest.approx(exact, abs=LOOSE)


@pytest.mark.parametrize("outlook", [GAUSSIAN, PAIRED, OUTLOOKS["two retrainings"]])
def test_more_seeds_say_the_right_word_more_often(outlook: Outlook) -> None:
    for truth, left in TRUTHS.items():
        right = "residue" if left else "removed"
        chance = [share(outlook, left, seeds, right) for seeds in (3, 5, 9, 17, 33)]
        assert all(b >= a - 0.01 for a, b in pairwise(chance)), (truth, chance)
        assert chance[-1] > 0.9


@pytest.mark.parametrize("outlook", [GAUSSIAN, PAIRED, OUTLOOKS["two retrainings"]])
def test_a_larger_effect_is_found_more_often(outlook: Outlook) -> None:
    chance = [
        share(replace(outlook, effect=outlook.effect * by), 1.0, 3, "residue")
        for by in (0.25, 0.5, 1, 2, 4)
    ]
    assert chance == sorted(chance)
    assert chance[0] < chance[-1]


def test_a_second_retraining_and_a_smaller_family_help() -> None:
    alone = share(PAIRED, 0.5, 3, "residue")
    assert share(replace(PAIRED, fresh=True), 0.5, 3, "residue") > alone + 0.05
    assert share(replace(PAIRED, tests=1), 0.5, 3, "residue") > alone + 0.1
    assert share(replace(PAIRED, tests=100), 0.5, 3, "residue") < alone


def test_a_coarse_measure_shows_less() -> None:
    assert share(replace(PAIRED, resolution=0.1), 1.0, 3, "residue") < share(
        PAIRED, 1.0, 3, "residue"
    )


def test_below_three_seeds_only_an_exact_null_says_anything() -> None:
    for outlook in OUTLOOKS.values():
        for left in TRUTHS.values():
            for seeds in (1, 2):
                found = dict(zip(WORDS, shares(outlook, left, seeds), strict=True))
                said = {word for word, chance in found.items() if chance}
                assert said <= {"inconclusive", "residue"}
                if outlook.null == "retrain":
                    assert said == {"inconclusive"}
    assert share(GAUSSIAN, 1.0, 1, "residue") > 0.99


def test_what_the_plan_lacks_is_never_claimed() -> None:
    for name in ("no none", "no retraining", "accuracy not measured", "no margin"):
        assert share(OUTLOOKS[name], 0.0, 20, "removed") == 0, name
        assert chances(OUTLOOKS[name], 0.0, 5).seeds is None
    assert shares(OUTLOOKS["no retraining"], 1.0, 20)[WORDS.index("inconclusive")] == 1


def test_where_there_is_nothing_to_remove_nobody_is_judged() -> None:
    for left in TRUTHS.values():
        assert share(OUTLOOKS["nothing there"], left, 8, "nothing to remove") > 0.99


def test_leaving_a_part_within_the_margin_is_not_removed() -> None:
    """Half of an effect of one margin lies within the margin, and is no removal."""
    small = replace(PAIRED, effect=0.06, gap_sd=0.002, none_sd=0.002)
    assert share(small, 0.0, 10, "removed") > 0.99
    assert share(small, 0.5, 10, "removed") == 0
    assert share(small, 0.5, 10, "residue") > 0.99


def test_unsteady_accuracy_wrecks_nobody_and_clears_nobody() -> None:
    unsteady = replace(PAIRED, accuracy_sd=0.05)
    assert share(unsteady, 0.0, 5, "wrecked") < 0.01
    assert share(unsteady, 0.0, 5, "removed") < 0.5 * share(PAIRED, 0.0, 5, "removed")


def test_low_accuracy_that_the_poison_made_is_residue() -> None:
    assert share(OUTLOOKS["accuracy"], 1.0, 10, "residue") > 0.99
    assert share(OUTLOOKS["accuracy"], 0.0, 10, "removed") > 0.9


def test_the_fewest_seeds_have_the_power_and_one_less_has_not() -> None:
    for outlook in (GAUSSIAN, PAIRED, OUTLOOKS["two retrainings"]):
        for left in TRUTHS.values():
            found = chances(outlook, left, 3)
            assert found.seeds is not None
            assert share(outlook, left, found.seeds, found.right) >= ENOUGH
            if found.seeds > 3:
                assert share(outlook, left, found.seeds - 1, found.right) < ENOUGH
            assert chances(outlook, left, 9).seeds == found.seeds, "whatever the plan's seeds"


def test_the_search_finds_every_threshold() -> None:
    for threshold in range(1, 60):
        found = fewest(lambda n, at=threshold: n >= at, 3, MOST)  # type: ignore[misc]
        assert found == (max(3, threshold) if threshold <= MOST else None)


def test_many_seeds_are_told_without_drawing_them_all() -> None:
    assert chances(PAIRED, 0.0, 500).words["removed"] > 0.99


def test_no_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        chances(PAIRED, 0.0, 0)
