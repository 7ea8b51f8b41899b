"""What each word rests on: small exact cases, computed apart from the code."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.results.effect import recovery
from engine.results.evidence import Candidate, Trial
from engine.results.statistics import holm, hommel
from engine.results.utility import losses
from engine.results.verdict import Verdict, judge
from engine.spec.component import Metric

RATE = Metric("attack success rate", direction="up", margin=0.05)
GAUSSIAN = Metric("mean score", direction="up", margin=0.15, null="standard-normal")
ACCURACY = [0.901, 0.897, 0.9, 0.903, 0.899, 0.902]
NONE = [0.9, 0.95, 0.92, 0.97, 0.91, 0.93]


def rated(
    values: list[float],
    role: str = "unlearn",
    accuracy: list[float] | None = None,
    count: float = 1e6,
) -> Candidate:
    seeds = range(len(values))
    utility = dict(zip(seeds, accuracy or ACCURACY, strict=False))
    return Candidate(
        role, dict(zip(seeds, values, strict=True)), {"count": dict.fromkeys(seeds, count)}, utility
    )


def scored(means: list[float], role: str = "unlearn", count: int = 180) -> Candidate:
    seeds = range(len(means))
    companions = {
        "count": dict.fromkeys(seeds, float(count)),
        "std_score": dict.fromkeys(seeds, 1.0),
    }
    return Candidate(
        role,
        dict(zip(seeds, means, strict=True)),
        companions,
        dict(zip(seeds, ACCURACY, strict=False)),
    )


def targets(values: list[list[float]], role: str = "unlearn") -> Candidate:
    """Values [seeds, targets]."""
    table = {Trial(s, t): v for s, row in enumerate(values) for t, v in enumerate(row)}
    utility = {trial: ACCURACY[trial.seed] + 1e-4 * trial.unit for trial in table}
    return Candidate(role, table, {}, utility)


def only(family: list[Candidate], row: Candidate, metric: Metric = RATE) -> Verdict:
    return judge([*family, row], metric)[-1]


# --- Hommel --------------------------------------------------------------------------------------


def closed_simes(p_values: list[float]) -> list[float]:
    """The largest of Simes' p over every set of hypotheses that holds each."""
    n = len(p_values)
    adjusted = [0.0] * n
    for size in range(1, n + 1):
        for chosen in itertools.combinations(range(n), size):
            ordered = sorted(p_values[i] for i in chosen)
            simes = min(size * p / (rank + 1) for rank, p in enumerate(ordered))
            for i in chosen:
                adjusted[i] = max(adjusted[i], min(1.0, simes))
    return adjusted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=7))
def test_hommel_is_simes_test_closed_and_never_above_holm(p_values: list[float]) -> None:
    found = hommel(p_values)
    assert found == pytest.approx(closed_simes(p_values))
    assert all(a <= b + 1e-12 for a, b in zip(found, holm(p_values), strict=True))


def test_hommel_of_rs_own_example() -> None:
    """p.adjust(c(.01, .02, .03, .04, .05), "hommel") and one with a tail."""
    assert hommel([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05] * 5)
    assert hommel([0.01, 0.04, 0.3]) == pytest.approx([0.03, 0.08, 0.3])
    assert hommel([]) == []
    assert hommel([0.2]) == [0.2]


# --- two retrainings -----------------------------------------------------------------------------

R, F = [0.10, 0.14, 0.11, 0.16], [0.13, 0.10, 0.15, 0.12]


def two_retrainings(x: list[float]) -> Verdict:
    """Of a row in which only this one is tested beside the second retraining."""
    return only([rated(R, "retrain"), rated(F, "retrain-fresh")], rated(x))


def test_two_retrainings_tell_the_variance_of_perfect_models() -> None:
    x = [0.16, 0.17, 0.16, 0.19]
    h = [a - (b + c) / 2 for a, b, c in zip(x, R, F, strict=True)]
    n = len(h)
    variance = math.fsum((a - b) ** 2 for a, b in zip(R, F, strict=True)) / (2 * n)
    error = math.sqrt(1.5 * variance / n)
    found = two_retrainings(x)
    assert found.test == "two-retrainings"
    assert found.p_test == pytest.approx(2 * stats.t.sf(abs(np.mean(h)) / error, 2 * n - 2))
    # Equivalence goes by the row's own deviations, about the mean of both.
    outside = stats.ttest_1samp(h, 0.05, alternative="less").pvalue
    assert found.equivalence_test == pytest.approx(outside)
    # What was there before keeps its meaning: paired with the first retraining alone.
    assert found.p == pytest.approx(stats.ttest_rel(x, R).pvalue)
    gaps = np.subtract(x, R)
    side = stats.ttest_1samp(gaps, 0.05, alternative="less").pvalue
    assert found.equivalence_p == pytest.approx(side)


