"""Influence unlearning against dense algebra in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from engine.lab.methods.influence import Influence, inverse_product
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    NETWORKS,
    RETAINED,
    Spy,
    check_network,
    check_usual,
    ended,
    row_gradients,
    toy,
)
from tests.lab.toys import FORGET, POISONED, ROWS, same, toy_model, toy_set, weights

RETAIN = len(RETAINED)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_the_usual(ctx: LocalContext) -> None:
    check_usual(Influence(), ctx)


def test_the_update_from_its_formula_in_float64(ctx: LocalContext) -> None:
    """θ + 0.7 (λI + GᵀG/n)⁻¹ v with all retained rows and a dense inverse."""
    method = Influence(scale=0.7, damping=0.2)
    task = ended(method, toy(), ctx)
    assert [int(task.state[f"rows/{k}"]) for k in ("forget", "curvature", "retain")] == [
        FORGET, RETAIN, RETAIN
    ]  # fmt: skip
    forget, retain = (
        torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        for rows in (row_gradients(toy_model(), toy_set(), r) for r in (POISONED, RETAINED))
    )
    v = FORGET / ROWS * (forget.mean(0) - retain.mean(0))
    ridge = 0.2 * retain.square().sum(1).mean()
    dense = retain.T @ retain / RETAIN + ridge * torch.eye(len(v), dtype=v.dtype)
    start = torch.cat([p.flatten() for p in toy_model().parameters()]).double()
    end = torch.cat([p.flatten() for p in task.model.parameters()]).double()
    step = 0.7 * torch.linalg.inv(dense) @ v
    assert step.abs().max() > 1e-3
    torch.testing.assert_close(end, start + step, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "size"), [(1, 7), (5, 40_000), (30, 12)])
def test_the_inverse_is_exact(n: int, size: int) -> None:
    rows, vector = random(n, size), random(size, seed=1)
    found = inverse_product(rows, vector, damping=0.05)
    ridge = 0.05 * rows.square().sum(1).mean()
    back = rows.T @ (rows @ found) / n + ridge * found
    torch.testing.assert_close(back, vector, rtol=1e-8, atol=1e-8)


def test_on_ridge_regression_the_estimate_is_retraining() -> None:
    """With the Hessian of the retained rows, scale 1 lands on the leave-out solution."""
    x, y = random(200, 6), random(200, seed=1)
    for count in (1, 5, 20):
        keep = x[count:]
        damping = 0.03
        ridge = damping * keep.square().sum(1).mean()

        def solve(x: torch.Tensor, y: torch.Tensor, ridge: torch.Tensor = ridge) -> torch.Tensor:
            hessian = x.T @ x / len(x) + ridge * torch.eye(6, dtype=x.dtype)
            return torch.linalg.solve(hessian, x.T @ y / len(x))

        theta = solve(x, y)
        grads = x * (x @ theta - y)[:, None]
        v = count / 200 * (grads[:count].mean(0) - grads[count:].mean(0))
        moved = theta + inverse_product(keep, v, damping)
        torch.testing.assert_close(moved, solve(keep, y[count:]), rtol=0, atol=1e-10)


def test_no_scale_is_no_change_and_no_curvature_is_no_step(ctx: LocalContext) -> None:
    assert same(weights(ended(Influence(scale=0.0), toy(), ctx).model), weights(toy_model()))
    assert (inverse_product(torch.zeros(3, 4), random(4), 0.1) == 0).all()


def test_the_sign_lets_go_of_the_forget_set(ctx: LocalContext) -> None:
    def gap(model: nn.Module) -> float:
        """How much larger the forget set's loss is."""
        losses = []
        for rows in (POISONED, RETAINED):
            batch = toy_set().take(rows)
            losses.append(cross_entropy(model.eval()(batch.inputs), batch.labels).item())
        return losses[0] - losses[1]

    assert gap(ended(Influence(scale=0.05), toy(), ctx).model) > gap(toy_model())


def test_the_meter_agrees_with_a_hand_count(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    whole = ended(Influence(curvature_rows=10), toy(), ctx)
    assert whole.meter.spent == pytest.approx(ROWS + 10)
    assert sorted(set(spy.rows)) == list(range(ROWS))
    small = ended(Influence(), toy(), ctx, budget=0.5)
    kept = [int(small.state[f"rows/{k}"]) for k in ("forget", "curvature", "retain")]
    assert kept == [5, 9, 10] and small.meter.spent == pytest.approx(24)
    assert small.steps == 1 and not Influence.continues


def test_memory_bounds_the_curvature_rows(ctx: LocalContext) -> None:
    size = sum(p.numel() for p in toy_model().parameters())
    task = ended(Influence(memory=7 * 4 * size / 1e9 + 1e-9), toy(), ctx)
    assert int(task.state["rows/curvature"]) == 7


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_every_network(name: str, ctx: LocalContext) -> None:
    check_network(Influence(), name, ctx)
