"""Newton removal: exact on ridge regression, exact on linear classifiers, elsewhere only the head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.context import NotApplicable
from engine.lab.methods import newton_head
from engine.lab.methods._head import (
    SoftmaxObjective,
    descend,
    head_of,
    head_weights,
    newton_step,
    set_head_weights,
)
from engine.lab.methods.newton_head import NewtonHead
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    NETWORKS,
    RETAINED,
    Spy,
    check_network,
    check_usual,
    ended,
    of_network,
    toy,
)
from tests.lab.toys import CLASSES, POISONED, ROWS, same, toy_model, toy_set, weights

L2 = 0.02
RECIPE = Train(precision="fp32", channels_last=False, weight_decay=L2)
EVERY = torch.arange(ROWS)


def optimum(rows: Tensor) -> Tensor:
    """The regularised softmax regression on these rows of the toy set, float64 [K, d]."""
    batch = toy_set().take(rows)
    features = torch.cat([batch.inputs.flatten(1), torch.ones(len(rows), 1)], dim=1).double()
    objective = SoftmaxObjective(features, batch.labels, 1.0, L2 * len(rows))
    theta = torch.zeros(CLASSES, features.shape[1], dtype=torch.float64)
    for _ in range(30):
        theta = descend(objective, theta)
    # The line search ends where rounding of the summed loss hides the descent.
    assert objective.gradient(theta).norm() < 1e-8 * max(10, len(rows))
    return theta


def linear_task(retain: Tensor = RETAINED) -> Any:
    """A linear classifier at the exact optimum of retained and poisoned rows of the toy set."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    set_head_weights(model[1], optimum(torch.cat([retain, POISONED])))
    return toy(model, recipe=RECIPE, retain=retain)


def test_the_usual(ctx: LocalContext) -> None:
    check_usual(NewtonHead(), ctx)


def test_on_ridge_regression_it_is_the_leave_out_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(80, generator=generator, dtype=torch.float64)

    def hessian(x: Tensor) -> Tensor:
        return x.T @ x + 0.3 * len(x) * torch.eye(5, dtype=x.dtype)

    theta = torch.linalg.solve(hessian(x), x.T @ y)
    forget = (x[:9] * (x[:9] @ theta - y[:9])[:, None] + 0.3 * theta).sum(0)
    moved = theta + newton_step(hessian(x[9:]), forget)
    exact = torch.linalg.solve(hessian(x[9:]), x[9:].T @ y[9:])
    torch.testing.assert_close(moved, exact, rtol=0, atol=1e-12)


def test_on_a_linear_classifier_steps_end_at_the_leave_out_optimum(ctx: LocalContext) -> None:
    start, exact = optimum(EVERY), optimum(RETAINED)
    one, many = (
        head_weights(ended(NewtonHead(newton_steps=k), linear_task(), ctx).model[1]) for k in (1, 9)
    )
    assert (many - exact).abs().max() < 1e-6
    assert (one - exact).norm() < 0.3 * (start - exact).norm()


def test_one_step_errs_by_the_square_of_what_is_forgotten(ctx: LocalContext) -> None:
    """The same forget set among twice the retained rows: about a quarter of the error."""
    errors = []
    for times in (8, 16, 32):
        retain = RETAINED.repeat(times)
        task = ended(NewtonHead(), linear_task(retain=retain), ctx)
        errors.append(float((head_weights(task.model[1]) - optimum(retain)).norm()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_gradient_and_hessian_are_those_of_the_value() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (9,), generator=generator)
    theta = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    objective = SoftmaxObjective(features, labels, scale=1.7, ridge=0.4)

    def value(theta: Tensor) -> Tensor:
        loss = cross_entropy(features @ theta.T, labels, reduction="sum")
        return 1.7 * loss + 0.2 * theta.square().sum()

    assert objective.value(theta) == pytest.approx(float(value(theta)))
    gradient = torch.func.grad(value)(theta)
    hessian = torch.func.hessian(value)(theta).reshape(12, 12)
    torch.testing.assert_close(objective.gradient(theta), gradient)
    torch.testing.assert_close(objective.hessian(theta), hessian)


def test_the_meter_agrees_with_a_hand_count(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head has 24 of the toy's 312 multiplications: a forward, and a thirteenth of the rest."""
    price = 1 / 3 + 1 / 13 * 2 / 3
    spy = Spy(monkeypatch)
    whole = ended(NewtonHead(), toy(), ctx)
    assert whole.meter.spent == pytest.approx(ROWS * price)
    assert set(spy.rows) == set(range(ROWS)) and len(spy.rows) <= ROWS + 2
    small = ended(NewtonHead(), toy(), ctx, budget=20.5 * price / ROWS)
    assert small.meter.spent == pytest.approx(20 * price)
    assert int(small.state["rows/retain"]) == 15 and small.steps == 1
    assert not NewtonHead.continues


@pytest.mark.parametrize("name", NETWORKS)
def test_on_every_network_only_the_head_moves(name: str, ctx: LocalContext) -> None:
    before = weights(of_network(NETWORKS[name]).model)
    task = check_network(NewtonHead(), name, ctx)
    head, _ = head_of(task.model, 3)
    moved = {key for key, value in weights(task.model).items() if not before[key].equal(value)}
    assert moved == {f"{head}.weight", f"{head}.bias"}


class Scaled(nn.Module):
    """Ends in something else than its last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = toy_model()

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * self.net(inputs)  # type: ignore[no-any-return]


def test_what_it_cannot_do_it_refuses(ctx: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotApplicable, match="singular"):
        ended(NewtonHead(l2=0.0), toy(), ctx)
    with pytest.raises(NotApplicable, match="logits"):
        ended(NewtonHead(), toy(Scaled()), ctx)
    with pytest.raises(NotApplicable, match="linear layer"):
        ended(NewtonHead(), toy(nn.Sequential(nn.Flatten(), nn.Linear(36, 5))), ctx)
    monkeypatch.setattr(newton_head, "LARGEST", 26)
    task = toy()
    with pytest.raises(NotApplicable, match="a head of 27 weights"):
        ended(NewtonHead(), task, ctx)
    assert same(weights(task.model), weights(toy_model())) and task.meter.spent == 0
