"""The forms of a sample, kept apart: stored, trained-on, base (clean), and rows of each.

Pixels stay uint8 on the device (a table's values float32); poisoned rows are float32 beside them,
never clipped or rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from engine.lab.randomness import permutation, torch_generator


class Batch(NamedTuple):
    """Float inputs [B, C, H, W] in raw space, labels int64 [B]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Poison:
    """What an attack leaves behind, for P poisoned rows.

    rows:    int64 [P], the training rows they replace, or beyond the last row where they are added.
    inputs:  float32 [P, C, H, W], as the learner sees them.
    labels:  int64 [P], as the learner sees them.
    extras:  what audits need, such as "noise" [P, C, H, W].
    movable: False when augmentation would spoil the poison (noise that must stay where it is).
    facts:   numbers audits need, such as "noise_std".
    """

    rows: Tensor
    inputs: Tensor
    labels: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    movable: bool = True
    facts: dict[str, float] = field(default_factory=dict)


class TrainingSet:
    """All rows a learner may see, resident on one device, in their trained-on form.

    Rows 0 … N-1 are the data set's; rows from N on are added by an attack.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, poison: Poison | None = None) -> None:
        self.pixels = pixels
        self.labels = labels
        self.poison = poison
        if poison is None:
            return
        added = int((poison.rows >= len(labels)).sum())
        self.labels = torch.cat([labels, labels.new_zeros(added)])
        self.labels[poison.rows] = poison.labels
        self.slot = torch.full((len(self.labels),), -1, device=labels.device)
        self.slot[poison.rows] = torch.arange(len(poison.rows), device=labels.device)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Batch:
        """Trained-on inputs and labels of some rows (int64 [B], on this device)."""
        return Batch(self._inputs(rows)[0], self.labels[rows])

    def base(self, rows: Tensor) -> Tensor:
        """Clean inputs of some rows of the data set, float32 [B, C, H, W] in [0, 1]."""
        rows = self.pixels[rows]
        return rows if rows.is_floating_point() else rows.to(torch.float32).div_(255)

    def _inputs(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.poison is None:
            return self.base(rows), None
        slot = self.slot[rows]
        poisoned = slot >= 0
        clean = self.base(rows.clamp(max=len(self.pixels) - 1))
        dirty = self.poison.inputs[slot.clamp(min=0)]
        return torch.where(poisoned[:, None, None, None], dirty, clean), poisoned

    def take_augmented(self, rows: Tensor, moves: Tensor, padding: int) -> Batch:
        """Like `take`, cropped and flipped by `moves` (int64 [B, 3]: down, right, flip)."""
        inputs, poisoned = self._inputs(rows)
        moved = crop_and_flip(inputs, moves, padding)
        if poisoned is not None and self.poison is not None and not self.poison.movable:
            moved = torch.where(poisoned[:, None, None, None], inputs, moved)
        return Batch(moved, self.labels[rows])


def crop_and_flip(inputs: Tensor, moves: Tensor, padding: int) -> Tensor:
    """Zero-padded shift by moves[:, :2] - padding and mirror where moves[:, 2] is 1; one gather."""
    count, channels, height, width = inputs.shape
    padded = torch.nn.functional.pad(inputs, (padding,) * 4)
    down = moves[:, 0, None] + torch.arange(height, device=inputs.device)
    across = torch.arange(width, device=inputs.device).expand(count, width)
    across = torch.where(moves[:, 2, None] == 1, width - 1 - across, across) + moves[:, 1, None]
    flat = (down[:, :, None] * (width + 2 * padding) + across[:, None, :]).view(count, 1, -1)
    gathered = padded.flatten(2).gather(2, flat.expand(count, channels, -1))
    return gathered.view(count, channels, height, width)


def random_moves(count: int, padding: int, seed: int, *purpose: str | int) -> Tensor:
    """int64 [count, 3] on the CPU: crop offsets in 0 … 2·padding, and 0 or 1 to mirror."""
    generator = torch_generator(seed, *purpose, "moves")
    offsets = torch.randint(0, 2 * padding + 1, (count, 2), generator=generator)
    return torch.cat([offsets, torch.randint(0, 2, (count, 1), generator=generator)], dim=1)


class Rows:
    """Some rows of a training set in trained-on form, for looking at in order (audits)."""

    def __init__(self, data: TrainingSet, rows: Tensor) -> None:
        self.data = data
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Batch]:
        """In batches that suit the device: small ones stay in a CPU's cache, large ones fill a GPU."""
        size = 64 if self.rows.device.type == "cpu" else 2048
        for start in range(0, len(self.rows), size):
            yield self.data.take(self.rows[start : start + size])


def epoch_order(count: int, seed: int, purpose: str, epoch: int, device: str) -> Tensor:
    """int64 [count]: the order in which one epoch visits its rows, on `device`."""
    return permutation(count, seed, purpose, epoch).to(device, non_blocking=True)
