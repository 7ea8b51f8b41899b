"""Bad teacher: the right divergence, the right modes, teachers that stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.lab.methods.bad_teacher import BadTeacher
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    NETWORKS,
    RETAINED,
    Spy,
    check_network,
    check_trajectory,
    check_usual,
    double,
    ended,
    of_network,
    toy,
)
from tests.lab.toys import POISONED, ROWS, same, toy_model, toy_set, weights

SMALL = BadTeacher(lr=1e-3, batch_size=4)


def test_the_usual(ctx: LocalContext) -> None:
    check_usual(SMALL, ctx)


def test_without_a_forget_set_there_is_nothing_to_descend() -> None:
    task = toy()
    SMALL.begin(task)
    task.train_mode()
    batch = toy_set().take(RETAINED)
    SMALL.divergence(task, batch, task.state["competent"]).backward()  # type: ignore[no-untyped-call]
    assert all(float(p.grad.norm()) < 1e-6 for p in task.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_from_its_formula_in_float64(temperature: float) -> None:
    """Σ_y p log(p/q), mean over rows only: not over rows × classes."""
    task = toy()
    method = BadTeacher(temperature=temperature)
    method.begin(task)
    batch = toy_set().take(POISONED)
    teacher, student = (
        double(net)(batch.inputs.double()) / temperature
        for net in (task.state["ignorant"], task.model)
    )
    p, q = teacher.softmax(1), student.softmax(1)
    expected = float((p * (p.log() - q.log())).sum(1).mean().detach())
    found = float(method.divergence(task, batch, task.state["ignorant"]).detach())
    assert found == pytest.approx(expected, abs=1e-6) and expected > 1e-3


def test_the_first_step_is_adam_on_that_divergence(ctx: LocalContext) -> None:
    """Adam's first step moves every weight by lr, against the sign of its gradient."""
    method = BadTeacher(lr=1e-3, retain_share=0.0, batch_size=64)
    task = ended(method, toy(), ctx, budget=5 * 4 / 3 / ROWS)
    assert task.steps == 1
    other = toy()
    method.begin(other)
    method.divergence(other, toy_set().take(POISONED), other.state["ignorant"]).backward()  # type: ignore[no-untyped-call]
    for now, was in zip(task.model.parameters(), other.model.parameters(), strict=True):
        assert was.grad is not None
        clear = was.grad.abs() > 1e-4
        torch.testing.assert_close(
            (now - was)[clear], -1e-3 * was.grad[clear].sign(), rtol=1e-2, atol=1e-6
        )


def test_teachers_stay_as_they_are(ctx: LocalContext) -> None:
    task = ended(SMALL, toy(), ctx)
    assert same(weights(task.state["competent"]), weights(toy_model()))
    assert same(weights(task.state["ignorant"]), weights(toy_model(seed=99)))
    teachers = [task.state["competent"], task.state["ignorant"]]
    assert not any(net.training or p.requires_grad for net in teachers for p in net.parameters())


def test_the_forget_set_learns_ignorance(ctx: LocalContext) -> None:
    task = toy()
    batch = toy_set().take(POISONED)
    ended(BadTeacher(lr=1e-3, batch_size=4), task, ctx, budget=6.0)
    fresh = toy()
    SMALL.begin(fresh)
    before = SMALL.divergence(fresh, batch, fresh.state["ignorant"])
    after = SMALL.divergence(task, batch, fresh.state["ignorant"])
    assert after.item() < 0.7 * before.item()


def test_steps_are_spread_and_in_proportion(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11 batches of R: 30 % are 4 steps; F has 2: six steps a round, of 4 + 4 + 4 + 4 + 4 + 1 rows."""
    task = toy()
    turns = []
    for step in range(12):
        task.steps = step
        turns.append(SMALL.forget_turn(task))
    assert turns == 2 * [False, False, True, False, False, True]
    spy = Spy(monkeypatch)
    spent = ended(SMALL, toy(), ctx, budget=21 * 4 / 3 / ROWS).meter.spent
    assert spent == pytest.approx(21 * 4 / 3)
    forgotten = [row for row in spy.rows if row in POISONED.tolist()]
    assert len(spy.rows) == 21 and sorted(forgotten) == POISONED.tolist()
    short = ended(SMALL, toy(), ctx, budget=20.9 * 4 / 3 / ROWS)
    assert short.steps == 5


@pytest.mark.parametrize("batchnorm", ["frozen", "update"])
def test_modes_are_set_for_every_step(batchnorm: str) -> None:
    """Statistics follow retain steps, and forget steps only if asked; the student trains."""
    task = of_network(NETWORKS["cnn-small"])
    method = BadTeacher(batch_size=4, batchnorm=batchnorm)
    method.begin(task)
    task.model.eval()  # whatever it was before
    seen = set()
    for _ in range(12):
        turn = method.forget_turn(task)
        before = {key: value.clone() for key, value in task.model.named_buffers()}
        method.step(task)
        task.settle()
        task.steps += 1
        stayed = same(before, dict(task.model.named_buffers()))
        assert stayed == (turn and batchnorm == "frozen")
        norms = [m for m in task.model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert task.model.training and all(m.training != stayed for m in norms)
        seen.add(turn)
    assert seen == {True, False}


def test_budgets_are_one_trajectory(ctx: LocalContext, tmp_path: Path) -> None:
    check_trajectory(SMALL, ctx, tmp_path)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_every_network(name: str, ctx: LocalContext) -> None:
    check_network(BadTeacher(batch_size=16), name, ctx, buffers_stay=False)
