"""The meter: a hand count, and no step lost to thirds."""

from __future__ import annotations

import pytest

from engine.lab.meter import FORWARD, TRAIN, BudgetSpent, Meter, tail
from tests.lab.toys import FORGET, ROWS, toy_model, toy_task


def test_it_counts_what_a_hand_counts() -> None:
    task = toy_task(toy_model())
    retain = ROWS - FORGET
    by_hand = 0.0
    epoch = [8] * (retain // 8) + [retain % 8]
    for expected in epoch * 2 + epoch[:2]:  # ragged last batches included
        task.meter.limit = 100
        assert len(task.retain.batch(8).labels) == expected
        by_hand += expected
        task.settle()
    for expected in [2, 2, 1, 2]:
        assert len(task.forget.batch(2, FORWARD).labels) == expected
        by_hand += expected / 3
        task.settle()
    assert task.meter.spent == pytest.approx(by_hand, abs=1e-9)
    assert task.meter.tee == pytest.approx(by_hand / ROWS, abs=1e-12)


def test_an_epoch_visits_every_row_once() -> None:
    task = toy_task(toy_model())
    task.meter.limit = 100
    data, taken = task.retain._data, []
    plain = data.take
    data.take = lambda rows, *rest: taken.extend(rows.tolist()) or plain(rows, *rest)  # type: ignore
    for _ in range(2):
        taken.clear()
        while len(taken) < len(task.retain):
            task.retain.batch(8)
        assert sorted(taken) == sorted(task.retain._rows.tolist())


def test_a_refused_charge_costs_nothing() -> None:
    meter = Meter(rows=10, limit=1.0)
    meter.charge(8)
    meter.settle()
    with pytest.raises(BudgetSpent) as refused:
        meter.charge(3)
    assert refused.value.needed == pytest.approx(1.1)
    assert (meter.spent, meter.pending) == (8, 0)
    meter.charge(2)
    meter.settle()
    assert meter.tee == 1.0


def test_a_step_refused_halfway_costs_nothing_and_comes_again_identically() -> None:
    task = toy_task(toy_model())
    task.meter.limit = 9 / ROWS
    first = task.retain.batch(8)
    with pytest.raises(BudgetSpent):
        task.forget.batch(2)
    task.refund()
    assert (task.meter.spent, task.meter.pending) == (0, 0)
    assert (task.retain.drawn, task.forget.drawn) == (0, 0)
    task.meter.limit = 1.0
    again = task.retain.batch(8)
    assert again.inputs.equal(first.inputs) and again.labels.equal(first.labels)


@pytest.mark.parametrize("price", [FORWARD, 2 * FORWARD, TRAIN, tail(0.37), TRAIN + FORWARD])
@pytest.mark.parametrize(("rows", "batch"), [(48, 7), (3600, 128), (50_000, 512)])
def test_a_limit_of_exactly_k_steps_gives_k_steps(price: float, rows: int, batch: int) -> None:
    for k in (1, 3, 10, 333, 3000):
        meter = Meter(rows, limit=k * batch * price / rows)
        for _ in range(k):
            meter.charge(batch, price)
            meter.settle()
        with pytest.raises(BudgetSpent):
            meter.charge(1, FORWARD)


def test_the_price_of_a_tail() -> None:
    assert tail(0) == pytest.approx(FORWARD)
    assert tail(1) == pytest.approx(TRAIN)
    assert abs(FORWARD - 1 / 3) < 1e-15
