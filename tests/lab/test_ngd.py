"""Noisy gradient descent: fine-tuning when silent, a random walk of known width when the data are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.lab.methods.gd import GD
from engine.lab.methods.ngd import NGD
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.lab.views import Batch
from tests.helpers import LocalContext
from tests.lab.toys import ROWS, same, toy_model, toy_task, weights


def test_without_noise_it_is_gd_bit_for_bit(ctx: LocalContext) -> None:
    keys = {"lr": 0.05, "batch_size": 8}
    found = []
    for method in (GD(**keys), NGD(grad_noise_std=0.0, **keys), NGD(grad_noise_std=0.1, **keys)):
        task = toy_task(toy_model(dropout=0.3))
        unlearn(method, task, 2.0, ctx)
        found.append(weights(task.model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_with_no_gradient_the_weights_walk_at_random(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch, momentum: float
) -> None:
    """After k steps each weight has moved by N(0, k (lr·std)²), whatever the momentum."""

    def nothing(task: UnlearnTask, batch: Batch) -> Tensor:
        return sum((p * 0).sum() for p in task.model.parameters())  # type: ignore[return-value]

    monkeypatch.setattr(UnlearnTask, "loss", nothing)
    lr, std = 0.05, 0.4
    task = toy_task(toy_model(width=64))
    before = torch.cat([p.detach().flatten().double() for p in task.model.parameters()])
    method = NGD(lr=lr, grad_noise_std=std, momentum=momentum, weight_decay=0, batch_size=4)
    unlearn(method, task, 2.0, ctx)
    after = torch.cat([p.detach().flatten().double() for p in task.model.parameters()])
    moved = (after - before) / (task.steps**0.5 * lr * std)
    count = len(moved)
    assert task.steps == 24 and count > 2000
    # The sum of squares is chi-square with `count` degrees of freedom.
    assert abs(float((moved**2).sum()) - count) < 4 * (2 * count) ** 0.5
    assert abs(float(moved.mean())) < 4 / count**0.5


def test_noise_leaves_buffers_alone(ctx: LocalContext) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), toy_model())
    before = {key: value.clone() for key, value in model.named_buffers()}

    class Frozen(NGD):
        def step(self, task: UnlearnTask) -> None:
            super().step(task)
            task.model[0].eval()  # type: ignore[index]

    task = toy_task(model)
    unlearn(Frozen(lr=0.01, grad_noise_std=1.0, batch_size=8), task, 8 / ROWS, ctx)
    assert int(before["0.num_batches_tracked"]) + 1 == int(model[0].num_batches_tracked)
    inputs = toy_task(toy_model()).retain.batch(8).inputs  # the same first batch
    expected = 0.9 * before["0.running_mean"] + 0.1 * inputs.mean()
    assert torch.allclose(model[0].running_mean, expected, atol=1e-6)


def test_each_step_has_noise_of_its_own(ctx: LocalContext) -> None:
    task = toy_task(toy_model())
    draws = []
    for task.steps in (0, 1, 0):
        draws.append(torch.randn(8, generator=task.generator("ngd noise")))
    other = torch.randn(8, generator=task.generator("something else"))
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], other)


def test_one_step_of_gd_is_the_closed_form(ctx: LocalContext) -> None:
    task, by_hand = toy_task(toy_model()), toy_task(toy_model())
    unlearn(GD(lr=0.1, momentum=0.9, weight_decay=0.01, batch_size=8), task, 8 / ROWS, ctx)
    by_hand.loss(by_hand.retain.batch(8)).backward()
    for moved, start in zip(task.model.parameters(), by_hand.model.parameters(), strict=True):
        assert start.grad is not None
        expected = start - 0.1 * (start.grad + 0.01 * start)
        assert torch.allclose(moved, expected, atol=1e-7)