def test_a_row_that_varies_more_than_retraining_is_judged_by_its_own_seeds() -> None:
    x = [0.10, 0.45, 0.12, 0.50]
    h = [a - (b + c) / 2 for a, b, c in zip(x, R, F, strict=True)]
    found = two_retrainings(x)
    assert found.test == "paired"
    assert found.p_test == pytest.approx(stats.ttest_1samp(h, 0).pvalue)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6))
def test_a_residue_is_shown_by_the_rows_own_seeds_too(key: int, n: int) -> None:
    rng = np.random.default_rng(key)
    r, f = rng.normal(0.3, 0.02, (2, n))
    x = rng.normal(0.36, 0.03, n)
    found = only(
        [rated(r.tolist(), "retrain"), rated(f.tolist(), "retrain-fresh")], rated(x.tolist())
    )
    own = stats.ttest_1samp(x - (r + f) / 2, 0).pvalue
    if found.word == "residue":
        assert own < 0.05


def test_a_row_whose_own_interval_holds_0_is_no_residue() -> None:
    """Every row is significant beside the retrainings, this one's three seeds are not alone."""
    r, f = [0.16, 0.19, 0.24], [0.20, 0.27, 0.18]
    x = [0.33, 0.29, 0.33]
    own = stats.ttest_1samp(np.subtract(x, np.add(r, f) / 2), 0).pvalue
    found = judge([rated(r, "retrain"), rated(f, "retrain-fresh"), rated(x)], RATE)[2]
    assert found.p_test is not None and found.p_test < 0.05 < own


def test_the_deviation_of_rates_near_0_is_that_of_rows_that_differ() -> None:
    """Three equal rates of 100 rows near 0 are no proof: 5 + 1 rows of 100 differ."""
    retrain = rated([0.01, 0.01, 0.01], "retrain", count=100)
    found = only([retrain, rated(NONE[:3], "none", count=100)], rated([0.05] * 3, count=100))
    error = math.sqrt(0.06 / 100) / math.sqrt(3)
    assert found.equivalence_test == pytest.approx(stats.t.cdf((0.04 - 0.05) / error, 2))
    assert found.equivalence_p == pytest.approx(stats.t.cdf(-0.01 / (0.01 / math.sqrt(3)), 2))
    mirrored = [rated([0.99] * 3, "retrain", count=100), rated([0.1] * 3, "none", count=100)]
    near_1 = only(mirrored, rated([0.95] * 3, count=100))
    assert near_1.equivalence_test == pytest.approx(found.equivalence_test)
    far = only([rated([0.3] * 3, "retrain", count=100)], rated([0.34] * 3, count=100))
    assert far.equivalence_test == far.equivalence_p


def test_the_second_retraining_is_judged_by_the_first_alone() -> None:
    found = judge([rated(R, "retrain"), rated(F, "retrain-fresh")], RATE)[1]
    assert found.test == "paired"
    assert found.p_test == pytest.approx(stats.ttest_rel(F, R).pvalue)


def test_a_seed_without_its_second_retraining_takes_the_test_away() -> None:
    fresh = rated(F[:3], "retrain-fresh")
    found = only([rated(R, "retrain"), fresh], rated([0.2, 0.22, 0.2, 0.21]))
    assert (found.test, found.p_test) == ("paired", found.p)


# --- targets of a seed ---------------------------------------------------------------------------


def test_the_targets_of_a_seed_are_one_value() -> None:
    rng = np.random.default_rng(1)
    x, r = rng.random((4, 16)), rng.random((4, 16)) * 0.5
    found = only([targets(r.tolist(), "retrain")], targets(x.tolist()))
    assert found.p == pytest.approx(stats.ttest_rel(x.mean(axis=1), r.mean(axis=1)).pvalue)


def test_many_targets_of_two_seeds_are_two_seeds() -> None:
    rows = [[0.1] * 15 + [0.11], [0.1] * 16]
    family = [targets(rows, "retrain"), targets([[0.9] * 16] * 2, "none")]
    assert only(family, targets(rows)).word == "inconclusive"
    three = [[*row, 0.1][:16] for row in (*rows, rows[0])]
    family = [targets(three, "retrain"), targets([[0.9] * 16, [0.91] * 16, [0.92] * 16], "none")]
    assert only(family, targets(three)).word == "removed"


