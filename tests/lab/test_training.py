"""The training loop: the same bits from the same seed, and a plain word when it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook

from engine.lab.audits.gaussian import glimpse
from engine.lab.context import Failed, Stopped
from engine.lab.training import accuracy, fit, lr_factor, predictions
from engine.lab.views import Rows, TrainingSet
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab.toys import CLASSES, ROWS, Always, same, toy_model, toy_set, toy_subject, weights

EVERYTHING = torch.arange(ROWS)
FIXED = {"epochs": 3, "batch_size": 10, "lr": 0.1, "precision": "fp32", "channels_last": False}


def recipe(**keys: object) -> Train:
    return Train.model_validate(FIXED | keys)


def trained(
    ctx: LocalContext, told: Train, seed: int = 0, model: nn.Module | None = None
) -> dict[str, Tensor]:
    model = model or toy_model(dropout=0.3)
    fit(model, toy_set(), EVERYTHING, told, seed, ctx)
    return weights(model)


def conv_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES)
    )


@pytest.mark.parametrize("keys", [{}, {"optimizer": "adamw", "lr": 0.01}, {"augment": "crop-flip"}])
def test_the_same_seed_gives_the_same_bits(ctx: LocalContext, keys: dict[str, object]) -> None:
    told = recipe(**keys)
    one, again, other = (trained(ctx, told, seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert not same(one, other)


def test_what_ran_before_in_the_process_does_not_matter(ctx: LocalContext) -> None:
    one = trained(ctx, recipe())
    model = toy_model(dropout=0.3)
    torch.manual_seed(999)
    torch.rand(17)
    assert same(one, trained(ctx, recipe(), model=model))


def test_every_step_drops_other_units(ctx: LocalContext) -> None:
    model = toy_model(dropout=0.5)
    masks: list[Tensor] = []
    model[3].register_forward_hook(lambda _, inputs, output: masks.append(output == 0))
    model[2].register_forward_hook(lambda *_: torch.ones(10, 8))
    fit(model, toy_set(), EVERYTHING[:40], recipe(), 0, ctx)
    assert len(masks) == 12
    assert not any(torch.equal(one, other) for one, other in pairwise(masks))


def test_watching_does_not_matter(tmp_path: Path) -> None:
    quiet = LocalContext(tmp_path)
    watched = LocalContext(tmp_path, always_due=True)
    seen: list[int] = []
    model = toy_model(dropout=0.3)
    fit(
        model,
        toy_set(),
        EVERYTHING,
        recipe(),
        0,
        watched,
        Always(lambda _, step: seen.append(step)),
    )
    assert same(trained(quiet, recipe()), weights(model))
    assert seen == [5, 10, 15]
    assert watched.steps[-1] == (15, 15) == quiet.steps[-1]
    assert len(watched.metrics) == 15


def test_augmentation_changes_training_but_the_seed_decides_it(ctx: LocalContext) -> None:
    plain, moved = trained(ctx, recipe()), trained(ctx, recipe(augment="crop-flip"))
    assert not same(plain, moved)


def mean_loss(model: nn.Module) -> float:
    logits, labels = predictions(model, Rows(toy_set(), EVERYTHING).batches())
    return float(cross_entropy(logits, labels))


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "lr": 0.01},
        {"precision": "bf16"},
        {"channels_last": True},
        {"schedule": "one-cycle"},
        {"schedule": "constant", "warmup": 0.2},
    ],
)
def test_every_option_learns(ctx: LocalContext, keys: dict[str, object]) -> None:
    model = conv_model()
    before = mean_loss(model)
    fit(model, toy_set(), EVERYTHING, recipe(epochs=8, **keys), 0, ctx)
    assert mean_loss(model) < 0.8 * before
    assert all(p.dtype == torch.float32 for p in model.parameters())
    losses = [value for name, _, value in ctx.metrics if name == "loss"]
    assert losses and all(math.isfinite(value) for value in losses)


def test_layout_is_only_layout(ctx: LocalContext) -> None:
    """channels_last reorders memory; sums may round otherwise, nothing more."""
    plain, last = conv_model(), conv_model()
    fit(plain, toy_set(), EVERYTHING, recipe(epochs=1), 0, ctx)
    fit(last, toy_set(), EVERYTHING, recipe(epochs=1, channels_last=True), 0, ctx)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, last.state_dict()[key], atol=1e-4), key


@pytest.mark.parametrize("keys", [{"lr": 1e20}, {"lr": 1e30, "momentum": 0}])
def test_divergence_is_told_in_one_line(ctx: LocalContext, keys: dict[str, object]) -> None:
    with pytest.raises(Failed, match=r"^diverged at step \d+: [^\n]*$"):
        trained(ctx, recipe(**keys))


def test_divergence_in_the_very_last_step_is_told_too(ctx: LocalContext) -> None:
    """The last loss was fine, but the weights it left are not: no result may be committed."""
    told = recipe(epochs=1, batch_size=ROWS, lr=3e38, schedule="constant", weight_decay=1e3)
    with pytest.raises(Failed, match=r"diverged at step 1\b"):
        trained(ctx, told)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(LocalContext(tmp_path, stop_after=4), recipe())


class Spy:
    """Replaces TrainingSet.take and records every row that was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[int]] = []
        plain = TrainingSet._inputs

        def spied(data: TrainingSet, rows: Tensor, width: int | None = None) -> object:
            self.batches.append(rows.tolist())
            return plain(data, rows, width)

        monkeypatch.setattr(TrainingSet, "_inputs", spied)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_every_epoch_takes_each_given_row_once_and_no_other(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    data, rows = toy_set(), torch.tensor([r for r in range(ROWS) if r % 10])
    spy = Spy(monkeypatch)
    fit(toy_model(), data, rows, recipe(augment=augment), 0, ctx)
    assert [len(b) for b in spy.batches] == [10, 10, 10, 10, 3] * 3
    epochs = [[row for batch in spy.batches[i : i + 5] for row in batch] for i in (0, 5, 10)]
    for epoch in epochs:
        assert sorted(epoch) == rows.tolist()
    assert epochs[0] != epochs[1] != epochs[2]


def test_poison_outside_the_given_rows_changes_nothing(ctx: LocalContext) -> None:
    """Training on rows without poison gives the same bits whether the set is poisoned or not."""
    retain = torch.tensor([r for r in range(ROWS) if r % 10])
    models = [toy_model(), toy_model()]
    for model, poisoned in zip(models, (True, False), strict=True):
        fit(model, toy_set(poisoned), retain, recipe(), 0, ctx)
    assert same(weights(models[0]), weights(models[1]))


schedules = st.sampled_from(["constant", "cosine", "one-cycle"])


@given(schedules, st.floats(0, 0.95), st.integers(1, 400))
def test_the_rate_is_a_share_of_the_peak(schedule: str, warmup: float, total: int) -> None:
    told = recipe(schedule=schedule, warmup=warmup)
    factors = [lr_factor(told, step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    share = max(warmup, 0.3) if schedule == "one-cycle" else warmup
    rise = math.ceil(share * total)
    assert all(a < b for a, b in pairwise(factors[:rise]))
    assert rise == 0 or factors[rise - 1] == 1
    after = factors[rise:]
    if schedule == "constant":
        assert set(after) <= {1.0}
    else:
        assert all(a > b for a, b in pairwise(after))
        assert not after or after[0] == 1


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_falling_schedules_end_near_zero(schedule: str) -> None:
    assert lr_factor(recipe(schedule=schedule), 999, 1000) < 1e-3


def test_the_rate_reaches_the_optimizer(ctx: LocalContext) -> None:
    rates: list[float] = []
    handle = register_optimizer_step_post_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    try:
        trained(ctx, recipe(schedule="cosine", warmup=0.2))
    finally:
        handle.remove()
    told = recipe(schedule="cosine", warmup=0.2)
    assert rates == [0.1 * lr_factor(told, step, 15) for step in range(15)]


def test_accuracy_is_counted_in_eval_mode() -> None:
    model = toy_model(dropout=0.9).train()
    batches = [toy_set().take(rows) for rows in EVERYTHING.split(7)]
    one, again = accuracy(model, batches), accuracy(model, batches)
    assert one == again
    assert model.training
    model.eval()
    by_hand = sum(
        int(model(b.inputs[i : i + 1]).argmax() == b.labels[i])
        for b in batches
        for i in range(len(b.labels))
    )
    assert one == pytest.approx(by_hand / ROWS)


def predict(model: nn.Module) -> None:
    predictions(model, Rows(toy_set(), EVERYTHING).batches())


def glance(model: nn.Module) -> None:
    glimpse(replace(toy_subject(nn.Identity(), toy_set()), model=model))


@pytest.mark.parametrize("look", [predict, glance])
def test_looking_restores_the_mode_of_every_layer(look: Callable[[nn.Module], None]) -> None:
    """A method may keep some layers (BatchNorm) in eval mode; a look depends on the clock, so it
    must not change that."""
    model = conv_model().train()
    model[1].eval()
    look(model)
    assert [m.training for m in model] == [True, False, True, True, True]
