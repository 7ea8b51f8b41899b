"""Verdicts: calibrated on simulated nulls, and never "removed" for want of evidence.

tests/test_verdict_rule.py has what each word rests on, in small exact cases.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.results.verdict import Candidate, Verdict, judge
from engine.spec.component import Metric

GAUSSIAN = Metric("mean score", direction="up", margin=0.15, null="standard-normal")
RATE = Metric("attack success rate", direction="up", margin=0.05)
P, SEEDS = 180, 5


def scored(scores: np.ndarray, role: str = "unlearn") -> Candidate:
    """A candidate from raw scores [seeds, P]."""
    count = scores.shape[1]
    return Candidate(
        role=role,
        values=dict(enumerate(scores.mean(axis=1).tolist())),
        companions={
            "count": dict.fromkeys(range(len(scores)), float(count)),
            "std_score": dict(enumerate(scores.std(axis=1, ddof=1).tolist())),
        },
        utility=dict.fromkeys(range(len(scores)), 0.9),
    )


def rated(
    values: list[float],
    role: str = "unlearn",
    accuracy: float | None = 0.9,
    count: float | None = 1000.0,
) -> Candidate:
    seeds = range(len(values))
    utility = {} if accuracy is None else dict.fromkeys(seeds, accuracy)
    companions = {} if count is None else {"count": dict.fromkeys(seeds, count)}
    return Candidate(role, dict(zip(seeds, values, strict=True)), companions, utility)


def with_none(family: list[Candidate]) -> list[Candidate]:
    """The family of a rate, with a poison that worked before unlearning."""
    seeds = next(len(row.values) for row in family if row.role == "retrain")
    return [*family, rated([0.9, 0.95, 0.92, 0.97, 0.91, 0.9, 0.93, 0.9, 0.94][:seeds], "none")]


def untouched(seeds: int = SEEDS, shift: float = 1.5) -> Candidate:
    """No unlearning, as the Gaussian audit sees it."""
    return scored(np.random.default_rng(21).normal(shift, 1.0, size=(seeds, P)), "none")


def words(verdicts: Iterable[Verdict]) -> list[str]:
    return [verdict.word for verdict in verdicts]


def share(word: str, shift: float, simulations: int = 400) -> float:
    """How often one method's true mean score of `shift` gets this word."""
    rng = np.random.default_rng(7)
    reference = scored(rng.normal(size=(SEEDS, P)), "retrain")
    draws = rng.normal(shift, 1.0, size=(simulations, SEEDS, P))
    family = [reference, untouched()]
    return float(np.mean([judge([*family, scored(x)], GAUSSIAN)[2].word == word for x in draws]))


def slack(rate: float, simulations: int = 400) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / simulations)


# --- the standard-normal null --------------------------------------------------------------------


def test_true_nulls_are_seldom_residue_and_mostly_removed() -> None:
    assert share("residue", 0.0) <= 0.05 + slack(0.05)
    assert share("removed", 0.0) >= 0.80


def test_a_shift_on_the_margin_is_seldom_removed() -> None:
    assert share("removed", 0.15) <= 0.05 + slack(0.05)
    assert share("removed", -0.15) <= 0.05 + slack(0.05)


def test_a_large_shift_is_residue() -> None:
    assert share("residue", 0.6, simulations=50) == 1.0
    assert share("residue", -0.6, simulations=50) == 1.0


def test_the_correction_protects_a_whole_family_of_true_nulls() -> None:
    rng = np.random.default_rng(11)
    reference = scored(rng.normal(size=(SEEDS, 20)), "retrain")
    narrow = replace(GAUSSIAN, margin=0.01)  # nothing is equivalent, so every rejection shows
    families = rng.normal(size=(300, 8, SEEDS, 20))
    wrong = [
        "residue" in words(judge([reference, *map(scored, family)], narrow)) for family in families
    ]
    assert np.mean(wrong) <= 0.05 + slack(0.05, 300)


@pytest.mark.parametrize("std", [0.8, 1.25])
def test_a_wrong_spread_blocks_removed_and_says_so(std: float) -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(SEEDS, P))
    scores = (scores - scores.mean()) * std
    verdict = judge([scored(scores)], GAUSSIAN)[0]
    assert verdict.equivalence_p is not None
    assert verdict.equivalence_p < 0.05
    assert verdict.word == "inconclusive"
    pooled = math.sqrt(scores.var(axis=1, ddof=1).mean())
    assert f"the scores' std is {pooled:.3f} instead of 1" in verdict.reason
    assert verdict.seeds_to_settle is None


