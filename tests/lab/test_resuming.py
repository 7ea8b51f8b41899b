"""Killed at any step and gone on from a checkpoint is as if nothing had happened, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.lab.artifacts import save_tensors
from engine.lab.models.gpt2 import GPT2
from engine.lab.training import fit
from engine.lab.unlearning import Source, UnlearnTask, unlearn
from engine.spec.component import Method
from engine.spec.experiment import Train
from engine.spec.registry import registered
from tests.lab import toy_texts
from tests.lab.methods.tasks import FORGOTTEN, NETWORKS, of_network, toy
from tests.lab.mortal import Killed, Mortal, contents, through_deaths
from tests.lab.toys import CLASSES, ROWS, Both, same, toy_model, toy_set, weights

EVERYTHING = torch.arange(ROWS)
FIXED = {"epochs": 3, "batch_size": 10, "lr": 0.1, "precision": "fp32", "channels_last": False}
STEPS = 15
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0},
    "momentum": {"momentum": 0.9},
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "one-cycle": {"schedule": "one-cycle"},
    "cosine": {"schedule": "cosine", "warmup": 0.2},
    "augmented": {"augment": "crop-flip"},
    "bf16": {"precision": "bf16"},
    "channels-last": {"channels_last": True},
    "channels-last adamw": {"channels_last": True, "optimizer": "adamw", "lr": 0.01},
}


def network() -> nn.Module:
    """Convolutions, BatchNorm and dropout: all there is that a step leaves behind or draws. The
    second convolution has a memory layout that matters."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 2), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(72, CLASSES),
    )  # fmt: skip


def trained(ctx: Mortal, keys: dict[str, Any]) -> bytes:
    model = network()
    fit(model, toy_set(), EVERYTHING, Train.model_validate(FIXED | keys), 0, ctx)
    save_tensors(ctx.root, "trained.safetensors", model.state_dict())
    return (ctx.root / "trained.safetensors").read_bytes()


def never(_: int) -> bool:
    return False