def test_targets_without_a_partner_drop_out() -> None:
    x, r = targets([[0.5, 0.9], [0.4, 0.6], [0.5, 0.7]]), targets([[0.1, 0.1]] * 3, "retrain")
    partial = replace(r, values={t: v for t, v in r.values.items() if t != Trial(0, 1)})
    found = only([partial], x)
    gaps = [0.5 - 0.1, 0.5 - 0.1, 0.6 - 0.1]
    assert found.p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, rel=1e-6) or found.p > 0


# --- few seeds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_retraining_settles_nothing(seeds: int) -> None:
    family = [rated([0.1, 0.11][:seeds], "retrain"), rated(NONE[:seeds], "none")]
    for x in ([0.1, 0.11], [0.9, 0.91]):
        assert only(family, rated(x[:seeds])).word == "inconclusive"
    broken = rated([0.1, 0.11][:seeds], accuracy=[0.1, 0.11])
    assert only(family, broken).word == "inconclusive"
    equal = [family[0], rated([0.1, 0.11][:seeds], "none")]
    assert judge(equal, RATE)[1].word == "inconclusive"


def test_scores_with_an_exact_null_may_show_residue_of_one_model() -> None:
    assert only([scored([0.0], "retrain")], scored([0.6]), GAUSSIAN).word == "residue"
    for seeds in (1, 2):
        family = [scored([0.0] * seeds, "retrain", 9000), scored([2.0] * seeds, "none", 9000)]
        found = only(family, scored([0.001, -0.001][:seeds], count=9000), GAUSSIAN)
        assert found.word == "inconclusive"
    family = [scored([0.0] * 3, "retrain", 9000), scored([2.0, 2.1, 1.9], "none", 9000)]
    assert only(family, scored([0.001, -0.001, 0.0], count=9000), GAUSSIAN).word == "removed"


# --- what there was to remove --------------------------------------------------------------------


def test_removed_is_below_a_quarter_of_no_unlearning() -> None:
    """Well within a wide margin, and yet most of what was there."""
    retrain = rated([0.0, 0.001, 0.002, 0.001], "retrain")
    none = rated([0.10, 0.11, 0.12, 0.10], "none")
    wide = replace(RATE, margin=0.08)
    most = only([retrain, none], rated([0.05, 0.055, 0.06, 0.05]), wide)
    assert most.equivalence_test is not None and most.equivalence_test < 0.05
    assert most.word == "residue"
    assert "not shown to be below a quarter of no unlearning's +0.10" in most.reason
    little = only([retrain, none], rated([0.005, 0.004, 0.006, 0.005]), wide)
    assert little.word == "removed"
    assert "within ±0.08" in little.reason
    assert "below a quarter" in little.reason


def test_the_relative_test_is_two_one_sided_ones() -> None:
    r, none, x = [0.1, 0.12, 0.11], [0.5, 0.6, 0.52], [0.15, 0.14, 0.17]
    found = only([rated(r, "retrain"), rated(none, "none")], rated(x))
    own, whole = np.subtract(x, r), np.subtract(none, r)
    above = stats.ttest_1samp(own - 0.25 * whole, 0, alternative="less").pvalue
    below = stats.ttest_1samp(-own - 0.25 * whole, 0, alternative="less").pvalue
    assert found.p_relative == pytest.approx(max(above, below))
    mirrored = only([rated([-v for v in r], "retrain"), rated([-v for v in none], "none")],
                    rated([-v for v in x]))  # fmt: skip
    assert mirrored.p_relative == pytest.approx(found.p_relative)


def test_without_no_unlearning_nothing_is_removed() -> None:
    row = rated([0.1, 0.12, 0.11])
    found = only([rated([0.1, 0.12, 0.11], "retrain")], row)
    assert found.word == "inconclusive"
    assert "`none`" in found.reason
    shown = [rated([0.1, 0.12, 0.11], "retrain"), rated(NONE[:3], "none")]
    assert only(shown, row).word == "removed"


def test_where_the_attack_left_nothing_nobody_is_judged() -> None:
    retrain = rated([0.1, 0.12, 0.11], "retrain")
    family = [
        retrain,
        rated([0.101, 0.119, 0.11], "none"),
        rated([0.1, 0.12, 0.11]),
        rated([0.7, 0.72, 0.71]),
        rated([0.1, 0.12, 0.11], accuracy=[0.5, 0.52, 0.51]),
        Candidate("unlearn", {}, absent="failed: out of memory"),
    ]
    found = [verdict.word for verdict in judge(family, RATE)]
    assert found == ["reference", *["nothing to remove"] * 3, "wrecked", "n/a"]
    assert "no unlearning is itself within ±0.05" in judge(family, RATE)[2].reason