def test_seeds_that_cancel_block_removed() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(4, P))
    scores = scores - scores.mean(axis=1, keepdims=True) + np.array([[0.5], [-0.5], [0.5], [-0.5]])
    verdict = judge([scored(scores)], GAUSSIAN)[0]
    assert verdict.word == "inconclusive"
    assert "seeds disagree" in verdict.reason


def test_one_seed_can_show_residue_but_never_removal() -> None:
    scores = np.random.default_rng(5).normal(size=(1, 2000))
    clean = judge([scored(scores - scores.mean())], GAUSSIAN)[0]
    assert clean.word == "inconclusive"
    assert clean.equivalence_p is not None
    assert clean.equivalence_p < 0.05
    assert "one seed speaks of one model" in clean.reason
    assert judge([scored(scores - scores.mean() + 0.3)], GAUSSIAN)[0].word == "residue"


def exact(means: list[float]) -> Candidate:
    """Scores with these means and a standard deviation of exactly 1 about them."""
    scores = np.random.default_rng(12).normal(size=(len(means), P))
    scores -= scores.mean(axis=1, keepdims=True)
    scores /= scores.std(axis=1, ddof=1, keepdims=True)
    return scored(scores + np.array(means)[:, None])


def test_equivalence_lets_seeds_differ() -> None:
    """The larger of the pooled p and Student's over the seeds' means, whatever their order."""
    from scipy.stats import norm, ttest_1samp

    for means in ([0.02, -0.03, 0.05], [0.001, -0.001, 0.002], [0.09, 0.14, 0.01]):
        pooled = norm.cdf((abs(np.mean(means)) - 0.15) * math.sqrt(3 * P))
        side = -1 if np.mean(means) > 0 else 1
        seeds = ttest_1samp(means, -side * 0.15, alternative="less" if side < 0 else "greater")
        found = judge([exact(means)], GAUSSIAN)[0].equivalence_p
        assert found == pytest.approx(max(pooled, seeds.pvalue))


def test_a_shift_on_the_margin_on_average_is_seldom_removed() -> None:
    """Seeds that differ by more than the null's own spread used to pass two to three times as
    often as allowed: the variance is known under the null only."""
    rng = np.random.default_rng(13)
    for seeds in (3, 5):
        shifts = rng.normal(0.15, 1.5 / math.sqrt(P), size=(400, seeds, 1))
        rows = [scored(x) for x in shifts + rng.normal(size=(400, seeds, P))]
        clean = scored(rng.normal(size=(seeds, P)), "retrain")
        family = [clean, untouched(seeds)]
        found = [judge([*family, row], GAUSSIAN)[2].word == "removed" for row in rows]
        assert np.mean(found) <= 0.05 + slack(0.05)


def test_rows_without_a_gradient_are_told_and_a_majority_blocks_removed() -> None:
    row = exact([0.0] * SEEDS)
    some, most = (
        replace(
            row, companions={**row.companions, "zero_gradients": dict.fromkeys(range(SEEDS), n)}
        )
        for n in (4.0, P + 1.0)
    )
    clean = replace(exact([0.0] * SEEDS), role="retrain")
    verdicts = judge([some, most, untouched(), clean], GAUSSIAN)
    assert words(verdicts)[:2] == ["removed", "inconclusive"]
    assert "20 rows had no gradient" in verdicts[0].reason
    assert "most rows had no gradient" in verdicts[1].reason


def test_seeds_to_settle_are_more_than_there_are() -> None:
    rng = np.random.default_rng(14)
    for _ in range(60):
        values = rng.normal(0.02, 0.05, size=int(rng.integers(2, 9))).tolist()
        verdict = judge([rated([0.0] * len(values), "retrain"), rated(values)], RATE)[1]
        if verdict.seeds_to_settle is not None:
            assert verdict.word == "inconclusive"
            assert verdict.seeds_to_settle > len(values)


def test_companions_are_required() -> None:
    row = scored(np.random.default_rng(6).normal(size=(SEEDS, P)))
    no_count = replace(row, companions={"std_score": row.companions["std_score"]})
    no_std = replace(row, companions={"count": row.companions["count"]})
    assert words(judge([no_count, no_std], GAUSSIAN)) == ["inconclusive", "inconclusive"]


def test_a_reference_off_its_null_is_called_out() -> None:
    scores = np.random.default_rng(8).normal(0.6, 1.0, size=(SEEDS, P))
    verdict = judge([scored(scores, "retrain")], GAUSSIAN)[0]
    assert verdict.word == "reference"
    assert "leaking" in verdict.reason


# --- paired differences to retraining ------------------------------------------------------------


