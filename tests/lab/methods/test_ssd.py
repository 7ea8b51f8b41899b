"""SSD against its formula, and the invariants that popular ports of it break."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.lab.context import NotApplicable
from engine.lab.methods import _rows
from engine.lab.methods.ssd import SSD
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

EVERY = torch.arange(ROWS)


def importances(rows: Tensor) -> list[Tensor]:
    """Mean squared gradient of single rows, one tensor a parameter, float64."""
    grads = row_gradients(toy_model(), toy_set(), rows)
    return [torch.stack(column).square().mean(0) for column in zip(*grads, strict=True)]


def selected(selection: float) -> list[Tensor]:
    pairs = zip(importances(POISONED), importances(EVERY), strict=True)
    return [forget > selection * whole for forget, whole in pairs]


@pytest.mark.parametrize("method", [SSD(selection=1.0), SSD(selection=1.0, fisher="batch")])
def test_the_usual(method: SSD, ctx: LocalContext) -> None:
    check_usual(method, ctx)


@pytest.mark.parametrize("selection", [0.8, 1.3])
def test_the_update_from_its_formula_in_float64(selection: float, ctx: LocalContext) -> None:
    task = ended(SSD(selection=selection, dampening=0.6), toy(), ctx)
    start, moved = list(toy_model().parameters()), 0
    for theta, end, forget, whole in zip(
        start, task.model.parameters(), importances(POISONED), importances(EVERY), strict=True
    ):
        expected = theta.double().clone()
        for index in range(expected.numel()):
            f, d = float(forget.flatten()[index]), float(whole.flatten()[index])
            if f > selection * d:
                moved += 1
                expected.view(-1)[index] *= min(1.0, 0.6 * d / f)
        torch.testing.assert_close(end.double(), expected, rtol=0, atol=1e-6)
    assert 20 < moved < sum(p.numel() for p in start)


@pytest.mark.parametrize("change", [{"dampening": 1e30}, {"selection": 1e30}])
@pytest.mark.parametrize("fisher", ["per-sample", "batch"])
def test_without_bite_it_changes_nothing(
    change: dict[str, float], fisher: str, ctx: LocalContext
) -> None:
    settings: dict[str, Any] = {"selection": 1.0, "fisher": fisher} | change
    assert same(weights(ended(SSD(**settings), toy(), ctx).model), weights(toy_model()))


def test_no_weight_grows_and_zero_dampening_zeroes_just_the_selected(ctx: LocalContext) -> None:
    start = list(toy_model().parameters())
    soft = ended(SSD(selection=0.5, dampening=2.0), toy(), ctx).model
    hard = ended(SSD(selection=1.2, dampening=0.0), toy(), ctx).model
    for before, after in zip(start, soft.parameters(), strict=True):
        assert (after.abs() <= before.abs()).all()
    found = selected(1.2)
    assert sum(int(chosen.sum()) for chosen in found) > 20
    for before, after, chosen in zip(start, hard.parameters(), found, strict=True):
        assert (after[chosen] == 0).all() and torch.equal(after[~chosen], before[~chosen])


def test_equal_importances_select_nothing(ctx: LocalContext) -> None:
    """F = D: the ratio is 1 and the comparison strict."""
    task = toy(retain=RETAINED[:0], forget=POISONED)
    ended(SSD(selection=1.0, dampening=0.0), task, ctx)
    assert same(weights(task.model), weights(toy_model()))


def test_neither_batch_size_nor_order_matters(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = SSD(selection=1.0)
    plain = ended(method, toy(), ctx)
    shuffled = ended(method, toy(retain=RETAINED.flip(0), forget=POISONED.roll(2)), ctx)
    monkeypatch.setattr(_rows, "CHUNK", {"cpu": 1})
    single = ended(method, toy(), ctx)
    for other in (shuffled, single):
        for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_batches_of_one_are_single_rows_and_larger_ones_are_not(ctx: LocalContext) -> None:
    single = ended(SSD(selection=1.0), toy(), ctx)
    ones = ended(SSD(selection=1.0, fisher="batch", batch_size=1), toy(), ctx)
    fives = ended(SSD(selection=1.0, fisher="batch", batch_size=64), toy(), ctx)
    for a, b in zip(single.model.parameters(), ones.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    gaps = zip(single.model.parameters(), fives.model.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in gaps) > 1e-3


def test_a_batch_is_as_large_in_both_sets(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 rows in whole batches of 5 (the forget set's size): 45 rows, and 5 of the forget set."""
    from engine.lab.methods import ssd

    seen: list[tuple[int, int]] = []
    plain = ssd._batch_squares

    def spied(task: Any, batches: Any, size: int) -> Any:
        seen.append((sum(len(b.labels) for b in batches), size))
        return plain(task, batches, size)

    monkeypatch.setattr(ssd, "_batch_squares", spied)
    task = ended(SSD(fisher="batch"), toy(), ctx)
    assert seen == [(45, 5), (5, 5)]
    assert task.meter.spent == pytest.approx(50)


def test_the_meter_agrees_with_a_hand_count(ctx: LocalContext) -> None:
    whole = ended(SSD(), toy(), ctx, budget=1.0)
    assert whole.meter.spent == pytest.approx(ROWS) and whole.steps == 1
    half = ended(SSD(), toy(), ctx, budget=0.5)
    assert half.meter.spent == pytest.approx(24)
    assert int(half.state["rows/retain"]) == 24 - FORGET
    assert int(half.state["rows/forget"]) == FORGET
    tight = ended(SSD(), toy(), ctx, budget=6 / ROWS)
    assert [int(tight.state[f"rows/{name}"]) for name in ("retain", "forget")] == [3, 3]
    with pytest.raises(NotApplicable, match=f"needs {2 / ROWS:.3g} TEE"):
        ended(SSD(), toy(), ctx, budget=1 / ROWS)


def test_more_budget_than_needed_is_not_spent(ctx: LocalContext, monkeypatch: Any) -> None:
    spy = Spy(monkeypatch)
    one, two = (ended(SSD(selection=1.0), toy(), ctx, budget=b) for b in (1.0, 9.0))
    assert same(weights(one.model), weights(two.model)) and not SSD.continues
    assert sorted(spy.rows) == sorted(2 * list(range(ROWS)))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_every_network(name: str, ctx: LocalContext) -> None:
    check_network(SSD(selection=1.0), name, ctx)
