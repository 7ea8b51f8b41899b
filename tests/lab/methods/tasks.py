"""Tasks and checks that the tests of several unlearning methods share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.lab.models.cnn_small import CNNSmall
from engine.lab.models.gpt2 import GPT2
from engine.lab.models.mlp import MLP
from engine.lab.models.resnet18 import ResNet18
from engine.lab.models.vit_tiny import ViTTiny
from engine.lab.texts import TextSet
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.lab.views import TrainingSet
from engine.spec.component import Method, Model
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab import toy_texts
from tests.lab.toys import CLASSES, POISONED, ROWS, same, toy_model, toy_set, weights

RETAINED = torch.tensor([row for row in range(ROWS) if row not in POISONED.tolist()])
RECIPE = Train(precision="fp32", channels_last=False)
IMAGES, FORGOTTEN, SHAPE = 60, 8, (3, 16, 16)
NETWORKS: dict[str, Model] = {
    "mlp": MLP(width=16),
    "cnn-small": CNNSmall(width=4),
    "resnet18": ResNet18(width=4),
    "resnet18-group": ResNet18(width=4, norm="group", groups=2),
    "vit-tiny": ViTTiny(depth=2, width=12, patch=8),
}


def toy(
    model: nn.Module | None = None,
    retain: Tensor = RETAINED,
    forget: Tensor = POISONED,
    recipe: Train = RECIPE,
    seed: int = 3,
    data: TrainingSet | None = None,
) -> UnlearnTask:
    """48 rows of 36 pixels, 5 of them poisoned, and an MLP."""
    return UnlearnTask(
        model if model is not None else toy_model(),
        data or toy_set(), retain, forget, recipe, seed, "cpu", CLASSES,
        fresh=lambda: toy_model(seed=99),
    )  # fmt: skip


def of_network(config: Model, count: int = IMAGES, recipe: Train = RECIPE) -> UnlearnTask:
    """`count` random colour images of 3 classes, 8 of them to forget, and a fresh network."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 150, (count, *SHAPE), generator=generator)
    data = TrainingSet((noise + 50 * labels[:, None, None, None]).to(torch.uint8), labels)

    def build(seed: int = 1) -> nn.Module:
        torch.manual_seed(seed)
        return config.build(SHAPE, 3, [0.5] * 3, [0.25] * 3)

    rows = torch.arange(count)
    return UnlearnTask(
        build(), data, rows[FORGOTTEN:], rows[:FORGOTTEN], recipe, 0, "cpu", 3,
        fresh=lambda: build(2),
    )  # fmt: skip


def of_texts(
    noise: bool = False, recipe: Train = RECIPE, width: int = toy_texts.WIDTH, dropout: float = 0.1
) -> UnlearnTask:
    """60 short texts, 8 of them to forget, perhaps with noise on their embeddings, and a GPT-2."""
    rows = torch.arange(toy_texts.ROWS)
    data = toy_texts.text_set(
        toy_texts.noised(rows=rows[:FORGOTTEN], width=width) if noise else None
    )

    def build(seed: int = 1) -> nn.Module:
        torch.manual_seed(seed)
        gpt = GPT2(layers=2, width=width, heads=2, dropout=dropout)
        return gpt.build((toy_texts.LONGEST, toy_texts.TOKENS.size, 1), 2, [], [])

    return UnlearnTask(
        build(), data, rows[FORGOTTEN:], rows[:FORGOTTEN], recipe, 0, "cpu", 2,
        fresh=lambda: build(2), validation=(toy_texts.text_set(), rows[FORGOTTEN:20]),
    )  # fmt: skip


def ended(method: Method, task: UnlearnTask, ctx: LocalContext, budget: float = 4.0) -> UnlearnTask:
    unlearn(method, task, budget, ctx)
    return task


def check_usual(method: Method, ctx: LocalContext) -> None:
    """Same seed, same bits; something moved; the start and the data are left alone."""
    data = toy_set()
    assert data.poison is not None
    before = [data.pixels.clone(), data.labels.clone(), data.poison.inputs.clone()]
    start = toy_model()
    kept = weights(start)
    one = ended(method, toy(toy_model(), data=data), ctx)
    two = ended(method, toy(toy_model(), data=data), ctx)
    assert same(weights(one.model), weights(two.model))
    assert not same(weights(one.model), kept) and same(weights(start), kept)
    assert 0 < one.meter.tee <= 4.0 + 1e-9
    for was, now in zip(before, [data.pixels, data.labels, data.poison.inputs], strict=True):
        assert torch.equal(was, now)


def check_network(
    method: Method, name: str, ctx: LocalContext, buffers_stay: bool = True
) -> UnlearnTask:
    """It runs on this network, moves weights, stays finite and leaves buffers alone."""
    task = of_network(NETWORKS[name])
    before = weights(task.model)
    ended(method, task, ctx)
    after = weights(task.model)
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    buffers = {key for key, _ in task.model.named_buffers()}
    assert set(moved) - buffers
    assert not buffers_stay or not set(moved) & buffers
    assert all(torch.isfinite(value).all() for value in after.values())
    return task


def _on_images() -> UnlearnTask:
    return of_network(NETWORKS["cnn-small"])


def check_trajectory(
    method: Method, ctx: LocalContext, folder: Path, make: Callable[[], UnlearnTask] = _on_images
) -> None:
    """Budget after budget is the largest one at once, byte for byte."""
    previous: Path | None = None
    for budget in (0.6, 1.1, 1.9):
        task = make()
        unlearn(method, task, budget, ctx, previous)
        previous = folder / f"{budget}"
        previous.mkdir()
        task.save(previous)
    assert previous is not None
    alone, direct = make(), folder / "alone"
    direct.mkdir()
    unlearn(method, alone, 1.9, ctx)
    alone.save(direct)
    for path in direct.iterdir():
        assert path.read_bytes() == (previous / path.name).read_bytes(), path.name


class Spy:
    """Records the rows that are taken from the data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        for cls in (TrainingSet, TextSet):
            self._watch(cls, monkeypatch)

    def _watch(self, cls: type[TrainingSet], monkeypatch: pytest.MonkeyPatch) -> None:
        plain = cls._inputs

        def spied(data: TrainingSet, rows: Tensor, width: int | None = None) -> object:
            self.rows += rows.tolist()
            return plain(data, rows, width)

        monkeypatch.setattr(cls, "_inputs", spied)


def row_gradients(model: nn.Module, data: TrainingSet, rows: Tensor) -> list[list[Tensor]]:
    """∇ of each row's cross-entropy by plain autograd in float64: rows × parameters."""
    exact = double(model)
    found = []
    for row in rows.tolist():
        batch = data.take(torch.tensor([row]))
        logits = exact(batch.inputs.double())[0]
        loss = logits.logsumexp(0) - logits[batch.labels[0]]
        found.append(list(torch.autograd.grad(loss, list(exact.parameters()))))
    return found


def double(model: nn.Module) -> nn.Module:
    """A float64 copy in eval mode."""
    import copy

    return copy.deepcopy(model).double().eval()
