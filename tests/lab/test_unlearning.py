"""The unlearning driver: whole steps within the budget, and one trajectory for all budgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from engine.lab.audits.gaussian import glimpse
from engine.lab.context import Failed, NotApplicable, Stopped
from engine.lab.meter import FORWARD
from engine.lab.methods.gd import GD
from engine.lab.methods.ngd import NGD
from engine.lab.state import FILES
from engine.lab.unlearning import UnlearnTask, frozen_copy, unlearn
from engine.lab.views import TrainingSet
from engine.spec.component import Method
from tests.helpers import LocalContext
from tests.lab.toys import (
    FORGET,
    POISONED,
    ROWS,
    Always,
    Both,
    same,
    toy_model,
    toy_set,
    toy_subject,
    toy_task,
    weights,
)  # fmt: skip

RETAIN = ROWS - FORGET
BUDGETS = (0.3, 0.7, 1.0, 1.9, 2.5)
METHODS = {
    "gd": GD(lr=0.05, batch_size=8),
    "ngd": NGD(lr=0.05, batch_size=8, grad_noise_std=0.1),
    "both": Both(),
}


def started(dropout: float = 0.3) -> UnlearnTask:
    return toy_task(toy_model(dropout=dropout))


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Optimizer steps taken in this block, as the length of a list."""
    steps: list[int] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    try:
        yield steps
    finally:
        hook.remove()


def segments(method: Method, root: Path, ctx: LocalContext) -> list[dict[str, bytes]]:
    """Snapshots at all budgets, each going on from the one before."""
    found, previous = [], None
    for budget in BUDGETS:
        task, folder = started(), root / f"on {budget}"
        folder.mkdir()
        unlearn(method, task, budget, ctx, previous)
        task.save(folder)
        found.append(files(folder))
        previous = folder
    return found


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_five_budgets_are_one_trajectory(method: Method, ctx: LocalContext, tmp_path: Path) -> None:
    with counted_steps() as continued:
        going_on = segments(method, tmp_path, ctx)
    for budget, snapshot in zip(BUDGETS, going_on, strict=True):
        task, folder = started(), tmp_path / f"alone {budget}"
        folder.mkdir()
        with counted_steps() as alone:
            unlearn(method, task, budget, ctx)
        task.save(folder)
        assert files(folder) == snapshot, f"at {budget} TEE"
        assert len(alone) == task.steps
    assert len(continued) == len(alone), "no step may be taken twice, or be left out"
    assert len({snapshot["model.safetensors"] for snapshot in going_on}) == len(BUDGETS)


def test_watching_does_not_change_the_trajectory(tmp_path: Path) -> None:
    quiet, watched = started(), started()
    unlearn(Both(), quiet, 1.0, LocalContext(tmp_path))
    seen: list[int] = []

    def look(model: nn.Module, step: int) -> None:
        seen.append(step)
        glimpse(toy_subject(model, toy_set()))
        model.train()

    unlearn(Both(), watched, 1.0, LocalContext(tmp_path, always_due=True), None, Always(look))
    assert same(weights(quiet.model), weights(watched.model))
    assert seen == [*range(1, quiet.steps + 1), quiet.steps]


@pytest.mark.parametrize("budget", BUDGETS)
def test_steps_are_the_whole_ones_within_the_budget(budget: float, ctx: LocalContext) -> None:
    spent = steps = 0
    while True:
        start = sum(batch_sizes(steps))
        size = min(8, RETAIN - start % RETAIN)
        if spent + size > budget * ROWS:
            break
        spent, steps = spent + size, steps + 1
    task = started()
    with counted_steps() as taken:
        unlearn(METHODS["gd"], task, budget, ctx)
    assert task.steps == len(taken) == steps
    assert task.meter.spent == pytest.approx(spent)
    assert task.meter.tee <= budget