def test_paired_words() -> None:
    family = [
        rated([0.95, 0.97, 0.96], "none"),
        rated([0.01, 0.02, 0.00], "retrain"),
        rated([0.012, 0.019, 0.003], "retrain-fresh"),
        rated([0.50, 0.56, 0.53]),
        rated([0.00, 0.30, 0.05]),
    ]
    assert words(judge(family, RATE)) == [
        "residue",
        "reference",
        "removed",
        "residue",
        "inconclusive",
    ]


def test_paired_tests_are_calibrated() -> None:
    rng = np.random.default_rng(9)
    family = with_none([rated([0.1] * SEEDS, "retrain")])

    def paired_share(word: str, gap: float) -> float:
        draws = rng.normal(0.1 + gap, 0.02, size=(400, SEEDS))
        found = words(v for row in draws for v in judge([*family, rated(list(row))], RATE)[2:])
        return found.count(word) / len(found)

    assert paired_share("residue", 0.0) <= 0.05 + slack(0.05)
    assert paired_share("removed", 0.0) >= 0.80
    assert paired_share("removed", 0.05) <= 0.05 + slack(0.05)
    assert paired_share("residue", 0.3) == 1.0


def test_equal_differences() -> None:
    low, high = [0.1, 0.2, 0.1], [0.3, 0.4, 0.3]
    family = with_none([rated(low, "retrain"), rated(low), rated(high)])
    assert words(judge(family, RATE))[:3] == ["reference", "removed", "residue"]


def test_counting_too_few_rows_shows_nothing() -> None:
    """0 of 1 in five seeds is no proof of a rate of 0, nor 1 of 1 in three seeds of residue."""
    none, all_ = [0.0] * 5, [1.0] * 3
    for count, word in ((1.0, "inconclusive"), (10.0, "inconclusive"), (900.0, "removed")):
        family = with_none([rated(none, "retrain", count=count), rated(none, count=count)])
        assert judge(family, RATE)[1].word == word
    family = with_none([rated(none[:3], "retrain", count=1.0), rated(all_, count=1.0)])
    assert judge(family, RATE)[1].word == "inconclusive"


def test_resolution_is_read_off_the_values_where_nothing_was_counted() -> None:
    steps = ((0.1, "inconclusive"), (0.001, "removed"))
    for step, word in steps:
        values = [0.1, 0.1 + step, 0.1]
        family = with_none([rated(values, "retrain", count=None), rated(values, count=None)])
        assert judge(family, RATE)[1].word == word
    flat = [rated([0.1] * 9, "retrain", count=None), rated([0.1] * 9, count=None)]
    assert "never vary" in judge(flat, RATE)[1].reason


@pytest.mark.parametrize(("seeds", "count"), [(3, 20), (3, 5), (5, 10), (5, 100)])
def test_rates_of_few_rows_hold_their_level(seeds: int, count: int) -> None:
    rng = np.random.default_rng(15)

    def binomial(share: float) -> list[float]:
        return (rng.binomial(count, share, seeds) / count).tolist()

    def rate_of(word: str, share: float, gap: float) -> float:
        families = [
            with_none(
                [
                    rated(binomial(share), "retrain", count=count),
                    rated(binomial(share + gap), count=count),
                ]
            )
            for _ in range(600)
        ]
        return float(np.mean([judge(family, RATE)[1].word == word for family in families]))

    for share in (0.0, 0.1, 0.5):
        assert rate_of("residue", share, 0.0) <= 0.05 + slack(0.05, 600)
        assert rate_of("removed", share, 0.05) <= 0.05 + slack(0.05, 600) + 0.01  # skewed near 0


def test_one_seed_or_no_shared_seed_is_inconclusive() -> None:
    reference = rated([0.1], "retrain")
    verdicts = judge([reference, rated([0.1]), rated([0.9])], RATE)
    assert words(verdicts) == ["reference", "inconclusive", "inconclusive"]
    assert "one seed: no interval" in verdicts[1].reason
    assert words(judge([rated([0.1, 0.1])], RATE)) == ["inconclusive"]


def test_inconclusive_says_how_many_seeds_would_settle_it() -> None:
    verdict = judge([rated([0.0, 0.0, 0.0], "retrain"), rated([-0.06, 0.07, 0.01])], RATE)[1]
    assert verdict.word == "inconclusive"
    assert verdict.seeds_to_settle is not None
    assert verdict.seeds_to_settle > 3
    assert f"{verdict.seeds_to_settle} seeds" in verdict.reason


def test_without_a_margin_nothing_is_removed() -> None:
    family = [rated([0.1, 0.2, 0.3], "retrain"), rated([0.1, 0.2, 0.3])]
    assert judge(family, replace(RATE, margin=None))[1].word == "inconclusive"