@pytest.mark.parametrize("keys", RECIPES.values(), ids=RECIPES)
def test_a_training_killed_at_any_step_ends_as_if_it_had_not_been(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    undisturbed = trained(Mortal(tmp_path / "calm", never), keys)
    for step in (0, 1, 5, 8, 14):  # before the first, at an epoch's start, within one, the last
        root = tmp_path / str(step)
        with pytest.raises(Killed):
            trained(Mortal(root, lambda _: True, dies=step + 1), keys)
        again = Mortal(root, never)
        assert trained(again, keys) == undisturbed, f"killed at step {step}"
        assert again.resumed == [("fit", step)]
        assert again.asked == STEPS - step  # and nothing was computed twice


@pytest.mark.parametrize("poisoned", [False, True], ids=["tokens", "noise on embeddings"])
def test_a_training_on_texts(poisoned: bool, tmp_path: Path) -> None:
    """Batches are grouped by length; the model drops units."""

    def run(ctx: Mortal) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        gpt = GPT2(layers=1, width=toy_texts.WIDTH, heads=2, dropout=0.2)
        model = gpt.build((toy_texts.LONGEST, toy_texts.TOKENS.size, 1), 2, [], [])
        data = toy_texts.text_set(toy_texts.noised() if poisoned else None)
        recipe = Train.model_validate(FIXED | {"optimizer": "adamw", "lr": 0.01, "epochs": 2})
        fit(model, data, torch.arange(toy_texts.ROWS), recipe, 0, ctx)
        return weights(model)

    found, resumed = through_deaths(run, tmp_path / "rough", seed=None, most=4)
    assert same(found, run(Mortal(tmp_path / "calm", never)))
    assert [step for _, step in resumed] == [3, 6, 9]


@pytest.mark.parametrize("seed", range(3))
def test_a_training_may_be_killed_again_and_again(seed: int, tmp_path: Path) -> None:
    keys = RECIPES["augmented"]
    undisturbed = trained(Mortal(tmp_path / "calm", never), keys)
    found, resumed = through_deaths(lambda ctx: trained(ctx, keys), tmp_path / "rough", seed)
    assert found == undisturbed
    assert len(resumed) >= 3


def test_keeping_checkpoints_changes_nothing(tmp_path: Path) -> None:
    keys = RECIPES["adamw"]
    assert trained(Mortal(tmp_path / "a", never), keys) == trained(
        Mortal(tmp_path / "b", lambda _: True), keys
    )


# --- unlearning ----------------------------------------------------------------------------------

METHODS = sorted(name for name, cls in registered("method").items() if cls.role == "unlearn")  # type: ignore[attr-defined]
PLAIN = Train(precision="fp32", channels_last=False)
MOVED = Train(precision="bf16", channels_last=True, augment="crop-flip")
CASES = [
    *(pytest.param(name, {}, PLAIN, id=name) for name in METHODS),
    pytest.param("gd", {"batchnorm": "recalibrate"}, MOVED, id="gd-recalibrate-moved"),
    pytest.param("scrub", {"rewind": True}, MOVED, id="scrub-rewind-moved"),
    pytest.param("salun", {"labels": "runner-up"}, MOVED, id="salun-runner-up-moved"),
    pytest.param("bad-teacher", {}, MOVED, id="bad-teacher-moved"),
    pytest.param("cfk", {"k": 3}, MOVED, id="cfk-moved"),
]


def small_steps(name: str, keys: dict[str, Any]) -> Method:
    """The method with batches so small that these few rows make many steps, though not hundreds."""
    cls = registered("method")[name]
    sizes = {"batch_size": 8, "forget_batch_size": 3, "max_epochs": 2}
    told = {key: size for key, size in sizes.items() if key in cls.model_fields}
    method = cls.model_validate(told | {"ssd": {"selection": 1.0}}.get(name, {}) | keys)
    assert isinstance(method, Method)
    return method


def unlearned(
    ctx: Mortal, method: Method, recipe: Train, budget: float, previous: Path | None = None
) -> tuple[dict[str, bytes], float, float]:
    """All that the stage would commit, and what it says it cost."""
    task = of_network(NETWORKS["resnet18"], recipe=recipe)
    flatten = task.model[-2]
    assert isinstance(flatten, nn.Flatten)
    task.model[-2] = nn.Sequential(flatten, nn.Dropout(0.2))
    rows = torch.arange(FORGOTTEN, FORGOTTEN + 12)
    task.validation = Source("validation", task.retain._data, rows, 0, task.meter, recipe)
    unlearn(method, task, budget, ctx, previous)
    folder = ctx.root / "result"
    folder.mkdir(exist_ok=True)
    task.save(folder)
    return contents(folder), task.meter.tee, task.finishing_tee


@pytest.mark.parametrize(("name", "keys", "recipe"), CASES)
def test_a_method_killed_at_random_steps_ends_as_if_it_had_not_been(
    name: str, keys: dict[str, Any], recipe: Train, tmp_path: Path
) -> None:
    """What cannot be kept (state of a method's own beside tensors) would show here."""
    method = small_steps(name, keys)
    undisturbed = unlearned(Mortal(tmp_path / "calm", never), method, recipe, 1.0)

    def run(ctx: Mortal) -> Any:
        return unlearned(ctx, method, recipe, 1.0)

    found, resumed = through_deaths(run, tmp_path / "rough", seed=1, most=4)
    assert found == undisturbed
    assert resumed
    if method.continues:
        assert len({step for _, step in resumed}) >= 2


class Still(Both):
    """Sets the model's mode once, at its beginning."""

    def begin(self, task: UnlearnTask) -> None:
        super().begin(task)
        task.model.eval()

    def step(self, task: UnlearnTask) -> None:
        task.descend(task.loss(task.retain.batch(self.batch_size)))


def test_modes_of_layers_are_kept(tmp_path: Path) -> None:
    def run(ctx: Mortal) -> dict[str, torch.Tensor]:
        task = toy(toy_model(dropout=0.5))
        unlearn(Still(), task, 1.0, ctx)
        return weights(task.model)

    found, resumed = through_deaths(run, tmp_path / "rough", seed=None, most=3)
    assert same(found, run(Mortal(tmp_path / "calm", never))) and resumed
