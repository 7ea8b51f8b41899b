"""The convex study: solved as it says, and identities that hold at any exact optimum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from engine.lab.audits.hypotheses import Hypotheses, cosine, solve
from engine.lab.context import Failed
from engine.lab.methods._head import SoftmaxObjective
from engine.lab.subject import Subject
from engine.lab.views import Rows
from tests.lab.toys import toy_model, toy_set, toy_subject


def problem(rows: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    return features, (features[:, :3] + torch.randn(rows, 3, generator=generator)).argmax(1)


@pytest.mark.parametrize("l2", [1e-1, 5e-4])
def test_the_solution_is_one_and_does_not_depend_on_the_start(l2: float) -> None:
    objective = SoftmaxObjective(*problem(), 1 / 200, l2)
    start = torch.zeros(3, 5, dtype=torch.float64)
    solved, norm = solve(objective, start, 1e-10)
    assert norm <= 1e-10 and float(objective.gradient(solved).norm()) == norm
    again, _ = solve(objective, start + 2, 1e-10)
    assert torch.allclose(solved, again, rtol=0, atol=1e-10 / l2 * 2)
    torch.manual_seed(0)
    assert all(
        objective.value(solved + 0.1 * torch.randn_like(solved)) > objective.value(solved)
        for _ in range(10)
    )


def test_what_cannot_be_solved_fails() -> None:
    objective = SoftmaxObjective(*problem(), 1 / 200, 5e-4)
    with pytest.raises(Failed, match="not solved"):
        solve(objective, torch.zeros(3, 5, dtype=torch.float64), 1e-8, most=1)


def test_at_the_optimum_the_gradients_and_weight_decay_add_up_to_nothing() -> None:
    """So the way down the clean loss with its decay is the way up the poison's: hypothesis 2 can
    hold for one of the two only."""
    (features, labels), l2 = problem(), 1e-2
    whole, _ = solve(
        SoftmaxObjective(features, labels, 1 / 200, l2), torch.zeros(3, 5).double(), 1e-12
    )
    clean = SoftmaxObjective(features[:150], labels[:150], 1 / 200, l2).gradient(whole)
    poison = SoftmaxObjective(features[150:], labels[150:], 1 / 200, 0.0).gradient(whole)
    assert float((clean + poison).norm()) < 1e-11


def subject(model: nn.Module | None = None) -> Subject:
    return toy_subject(model or toy_model(), toy_set())


def test_it_measures_every_share_and_says_how_well_it_solved() -> None:
    told = Hypotheses(deleted=(0.4, 1.0)).measure(subject()).metrics
    assert {name.partition(".")[0] for name in told} == Hypotheses.metrics.keys()
    assert told["residual"] <= 1e-8 and told["count"] == 5
    for share in ("0.4", "1"):
        for ratio, of in (("l1_ratio", "l1_unseen"), ("l1_ratio_seen", "l1_seen")):
            expected = told[f"l1_poison.{share}"] / told[f"{of}.{share}"]
            assert told[f"{ratio}.{share}"] == pytest.approx(expected)
        assert all(
            -1 <= told[f"{name}.{share}"] <= 1
            for name in (
                "cos_clean_gradient",
                "cos_clean_batch",
                "cos_poison_gradient",
                "cos_control",
            )
        )
    assert told["l1_poison.1"] > told["l1_poison.0.4"]


def test_it_is_deterministic_and_does_not_read_the_head() -> None:
    one = Hypotheses().measure(subject()).metrics
    assert one == Hypotheses().measure(subject()).metrics
    other = toy_model()
    with torch.no_grad():
        other[-1].weight.normal_()
    assert Hypotheses().measure(subject(other)).metrics == pytest.approx(one, abs=1e-6)


def test_rows_that_differ_in_nothing_have_a_ratio_of_one_on_average() -> None:
    """Poison that is clean data: leaving it out is leaving out clean rows."""
    clean, ratios = toy_set(poisoned=False), []
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    for n in range(30):
        rows = order.roll(5 * n)
        forget, seen, unseen = (Rows(clean, part) for part in (rows[:6], rows[6:27], rows[27:]))
        told = replace(subject(), seed=n, retain=seen, validation=unseen, forget=forget)
        metrics = Hypotheses(deleted=(1.0,), l2=1e-2).measure(told).metrics
        ratios.append([metrics["l1_ratio.1"], metrics["l1_ratio_seen.1"]])
    logs = torch.tensor(ratios).log()
    assert (logs.mean(0).abs() < 4 * logs.std(0) / len(logs) ** 0.5).all()


def test_without_enough_validation_rows_there_is_no_fair_control() -> None:
    clean = toy_set(poisoned=False)
    told = replace(subject(), validation=Rows(clean, torch.arange(0)))
    metrics = Hypotheses(deleted=(1.0,)).measure(told).metrics
    assert metrics["l1_unseen.1"] is None is metrics["l1_ratio.1"] is metrics["cos_control.1"]
    assert metrics["l1_ratio_seen.1"] is not None


def test_the_cosine_has_no_scale() -> None:
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    assert cosine(one, other) == pytest.approx(cosine(5 * one, 0.1 * other))
