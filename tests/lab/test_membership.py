"""Membership audits: closed forms, what may not matter, and nothing to find where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest
from torch import Tensor, nn

from engine.lab.audits._membership import (
    auc,
    balanced_accuracy,
    clopper_pearson,
    confidence,
    hits_at,
    rates,
)
from engine.lab.audits.mia_loss import MIALoss
from engine.lab.views import Rows
from tests.helpers import Run, run_plan, small_experiment
from tests.lab.toys import CLASSES, SHAPE, toy_model, toy_set

scores = st.lists(st.integers(-5, 5), min_size=1, max_size=30).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def normal(count: int, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=torch.float64) + shift


@given(scores, scores)
@settings(deadline=None, max_examples=60)
def test_the_auc_is_the_share_of_pairs_in_order(members: Tensor, others: Tensor) -> None:
    pairs = (members[:, None] > others).double() + 0.5 * (members[:, None] == others).double()
    assert auc(members, others) == pytest.approx(float(pairs.mean()))


@given(scores, scores)
@settings(deadline=None, max_examples=60)
def test_swapping_the_labels_gives_one_minus_the_auc(members: Tensor, others: Tensor) -> None:
    one, other = auc(members, others), auc(others, members)
    assert one is not None and other is not None
    assert one + other == pytest.approx(1)


def test_rates_ignore_any_rising_function_of_the_scores() -> None:
    members, others = normal(150, 0.5), normal(1200, seed=1)
    plain = rates(members, others, 0)
    for rising in (torch.exp, lambda s: 7 * s - 3, torch.atan):
        assert rates(rising(members), rising(others), 0) == plain


def test_the_true_positive_rate_rises_with_the_false_one() -> None:
    members, others = normal(200, 1.0), normal(1500, seed=1)
    found = [hits_at(members, others, share) for share in (0.001, 0.01, 0.05, 0.2, 0.5)]
    assert found == sorted(found) and found[0] < found[-1]


def test_equal_distributions_give_the_false_positive_rate() -> None:
    """The promise behind every TPR at a fixed FPR: under the null it is that rate, on average."""
    hits = trials = 0
    areas, balances = [], []
    for repeat in range(300):
        members, others = normal(60, seed=2 * repeat), normal(199, seed=2 * repeat + 1)
        hits += hits_at(members, others, 0.01) or 0
        trials += 60
        areas.append(auc(members, others))
        balances.append(balanced_accuracy(members, others, repeat))
    # Members share a threshold, so the spread is wider than a binomial's: twice its size.
    assert abs(hits / trials - 0.01) < 3 * 2 * (0.01 * 0.99 / trials) ** 0.5
    assert abs(sum(areas) / 300 - 0.5) < 4 * ((1 / 60 + 1 / 199) / 12 / 300) ** 0.5
    assert abs(sum(balances) / 300 - 0.5) < 4 * (0.25 / 60 / 300) ** 0.5


def test_separated_scores_are_told_apart_entirely() -> None:
    told = rates(normal(50, 40.0), normal(1000), 0)
    assert told["auc"] == told["tpr_at_1permille_fpr"] == 1.0
    assert told["balanced_accuracy"] > 0.99
    assert rates(normal(50, -40.0), normal(1000), 0)["tpr_at_1pct_fpr"] == 0.0


def test_a_rate_that_cannot_be_resolved_is_not_told() -> None:
    few, enough = normal(998), normal(999)
    members = normal(20, 1.0, seed=5)
    assert rates(members, few, 0)["tpr_at_1permille_fpr"] is None
    assert rates(members, few, 0)["tpr_at_1permille_fpr_hi"] is None
    assert rates(members, enough, 0)["tpr_at_1permille_fpr"] is not None
    assert hits_at(members, normal(98), 0.01) is None
    assert hits_at(members, normal(99), 0.01) == int((members > normal(99).max()).sum())


def test_rates_of_nobody() -> None:
    nobody = torch.empty(0, dtype=torch.float64)
    told = rates(nobody, normal(10), 0)
    assert told["auc"] is None and told["tpr_at_1pct_fpr"] is None and told["members"] == 0


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (3, 20), (20, 20), (1, 500)])
def test_the_interval_is_the_exact_one(hits: int, trials: int) -> None:
    low, high = clopper_pearson(hits, trials)
    if hits:
        assert low == pytest.approx(beta.ppf(0.025, hits, trials - hits + 1))
        assert binomtest(hits, trials, low, alternative="greater").pvalue == pytest.approx(0.025)
    else:
        assert low == 0
    if hits < trials:
        assert binomtest(hits, trials, high, alternative="less").pvalue == pytest.approx(0.025)
    else:
        assert high == 1


def test_confidence_is_the_losss_order_without_its_underflow() -> None:
    model, data = toy_model().eval(), toy_set()
    rows = Rows(data, torch.arange(len(data)))
    found = confidence(model, rows.batches())
    inputs, labels = next(rows.batches())
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(inputs).double(), labels, reduction="none")
    assert torch.equal(found.argsort(descending=True), loss.argsort())
    assert torch.allclose(loss, nn.functional.softplus(-found))
    loud = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[1] * SHAPE[2], CLASSES))
    with torch.no_grad():
        loud[1].weight.mul_(1e4)
    assert len(confidence(loud, rows.batches()).unique()) == len(data)


# --- mia-loss ------------------------------------------------------------------------------------

ATTACKS = [{"name": "gaussian", "share": 0.1}, {"name": "badnets", "share": 0.1}]


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    methods = [{"name": name} for name in ("none", "retrain", "retrain-fresh")]
    return run_plan(
        small_experiment(
            attacks=ATTACKS,
            methods=methods,
            validation=0.3,
            model={"name": "mlp", "width": 64},
            train={"epochs": 30, "batch_size": 32, "lr": 0.05},
            audits=[{"name": "mia-loss"}, {"name": "accuracy"}],
        ),
        workshop,
    )


@pytest.mark.parametrize("attack", ["gaussian", "badnets"])
def test_mia_loss_finds_members_and_nothing_in_a_retrained_model(run: Run, attack: str) -> None:
    found = {
        method: run.metrics(attack=attack, method=method, audit="mia-loss")
        for method in ("none", "retrain", "retrain-fresh")
    }
    members, others = found["none"]["members"], found["none"]["nonmembers"]
    assert members == 28 and others > 100 + 28
    spread = ((1 / members + 1 / others) / 12) ** 0.5
    assert found["none"]["auc"] > found["retrain"]["auc"] + 0.05
    for method in ("retrain", "retrain-fresh"):
        assert abs(found[method]["auc"] - 0.5) < 4 * spread
    for told in found.values():
        assert told.keys() == MIALoss.metrics.keys()
        low, rate, high = (told[f"tpr_at_1pct_fpr{end}"] for end in ("_lo", "", "_hi"))
        assert low <= rate <= high