def test_a_lost_seed_of_no_unlearning_says_nothing_of_the_others() -> None:
    none = replace(rated([0.1, 0.12, 0.11], "none"), lost="1 of 4 seeds gave no value")
    found = judge([rated([0.1, 0.12, 0.11], "retrain"), none], RATE)[1]
    assert found.word == "inconclusive"


def test_no_unlearning_is_never_removed() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        family = [rated(rng.normal(0.1, 0.02, 4).tolist(), role) for role in ("retrain", "none")]
        assert judge(family, RATE)[1].word in ("nothing to remove", "inconclusive", "residue")


# --- accuracy ------------------------------------------------------------------------------------


def test_wrecked_is_a_test_of_a_loss_beyond_two_points() -> None:
    retrain = rated([0.1, 0.11, 0.12], "retrain", accuracy=[0.90, 0.91, 0.92])
    none = rated(NONE[:3], "none", accuracy=[0.1, 0.1, 0.1])
    low = rated([0.1, 0.11, 0.12], accuracy=[0.86, 0.865, 0.88])
    found = judge([retrain, none, low], RATE)
    lost = np.array([0.04, 0.045, 0.04])
    test = stats.ttest_1samp(lost, 0.02, alternative="greater")
    assert found[2].word == "wrecked"
    assert found[2].p_wrecked == pytest.approx(test.pvalue, rel=1e-4)
    lo, hi = stats.t.interval(0.9, 2, lost.mean(), stats.sem(lost))
    assert found[2].loss is not None
    assert (found[2].loss.lo, found[2].loss.hi) == pytest.approx((lo, hi))
    assert f"4.2 points (90 % {100 * lo:.1f} to {100 * hi:.1f})" in found[2].reason
    assert found[1].word == "residue"  # the model before unlearning is never wrecked
    noisy = replace(low, utility={0: 0.90, 1: 0.84, 2: 0.86})  # 4.3 points, and 4 seeds in 10
    verdict = judge([retrain, none, noisy], RATE)[2]
    assert (verdict.word, verdict.qualifier) == ("inconclusive", "accuracy")
    assert "a loss below 2 points is not shown" in verdict.reason
    assert verdict.seeds_to_settle is None  # the loss seen is above 2 points
    doubtful = replace(low, utility={0: 0.90, 1: 0.905, 2: 0.90})  # 0, .5 and 2 points
    verdict = judge([retrain, none, doubtful], RATE)[2]
    assert verdict.label == "inconclusive (accuracy)"
    assert verdict.seeds_to_settle is not None
    n, room, sd = verdict.seeds_to_settle, 0.02 - 0.025 / 3, float(np.std([0, 0.005, 0.02], ddof=1))

    def needed(seeds: int) -> float:
        return float(
            sd / math.sqrt(seeds) * (stats.t.ppf(0.95, seeds - 1) + stats.t.ppf(0.8, seeds - 1))
        )

    assert needed(n) <= room < needed(n - 1)


def test_the_loss_is_corrected_over_the_models_of_the_attack() -> None:
    reference = dict(enumerate([0.9, 0.91, 0.92]))
    models = [
        dict(enumerate(row)) for row in ([0.85, 0.87, 0.865], [0.9, 0.9, 0.93], [0.1, 0.1, 0.1])
    ]
    alone = losses(models[:1], reference, [True])[0]
    together = losses(models, reference, [True, True, False])
    assert alone is not None and alone.p is not None
    raw = [one.p for one in together[:2] if one is not None and one.p is not None]
    assert [one.p_adjusted for one in together if one is not None] == [*hommel(raw), None]
    assert together[0] is not None and together[0].p_adjusted is not None
    assert together[0].p_adjusted > alone.p


def test_removed_needs_accuracy_to_be_measured() -> None:
    row = replace(rated([0.1, 0.12, 0.11]), utility={})
    family = [rated([0.1, 0.12, 0.11], "retrain"), rated(NONE[:3], "none")]
    found = only(family, row)
    assert (found.word, found.qualifier) == ("inconclusive", "accuracy")
    assert found.label == "inconclusive (accuracy)"
    assert "accuracy was not measured" in found.reason
    partly = replace(row, utility={0: 0.9, 1: 0.897})
    assert "accuracy measured in 2 of 3 seeds" in only(family, partly).reason


