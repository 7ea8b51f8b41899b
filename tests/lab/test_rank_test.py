"""The rank test of the Gaussian audit: uniform for any model that never saw the noise."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest, chisquare, kstest
from torch import Tensor, nn

from engine.lab.audits.gaussian import Gaussian, margins, noise_ranks, rank_metrics
from engine.lab.subject import Subject
from tests.helpers import Run
from tests.lab.test_gaussian_audit import fresh_noise, subject_of, with_model, with_noise
from tests.lab.toys import CLASSES, SHAPE, toy_model, toy_set, toy_subject


@pytest.fixture(scope="module")
def trained(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(small_run, tmp_path_factory.mktemp("audit"), method="none")


@pytest.fixture(scope="module")
def retrained(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(small_run, tmp_path_factory.mktemp("audit"), method="retrain")


class Steps(nn.Module):
    """Rounds another model's logits coarsely: a score with many ties, as far from normal as can be."""

    def __init__(self, model: nn.Module, step: float) -> None:
        super().__init__()
        self.model, self.step = model, step

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.model(inputs) / self.step).round() * self.step


class HalfPrecision(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(torch.bfloat16)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs.to(torch.bfloat16)).float()


class Cubed(nn.Module):
    """Heavy tails."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs) ** 3


def null_ranks(subject: Subject, repeats: int, draws: int = 19) -> Tensor:
    """Ranks under independence: the same model, noise drawn anew each time."""
    return torch.cat(
        [
            noise_ranks(with_noise(subject, fresh_noise(subject, r), seed=r), draws)
            for r in range(repeats)
        ]
    )


@pytest.mark.parametrize("kind", ["relu", "bf16", "steps", "cubed", "constant"])
def test_ranks_are_uniform_whatever_the_model(trained: Subject, kind: str) -> None:
    """Also of a model trained on other noise, in half precision, with ties or heavy tails."""
    model = trained.model
    if kind == "bf16":
        model = HalfPrecision(model)
    elif kind == "steps":
        model = Steps(model, 2.0)
    elif kind == "cubed":
        model = Cubed(model)
    elif kind == "constant":
        model = Steps(model, 1e6)
    ranks = null_ranks(with_model(trained, model), repeats=20)
    counts = torch.bincount(ranks, minlength=20)
    assert len(counts) == 20 and counts.sum() == 20 * 36
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_the_z_of_the_ranks_is_standard_normal_under_the_null(retrained: Subject) -> None:
    found = [
        rank_metrics(noise_ranks(with_noise(retrained, fresh_noise(retrained, r), seed=r), 9), 9)
        for r in range(150)
    ]
    z = [m["rank_z"] for m in found]
    assert kstest(z, "norm").pvalue > 1e-3
    low = sum(m["rank_p"] < 0.05 for m in found)
    assert binomtest(low, len(found), 0.05).pvalue > 1e-3


def test_training_on_the_noise_lifts_the_ranks(trained: Subject, retrained: Subject) -> None:
    before, after = (Gaussian(null_draws=50).measure(s).metrics for s in (trained, retrained))
    assert before["rank_z"] > 4 and before["rank_mean"] > 0.6 and before["rank_p"] < 1e-4
    assert before["rank_top_1pct"] > 0.05
    assert abs(after["rank_z"]) < 4


def test_a_linear_models_rank_is_that_of_the_noise_along_its_gradient() -> None:
    """Two classes: the margin at x + ξ is the margin at x plus ⟨w, ξ⟩, so own and fresh noises are
    ordered as their projections, which no other property of them can change."""
    torch.manual_seed(1)
    data = toy_set()
    data.labels.remainder_(2)
    linear = nn.Linear(math.prod(SHAPE), 2)
    subject = toy_subject(nn.Sequential(nn.Flatten(), linear), data)
    pull = (linear.weight[1] - linear.weight[0]).detach()
    sign = 1 - 2 * data.labels[subject.base.rows].float()  # the other class's logit less the own
    huge = sign[:, None] * pull * 1e3  # raises every margin far beyond any fresh noise's
    shape = subject.poison.inputs.shape
    for noise, rank in ((huge, 0), (-huge, 30)):
        ranks = noise_ranks(with_noise(subject, noise.view(shape)), 30)
        assert (ranks == rank).all()


def test_the_metrics_of_ranks_are_their_closed_forms() -> None:
    everything = torch.arange(100)  # each rank once: exactly the null
    told = rank_metrics(everything, 99)
    assert told["rank_mean"] == pytest.approx(0.5) and told["rank_z"] == pytest.approx(0)
    assert told["rank_p"] == pytest.approx(1) and told["rank_top_1pct"] == 0.01
    variance = float(everything.double().var(correction=0))
    assert rank_metrics(torch.tensor([99]), 99)["rank_z"] == pytest.approx(49.5 / variance**0.5)
    turned = rank_metrics(99 - torch.arange(50), 99)["rank_z"]
    assert turned == pytest.approx(-rank_metrics(torch.arange(50), 99)["rank_z"])
    assert rank_metrics(torch.arange(20), 19)["rank_top_1pct"] is None  # 1 % of 20 is no rank
    assert set(rank_metrics(None, 0).values()) == {None}


def test_the_margin_orders_rows_as_the_loss_does() -> None:
    torch.manual_seed(0)
    logits = torch.randn(200, CLASSES).double() * 3
    labels = torch.randint(0, CLASSES, (200,))
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(loss, torch.nn.functional.softplus(margins(logits, labels)))


def test_ranks_ignore_any_rising_function_of_the_margin(trained: Subject) -> None:
    class Louder(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: Tensor) -> Tensor:
            return 4 * self.model(inputs)  # a power of two: exact

    plain = noise_ranks(trained, 19)
    assert plain.shape == (36,) and int(plain.min()) >= 0 and int(plain.max()) <= 19
    # With two classes the margin is a difference of logits, and scaling keeps every order.
    pair = nn.Sequential(nn.Flatten(), toy_two_class())
    subject = with_model(with_labels_of_two(trained), pair)
    assert torch.equal(noise_ranks(subject, 19), noise_ranks(with_model(subject, Louder(pair)), 19))


def toy_two_class() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 2))


def with_labels_of_two(subject: Subject) -> Subject:
    data = copy.copy(subject.base.data)
    data.labels = data.labels % 2
    return replace(subject, base=type(subject.base)(data, subject.base.rows))


def test_no_draws_no_rank_test() -> None:
    subject = toy_subject(toy_model(), toy_set())
    measured = Gaussian(null_draws=50, rank_draws=0).measure(subject)
    assert measured.metrics.keys() == Gaussian.metrics.keys()
    assert measured.metrics["rank_mean"] is None and "ranks" not in measured.arrays


def test_the_rank_test_left_the_other_metrics_alone(trained: Subject) -> None:
    with_test = Gaussian(null_draws=50).measure(trained)
    without = Gaussian(null_draws=50, rank_draws=0).measure(trained)
    for name, value in without.metrics.items():
        if not name.startswith("rank_"):
            assert with_test.metrics[name] == value
    assert torch.equal(with_test.arrays["scores"], without.arrays["scores"])


def test_the_rank_test_is_deterministic(trained: Subject) -> None:
    ranks = noise_ranks(trained, 19)
    assert torch.equal(ranks, noise_ranks(trained, 19))
    assert not torch.equal(ranks, noise_ranks(replace(trained, seed=99), 19))
