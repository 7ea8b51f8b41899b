"""Training only the end of a network, with the frozen prefix computed once where that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.lab.meter import FORWARD, TRAIN, tail
from engine.lab.training import autocast
from engine.lab.units import run, split, tail_share

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask

FEATURES = "features"  # state: the prefix's outputs for all retained rows
SHARE = "tail share"  # state: 0-d float64
MOST_BYTES = 2 << 30  # features larger than this are recomputed instead of kept


def renew_tail(task: UnlearnTask, k: int) -> None:
    """Give the last k units the weights and buffers a retraining would start from."""
    _, old = split(task.model, k)
    _, new = split(task.fresh_model(), k)
    for mine, fresh in zip(old, new, strict=True):
        mine.load_state_dict(fresh.state_dict())


def begin_tail(task: UnlearnTask, k: int, batchnorm: str = "update") -> None:
    """Freeze the prefix, price the tail, and compute the prefix's features if nothing moves."""
    prefix, end = split(task.model, k)
    _modes(task, prefix, batchnorm)
    for unit in prefix:
        unit.requires_grad_(False)
    example = task.retain.example()
    share = tail_share(prefix, end, example)
    task.state[SHARE] = torch.tensor(share, dtype=torch.float64)
    if not any(True for unit in prefix for _ in unit.parameters()):
        return
    if task.recipe.augment != "none":
        return
    with torch.no_grad(), autocast(task.recipe.precision, task.device):
        kept = run(prefix, example)
        if not isinstance(kept, Tensor):  # every token's states, in the midst of a transformer
            return
        if kept[0].numel() * 4 * len(task.retain) > MOST_BYTES:
            return
        batches = task.retain.every(256, price=FORWARD * (1 - share))
        features = torch.cat([run(prefix, batch.inputs).float() for batch in batches])
    task.state[FEATURES] = features


def tail_loss(task: UnlearnTask, k: int, size: int, batchnorm: str = "update") -> Tensor:
    """The training's loss of the next retained rows, with a graph through the tail only.

    `batchnorm` "frozen" holds the tail's running statistics too; the prefix's never move."""
    prefix, end = split(task.model, k)
    share = float(task.state[SHARE])
    if FEATURES in task.state:
        places, labels = task.retain.places(size, price=TRAIN * share)
        _modes(task, prefix, batchnorm)
        with autocast(task.recipe.precision, task.device):
            logits = run(end, task.state[FEATURES][places])
        return task.loss_of(logits, labels)
    batch = task.retain.batch(size, price=tail(share))
    _modes(task, prefix, batchnorm)
    with autocast(task.recipe.precision, task.device):
        with torch.no_grad():
            features = run(prefix, batch.inputs)
        logits = run(end, features)
    return task.loss_of(logits, batch.labels)


def _modes(task: UnlearnTask, prefix: list[nn.Module], batchnorm: str = "update") -> None:
    task.train_mode(batchnorm)
    for unit in prefix:
        unit.eval()