def test_the_margin_of_accuracy_is_the_line() -> None:
    family = [
        rated([0.1, 0.12, 0.11], "retrain", accuracy=[0.9, 0.91, 0.9]),
        rated(NONE[:3], "none"),
        rated([0.1, 0.12, 0.11], accuracy=[0.87, 0.879, 0.871]),
    ]
    assert judge(family, RATE)[2].word == "wrecked"
    assert judge(family, RATE, utility_margin=0.05)[2].word == "removed"


def test_equal_accuracies_are_not_certain() -> None:
    """Three equal losses, a hair beyond two points, may be chance."""
    retrain, low = dict.fromkeys(range(3), 0.9), dict.fromkeys(range(3), 0.879)
    [found] = losses([low], retrain, [True])
    assert found is not None and found.p is not None and found.p > 0.05


# --- qualifiers ----------------------------------------------------------------------------------


def test_reinforced_is_shown_above_no_unlearning() -> None:
    retrain, none = rated([0.1, 0.12, 0.11], "retrain"), rated([0.4, 0.42, 0.43], "none")
    worse, same = rated([0.6, 0.61, 0.64]), rated([0.41, 0.40, 0.44])
    found = judge([retrain, none, worse, same], RATE)
    assert [verdict.label for verdict in found[2:]] == ["residue (reinforced)", "residue"]
    plain = [
        stats.ttest_rel(list(row.values.values()), [0.4, 0.42, 0.43], alternative="greater").pvalue
        for row in (worse, same)
    ]
    assert [verdict.p_reinforced for verdict in found[2:]] == pytest.approx(hommel(plain))
    assert found[1].p_reinforced is None
    down = replace(RATE, direction="down")
    assert judge([retrain, none, worse, same], down)[2].qualifier != "reinforced"


def test_over_corrected_is_shown_past_retraining() -> None:
    retrain, none = rated([0.3, 0.32, 0.31], "retrain"), rated([0.8, 0.82, 0.83], "none")
    past = rated([0.1, 0.11, 0.12])
    found = only([retrain, none], past)
    assert found.label == "residue (over-corrected)"
    back = recovery(past.values, none.values, retrain.values)
    assert back is not None and back.over_corrected
    barely = recovery({0: 0.29, 1: 0.33, 2: 0.30}, none.values, retrain.values)
    assert barely is not None and barely.share > 1
    assert not barely.over_corrected


def test_recovery_needs_an_effect_that_is_shown() -> None:
    none, retrain = {0: 0.12, 1: 0.10, 2: 0.15}, {0: 0.11, 1: 0.12, 2: 0.10}
    assert recovery(none, none, retrain) is None
    assert recovery({0: 0.5}, {0: 0.9}, {0: 0.1}) is None  # one seed shows nothing
    shown = recovery({0: 0.5}, {0: 0.9}, {0: 0.1}, shown=True)
    assert shown is not None and shown.share == pytest.approx(0.5)
    assert recovery({0: 0.5}, {0: 0.9}, {0: 0.1}, shown=False) is None


# --- the example of docs/statistics.md -----------------------------------------------------------


def test_the_example_worked_by_hand_is_what_judge_says() -> None:
    family = [
        rated([0.92, 0.95, 0.93], "none", [0.944, 0.941, 0.946], 900),
        rated([0.10, 0.14, 0.12], "retrain", [0.943, 0.945, 0.941], 900),
        rated([0.13, 0.12, 0.14], "retrain-fresh", [0.944, 0.942, 0.944], 900),
        rated([0.13, 0.14, 0.12], accuracy=[0.938, 0.941, 0.934], count=900),
        rated([0.48, 0.55, 0.53], accuracy=[0.940, 0.943, 0.940], count=900),
    ]
    none, _, fresh, a, b = judge(family, RATE)
    assert [v.word for v in (none, fresh, a, b)] == [
        "residue",
        "inconclusive",
        "removed",
        "residue",
    ]
    assert [round(v.p_test or 0, 5) for v in (none, fresh, a, b)] == [
        0.0,
        0.57992,
        0.69601,
        0.00165,
    ]
    assert b.p_hommel == pytest.approx(0.0050, abs=5e-5)
    assert (a.equivalence_test, a.p_relative) == pytest.approx((0.0138, 0.00085), abs=5e-5)
    assert a.loss is not None and (a.loss.lo, a.loss.hi) == pytest.approx((0.003, 0.008), abs=5e-4)
    assert fresh.equivalence_test == pytest.approx(0.060, abs=5e-4)
    assert fresh.seeds_to_settle == 6
