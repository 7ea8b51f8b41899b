"""UNSC: what retained rows show to a layer, the layer answers as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.lab.context import NotApplicable
from engine.lab.methods._nullspace import basis, columns, layer_inputs
from engine.lab.methods.unsc import UNSC
from engine.lab.unlearning import UnlearnTask
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    NETWORKS,
    RETAINED,
    Spy,
    check_network,
    check_trajectory,
    check_usual,
    ended,
    of_network,
    toy,
)
from tests.lab.toys import FORGET, POISONED, ROWS, same, toy_model, toy_set, weights

SMALL = UNSC(lr=0.1, batch_size=2, energy=0.95)


def bases(task: UnlearnTask) -> dict[str, Tensor]:
    return {k.removeprefix("basis/"): v for k, v in task.state.items() if k.startswith("basis/")}


def test_the_usual(ctx: LocalContext) -> None:
    check_usual(SMALL, ctx)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_answers_its_basis_as_before(
    name: str, momentum: float, ctx: LocalContext
) -> None:
    method = UNSC(lr=0.05, momentum=momentum, batch_size=4, energy=0.9, epochs=8)
    task = of_network(NETWORKS[name])
    before = weights(task.model)
    ended(method, task, ctx)
    after = weights(task.model)
    moved = 0
    for layer, directions in bases(task).items():
        was, now = before[layer].flatten(1), after[layer].flatten(1)
        torch.testing.assert_close(now @ directions, was @ directions, rtol=0, atol=1e-5)
        moved += float((now - was).abs().max()) > 1e-3
    assert moved >= 2
    assert task.forget.drawn == 8 * len(task.forget)


def test_through_shortcuts_the_output_for_retained_rows_stays(ctx: LocalContext) -> None:
    """All of the energy of four rows: these four keep their logits, forget rows do not."""
    task = of_network(NETWORKS["resnet18"])
    sample = next(iter(task.retain.every(4, price=0.0, limit=4)))
    forgotten = next(iter(task.forget.every(8, price=0.0)))

    def logits() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            model = task.model.eval()
            return model(sample.inputs), model(forgotten.inputs)

    kept, lost = logits()
    ended(UNSC(lr=0.1, energy=1.0, basis_rows=4, patches=10**6), task, ctx)
    kept_after, lost_after = logits()
    torch.testing.assert_close(kept_after, kept, rtol=0, atol=2e-4)
    assert (lost_after - lost).abs().max() > 0.05


def test_a_layer_whose_inputs_are_all_taken_never_moves(ctx: LocalContext) -> None:
    """43 rows span the 36 pixels but not the 64 hidden units."""
    task = toy(toy_model(width=64))
    ended(UNSC(lr=0.5, energy=1.0), task, ctx)
    first, last = weights(toy_model(width=64)), weights(task.model)
    assert bases(task)["1.weight"].shape == (36, 36)
    moved = [key for key in first if not torch.equal(first[key], last[key])]
    assert moved == ["3.weight"]
    with pytest.raises(NotApplicable, match="nothing may move"):
        ended(UNSC(energy=1.0), toy(nn.Sequential(nn.Flatten(), nn.Linear(36, 3))), ctx)


@pytest.mark.parametrize("name", ["cnn-small", "resnet18", "vit-tiny"])
def test_vectors_buffers_and_projections_stay(name: str, ctx: LocalContext) -> None:
    """Even where an earlier training left gradients behind."""
    task = of_network(NETWORKS[name])
    before = weights(task.model)
    for parameter in task.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    ended(UNSC(lr=0.1, batch_size=4, energy=0.9), task, ctx)
    after = weights(task.model)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and moved <= bases(task).keys()
    assert not [key for key in moved if before[key].ndim == 1 or "attention" in key]


def test_labels_are_the_best_other_class() -> None:
    task = toy()
    SMALL.begin(task)
    with torch.no_grad():
        for p in task.model.parameters():
            p.mul_(-1)  # the poisoned model is asked, not the one under way
    batch = toy_set().take(POISONED)
    order = toy_model()(batch.inputs).argsort(1, descending=True).tolist()
    best = [
        next(y for y in row if y != own)
        for row, own in zip(order, batch.labels.tolist(), strict=True)
    ]
    assert SMALL.pseudo_labels(task, batch).tolist() == best


def test_bases_come_from_r_and_steps_from_f(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    task = toy()
    SMALL.begin(task)
    assert sorted(spy.rows) == RETAINED.tolist()
    spy.rows.clear()
    for _ in range(6):
        SMALL.step(task)
        task.settle()
        task.steps += 1
    assert sorted(spy.rows) == sorted(2 * POISONED.tolist())
    assert task.retain.drawn == 0


def test_the_meter_agrees_with_a_hand_count(ctx: LocalContext) -> None:
    costs = [43 / 3, 2 * 4 / 3, 2 * 4 / 3, 1 * 4 / 3]
    task = ended(SMALL, toy(), ctx, budget=sum(costs) / ROWS)
    assert task.steps == 3 and task.meter.spent == pytest.approx(sum(costs))
    assert ended(SMALL, toy(), ctx, budget=(sum(costs) - 0.1) / ROWS).steps == 2
    few = ended(UNSC(basis_rows=6, epochs=2), toy(), ctx, budget=3.0)
    assert few.meter.spent == pytest.approx(6 / 3 + 2 * FORGET * 4 / 3) and few.steps == 2
    with pytest.raises(NotApplicable, match="needs"):
        ended(SMALL, toy(), ctx, budget=40 / 3 / ROWS)


@pytest.mark.parametrize(("m", "d"), [(9, 30), (30, 9)])
def test_a_basis_is_the_smallest_that_holds_the_energy(m: int, d: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(m, d, generator=generator) * torch.logspace(0, -2, d)
    total = float(inputs.square().sum())
    sizes = []
    for energy in (0.5, 0.9, 0.99, 1.0):
        directions = basis(inputs, energy)
        k = directions.shape[1]
        torch.testing.assert_close(directions.T @ directions, torch.eye(k), rtol=0, atol=1e-6)
        values = torch.linalg.svdvals(inputs.double()).square()
        assert float((inputs @ directions).square().sum()) >= (energy - 1e-6) * total
        assert energy == 1.0 or float(values[: k - 1].sum()) < energy * total
        sizes.append(k)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == min(m, d)


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "stride": 2, "padding": (1, 0)},
    "dilated": {"kernel_size": (3, 2), "dilation": 2},
    "same": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
}


@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_patches_are_what_a_convolution_multiplies(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, bias=False, **settings)
    inputs = torch.rand(2, 3, 9, 8)
    by_hand = columns(layer, inputs) @ layer.weight.flatten(1).T
    out = layer(inputs).permute(0, 2, 3, 1).reshape(-1, 5)
    torch.testing.assert_close(by_hand, out)


def test_inputs_are_recorded_where_layers_are_called() -> None:
    """Every class and every batch has its part, at most `patches` in all or so."""
    task = of_network(NETWORKS["cnn-small"])
    batches = task.retain.every(16, price=0.0)
    seen = layer_inputs(task.model, batches, 52, 100, torch.Generator().manual_seed(0))
    assert {name: tuple(found.shape) for name, found in seen.items()} == {
        "1.weight": (101, 27), "5.weight": (101, 36), "9.weight": (101, 72), "15.weight": (52, 64)
    }  # fmt: skip


def test_budgets_are_one_trajectory(ctx: LocalContext, tmp_path: Path) -> None:
    check_trajectory(UNSC(lr=0.1, momentum=0.9, batch_size=3), ctx, tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_every_network(name: str, ctx: LocalContext) -> None:
    task = check_network(UNSC(lr=0.1), name, ctx)
    start = of_network(NETWORKS[name]).model
    assert same(weights(task.state["start"]), weights(start))