# --- utility and absence -------------------------------------------------------------------------


ACCURACY = Metric("test accuracy", direction="down", margin=0.02)


def judged_by_accuracy(*accuracies: float) -> list[str]:
    """Verdicts of none, retraining and methods whose test accuracy is the audit itself."""
    roles = ["none", "retrain", *["unlearn"] * (len(accuracies) - 2)]
    seeds = (-0.002, 0.0, 0.001, 0.003)
    rows = []
    for role, accuracy in zip(roles, accuracies, strict=True):
        jitter = [0.0] * 4 if role == "retrain" else list(seeds)
        values = {seed: accuracy + jitter[seed] for seed in range(4)}
        rows.append(Candidate(role, values, {}, values))
    return words(judge(rows, ACCURACY))


def test_what_an_indiscriminate_poison_leaves_is_residue_not_wreckage() -> None:
    """None stands 30 points below retraining; methods climb back, stay, or fall further still."""
    found = judged_by_accuracy(0.40, 0.70, 0.55, 0.40, 0.385, 0.35, 0.70)
    wanted = ["residue", "reference", "residue", "residue", "residue", "wrecked", "removed"]
    assert found == wanted


def test_where_the_poison_does_no_harm_a_fall_is_wreckage() -> None:
    found = judged_by_accuracy(0.69, 0.70, 0.66, 0.70)
    assert found == ["nothing to remove", "reference", "wrecked", "nothing to remove"]


def test_an_oracle_is_shown_and_never_judged() -> None:
    """Nor does it take part in the others' correction."""
    rng = np.random.default_rng(3)
    clean, method = (
        scored(rng.normal(size=(SEEDS, P)), "retrain"),
        scored(rng.normal(size=(SEEDS, P))),
    )
    alone = judge([clean, method], GAUSSIAN)
    for shift in (0.0, 2.0):
        oracle = scored(rng.normal(shift, 1, size=(SEEDS, P)), "oracle")
        found = judge([clean, method, oracle], GAUSSIAN)
        assert found[:2] == alone
        assert found[2].word == "oracle" and "not judged" in found[2].reason
        assert found[2].p is None
    wrecked = rated([0.0] * 3, "oracle", accuracy=0.1)
    assert judge([rated([0.0] * 3, "retrain"), wrecked], RATE)[1].p_wrecked is None
    assert words(judge([rated([0.0] * 3, "retrain"), wrecked], RATE)) == ["reference", "oracle"]


def test_seeds_without_a_value_forbid_removed_only() -> None:
    family = with_none([rated([0.1] * 3, "retrain"), rated([0.1] * 3), rated([0.9] * 3)])
    lost = [family[0], *(replace(row, lost="1 of 4 seeds gave no value") for row in family[1:])]
    assert words(judge(family, RATE))[:3] == ["reference", "removed", "residue"]
    verdicts = judge(lost, RATE)
    assert words(verdicts)[:3] == ["reference", "inconclusive", "residue"]
    assert "but 1 of 4 seeds gave no value" in verdicts[1].reason


def test_absent_rows_are_not_tested() -> None:
    absent = Candidate("unlearn", {}, absent="failed: out of memory")
    family = [rated([0.1, 0.2], "retrain"), absent, rated([0.1, 0.25])]
    verdicts = judge(family, RATE)
    assert verdicts[1] == Verdict("n/a", "failed: out of memory")
    assert verdicts[2].p_holm == verdicts[2].p


rates = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(rates, min_size=2, max_size=5), st.randoms())
def test_removed_needs_equivalence_and_order_is_irrelevant(
    rows: list[list[float]], rng: random.Random
) -> None:
    family = [rated(rows[0], "retrain"), rated(rows[1], "none"), *map(rated, rows[2:])]
    verdicts = judge(family, RATE)
    for verdict in verdicts:
        if verdict.word == "removed":
            assert verdict.equivalence_test is not None and verdict.p_relative is not None
            assert max(verdict.equivalence_test, verdict.p_relative) < 0.05
        if verdict.word == "residue":
            assert verdict.p_hommel is not None and verdict.p_holm is not None
            assert verdict.p_hommel < 0.05 and verdict.p_hommel <= verdict.p_holm

    rows_order, seeds = list(range(len(family))), list(range(4))
    rng.shuffle(rows_order)
    rng.shuffle(seeds)
    renamed = [replace(c, values={seeds[s]: v for s, v in c.values.items()}) for c in family]
    again = judge([renamed[i] for i in rows_order], RATE)
    assert again == [verdicts[i] for i in rows_order]
