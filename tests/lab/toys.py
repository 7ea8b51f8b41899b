"""Toy data, models and methods: small enough to count by hand."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from engine.lab.attacks.gaussian import Gaussian
from engine.lab.looks import Looks
from engine.lab.subject import Subject
from engine.lab.unlearning import UnlearnTask
from engine.lab.views import Rows, TrainingSet
from engine.spec.component import Method
from engine.spec.experiment import Train

ROWS, CLASSES, SHAPE = 48, 3, (1, 6, 6)
POISONED = torch.tensor([0, 10, 20, 30, 40])
FORGET = len(POISONED)


def toy_pixels(rows: int = ROWS, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    """uint8 images whose brightness leans with the class, and int64 labels."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(rows) % CLASSES
    noise = torch.randint(0, 120, (rows, *shape), generator=generator)
    return (noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels


def toy_set(poisoned: bool = True) -> TrainingSet:
    """48 rows, of which POISONED carry Gaussian noise unless `poisoned` is False."""
    pixels, labels = toy_pixels()
    clean = TrainingSet(pixels, labels)
    poison = Gaussian(noise_std=0.3).craft(clean, POISONED, seed=0)
    return TrainingSet(pixels, labels, poison) if poisoned else clean


def toy_model(seed: int = 0, dropout: float = 0.0, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    size = SHAPE[0] * SHAPE[1] * SHAPE[2]
    middle = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, width), nn.ReLU(), *middle, nn.Linear(width, CLASSES)
    )


def toy_task(model: nn.Module, data: TrainingSet | None = None, seed: int = 3) -> UnlearnTask:
    data = data or toy_set()
    assert data.poison is not None
    rows = torch.arange(len(data))
    return UnlearnTask(
        model=model,
        data=data,
        retain=rows[~torch.isin(rows, data.poison.rows)],
        forget=data.poison.rows,
        recipe=Train(precision="fp32", channels_last=False),
        seed=seed,
        device="cpu",
        classes=CLASSES,
    )


def toy_subject(model: nn.Module, data: TrainingSet, seed: int = 0) -> Subject:
    """`data` must be poisoned; test and validation are its clean rows."""
    assert data.poison is not None
    clean = TrainingSet(data.pixels, data.labels)
    everything = torch.arange(len(clean))
    forget = data.poison.rows
    return Subject(
        model=model.eval(),
        retain=Rows(data, everything[~torch.isin(everything, forget)]),
        forget=Rows(data, forget),
        validation=Rows(clean, everything),
        test=Rows(clean, everything),
        base=Rows(clean, forget),
        poison=data.poison,
        seed=seed,
        device="cpu",
        classes=CLASSES,
    )


class Both(Method):
    """Reads both sets in every step, as a careful method does: draw, draw, update."""

    name: Literal["both"] = "both"
    lr: float = 0.05
    momentum: float = 0.9
    batch_size: int = 8

    reads: ClassVar = frozenset({"retain", "forget"})

    def begin(self, task: UnlearnTask) -> None:
        task.state["optimizer"] = task.sgd(self.lr, self.momentum)

    def step(self, task: UnlearnTask) -> None:
        retain = task.retain.batch(self.batch_size)
        forget = task.forget.batch(2)
        task.model.train()
        task.descend(task.loss(retain) - 0.1 * task.loss(forget))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Always(Looks):
    """Looks between any two steps."""

    def due(self, spacing: float) -> bool:
        return True