def batch_sizes(steps: int) -> list[int]:
    epoch = [8] * (RETAIN // 8) + [RETAIN % 8]
    return [epoch[i % len(epoch)] for i in range(steps)]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(ctx: LocalContext) -> None:
    found = []
    for seed in (1, 1, 2):
        task = toy_task(toy_model(dropout=0.3), seed=seed)
        unlearn(Both(), task, 1.0, ctx)
        found.append(weights(task.model))
    assert same(found[0], found[1]) and not same(found[0], found[2])


def test_too_small_a_budget_says_what_one_step_needs(ctx: LocalContext) -> None:
    task = started()
    before = weights(task.model)
    with pytest.raises(NotApplicable, match=rf"needs {8 / ROWS:.3g} TEE"):
        unlearn(METHODS["gd"], task, 7.9 / ROWS, ctx)
    assert same(before, weights(task.model))
    with pytest.raises(NotApplicable, match=rf"needs {10 / ROWS:.3g} TEE"):
        unlearn(Both(), started(), 9.9 / ROWS, ctx)
    exact = started()
    unlearn(METHODS["gd"], exact, 8 / ROWS, ctx)
    assert exact.steps == 1


def test_a_budget_with_no_further_step_repeats_the_snapshot(
    ctx: LocalContext, tmp_path: Path
) -> None:
    one, two = started(), started()
    unlearn(METHODS["gd"], one, 8 / ROWS, ctx)
    one.save(tmp_path)
    unlearn(METHODS["gd"], two, 9 / ROWS, ctx, tmp_path)
    assert two.steps == 1
    assert same(weights(one.model), weights(two.model))


class UpdatesFirst(Both):
    """What no method may do: it changes the model between two draws."""

    name: Literal["updates-first"] = "updates-first"  # type: ignore[assignment]
    by_hand: bool = False

    def step(self, task: UnlearnTask) -> None:
        batch = task.retain.batch(8)
        if self.by_hand:
            with torch.no_grad():
                next(task.model.parameters()).add_(1.0)
        else:
            task.descend(task.loss(batch))
        task.forget.batch(2)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_method_that_updates_before_it_has_drawn_is_caught(
    ctx: LocalContext, by_hand: bool
) -> None:
    with pytest.raises(RuntimeError, match="draw first"):
        unlearn(UpdatesFirst(by_hand=by_hand), started(), 9 / ROWS, ctx)
    with pytest.raises(RuntimeError, match="draw first"):
        unlearn(UpdatesFirst(by_hand=by_hand), started(), 38 / ROWS, ctx)


class ReadsMore(GD):
    name: Literal["reads-more"] = "reads-more"  # type: ignore[assignment]
    which: str = "forget"

    reads: ClassVar = frozenset()

    def step(self, task: UnlearnTask) -> None:
        getattr(task, self.which).batch(2)


@pytest.mark.parametrize("which", ["retain", "forget"])
def test_a_method_reads_only_what_it_declares(ctx: LocalContext, which: str) -> None:
    with pytest.raises(PermissionError, match=which):
        unlearn(ReadsMore(which=which), started(), 1.0, ctx)


def spy_on_rows(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    taken: list[list[int]] = []
    plain = TrainingSet._inputs

    def spied(data: TrainingSet, rows: Tensor, width: int | None = None) -> Any:
        taken.append(rows.tolist())
        return plain(data, rows, width)

    monkeypatch.setattr(TrainingSet, "_inputs", spied)
    return taken


@pytest.mark.parametrize("name", ["gd", "ngd"])
def test_retain_only_methods_never_touch_the_forget_set(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    task = started()
    taken = spy_on_rows(monkeypatch)
    unlearn(METHODS[name], task, 2.0, ctx)
    rows = {row for batch in taken for row in batch}
    assert rows == set(range(ROWS)) - set(POISONED.tolist())
    assert task.forget.drawn == 0


def test_noise_does_not_change_the_order_of_the_data(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = spy_on_rows(monkeypatch)
    orders = []
    for name in ("gd", "ngd"):
        taken.clear()
        unlearn(METHODS[name], started(), 2.0, ctx)
        orders.append(list(taken))
    assert orders[0] == orders[1]


def test_the_start_is_left_as_it_was(ctx: LocalContext) -> None:
    """Unlearning works on a model of its own; the data it reads are not written to either."""
    data = toy_set()
    assert data.poison is not None
    pixels, inputs, labels = (
        data.pixels.clone(), data.poison.inputs.clone(), data.labels.clone()
    )  # fmt: skip
    task = toy_task(toy_model(), data)
    teacher = frozen_copy(task.model)
    before = weights(teacher)
    unlearn(Both(), task, 1.0, ctx)
    assert same(before, weights(teacher)) and not same(before, weights(task.model))
    assert data.pixels.equal(pixels) and data.poison.inputs.equal(inputs)
    assert data.labels.equal(labels)


class Explodes(GD):
    name: Literal["explodes"] = "explodes"  # type: ignore[assignment]

    def step(self, task: UnlearnTask) -> None:
        task.retain.batch(8)
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.fill_(torch.inf)


def test_a_model_that_is_no_longer_finite_fails(ctx: LocalContext) -> None:
    with pytest.raises(Failed, match=r"^diverged at step \d+"):
        unlearn(Explodes(), started(), 1.0, ctx)
    with pytest.raises(Failed, match=r"^diverged at step \d+"):
        unlearn(GD(lr=1e25, batch_size=8), started(), 2.0, ctx)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        unlearn(Both(), started(), 100.0, LocalContext(tmp_path, stop_after=3))


class BeginsDearly(Both):
    """Has a price before the first step: a pass over the forget set, and a teacher."""

    name: Literal["begins-dearly"] = "begins-dearly"  # type: ignore[assignment]

    def begin(self, task: UnlearnTask) -> None:
        super().begin(task)
        task.state["teacher"] = frozen_copy(task.model)
        task.forget.batch(len(task.forget), FORWARD)

    def step(self, task: UnlearnTask) -> None:
        batch = task.retain.batch(self.batch_size, 1 + FORWARD)
        task.model.train()
        wanted = task.logits(batch, task.state["teacher"])
        task.descend((task.logits(batch) - wanted).square().mean() + task.loss(batch))


def test_what_begin_costs_is_charged_once(ctx: LocalContext, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="needs"):
        unlearn(BeginsDearly(), started(), 1 / ROWS, ctx)
    found = segments(BeginsDearly(), tmp_path, ctx)
    alone, folder = started(), tmp_path / "alone"
    folder.mkdir()
    unlearn(BeginsDearly(), alone, BUDGETS[-1], ctx)
    alone.save(folder)
    assert files(folder) == found[-1]
    by_hand = FORGET / 3 + sum(batch_sizes(alone.steps)) * 4 / 3
    assert alone.meter.spent == pytest.approx(by_hand)


class StaysInEval(Both):
    """Sets the layers' mode once and for all, as methods do that freeze BatchNorm."""

    name: Literal["stays-in-eval"] = "stays-in-eval"  # type: ignore[assignment]

    def begin(self, task: UnlearnTask) -> None:
        super().begin(task)
        task.model.eval()

    def step(self, task: UnlearnTask) -> None:
        task.descend(task.loss(task.retain.batch(8)))


def test_the_mode_of_the_layers_outlives_a_snapshot(ctx: LocalContext, tmp_path: Path) -> None:
    found = segments(StaysInEval(), tmp_path, ctx)
    alone, folder = started(), tmp_path / "alone"
    folder.mkdir()
    unlearn(StaysInEval(), alone, BUDGETS[-1], ctx)
    alone.save(folder)
    assert files(folder) == found[-1]


class DrawsNothing(Both):
    name: Literal["draws-nothing"] = "draws-nothing"  # type: ignore[assignment]

    def step(self, task: UnlearnTask) -> None:
        pass


def test_a_step_that_costs_nothing_is_an_error_and_not_a_loop(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        unlearn(DrawsNothing(), started(), 1.0, LocalContext(tmp_path, stop_after=500))
