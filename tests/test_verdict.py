"""Verdicts: calibrated on simulated nulls, and never "removed" for want of evidence."""

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


def rated(values: list[float], role: str = "unlearn", accuracy: float | None = 0.9) -> Candidate:
    seeds = range(len(values))
    utility = {} if accuracy is None else dict.fromkeys(seeds, accuracy)
    return Candidate(role, dict(zip(seeds, values, strict=True)), utility=utility)


def words(verdicts: Iterable[Verdict]) -> list[str]:
    return [verdict.word for verdict in verdicts]


def share(word: str, shift: float, simulations: int = 400) -> float:
    """How often one method's true mean score of `shift` gets this word."""
    rng = np.random.default_rng(7)
    reference = scored(rng.normal(size=(SEEDS, P)), "retrain")
    draws = rng.normal(shift, 1.0, size=(simulations, SEEDS, P))
    return float(np.mean([judge([reference, scored(x)], GAUSSIAN)[1].word == word for x in draws]))


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


def test_holm_protects_a_whole_family_of_true_nulls() -> None:
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


def test_one_seed_is_enough_for_an_exact_null() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(1, 2000))
    assert judge([scored(scores - scores.mean())], GAUSSIAN)[0].word == "removed"
    assert judge([scored(scores - scores.mean() + 0.3)], GAUSSIAN)[0].word == "residue"


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
    reference = rated([0.1] * SEEDS, "retrain")

    def paired_share(word: str, gap: float) -> float:
        draws = rng.normal(0.1 + gap, 0.02, size=(400, SEEDS))
        found = words(v for row in draws for v in judge([reference, rated(list(row))], RATE)[1:])
        return found.count(word) / len(found)

    assert paired_share("residue", 0.0) <= 0.05 + slack(0.05)
    assert paired_share("removed", 0.0) >= 0.80
    assert paired_share("removed", 0.05) <= 0.05 + slack(0.05)
    assert paired_share("residue", 0.3) == 1.0


def test_equal_differences() -> None:
    family = [rated([0.1, 0.2], "retrain"), rated([0.1, 0.2]), rated([0.3, 0.4])]
    assert words(judge(family, RATE)) == ["reference", "removed", "residue"]


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


def test_wrecked_claims_nothing_else() -> None:
    family = [
        rated([0.9] * 3, "none", accuracy=0.5),
        rated([0.1] * 3, "retrain"),
        rated([0.1] * 3, accuracy=0.879),
        rated([0.1] * 3, accuracy=0.88),
        rated([0.1] * 3, "retrain-fresh", accuracy=0.5),
        rated([0.1], accuracy=0.5),
    ]
    verdicts = judge(family, RATE)
    assert words(verdicts) == ["residue", "reference", "wrecked", "removed", "wrecked", "wrecked"]
    assert "2.1 points" in verdicts[2].reason


def test_unmeasured_utility_is_admitted() -> None:
    verdict = judge([rated([0.1] * 3, "retrain"), rated([0.1] * 3, accuracy=None)], RATE)[1]
    assert verdict.word == "removed"
    assert "utility not measured" in verdict.reason


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
    assert words(judge([rated([0.0] * 3, "retrain"), wrecked], RATE)) == ["reference", "oracle"]


def test_what_failed_at_some_seed_is_never_removed() -> None:
    rng = np.random.default_rng(3)
    clean, good = (
        scored(rng.normal(size=(SEEDS, P)), "retrain"),
        scored(rng.normal(size=(SEEDS, P))),
    )
    assert words(judge([clean, good], GAUSSIAN)) == ["reference", "removed"]
    (verdict,) = judge([clean, replace(good, failed=1)], GAUSSIAN)[1:]
    assert verdict.word == "inconclusive"
    assert "failed at 1 of its seeds" in verdict.reason
    bad = scored(rng.normal(1.0, 1.0, size=(SEEDS, P)))
    assert words(judge([clean, replace(bad, failed=1)], GAUSSIAN)) == ["reference", "residue"]


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
    family = [rated(rows[0], "retrain"), *map(rated, rows[1:])]
    verdicts = judge(family, RATE)
    for verdict in verdicts:
        if verdict.word == "removed":
            assert verdict.equivalence_p is not None
            assert verdict.equivalence_p < 0.05
        if verdict.word == "residue":
            assert verdict.p_holm is not None
            assert verdict.p_holm < 0.05

    rows_order, seeds = list(range(len(family))), list(range(4))
    rng.shuffle(rows_order)
    rng.shuffle(seeds)
    renamed = [replace(c, values={seeds[s]: v for s, v in c.values.items()}) for c in family]
    again = judge([renamed[i] for i in rows_order], RATE)
    assert again == [verdicts[i] for i in rows_order]
