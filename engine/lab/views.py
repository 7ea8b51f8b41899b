"""The forms of a sample, kept apart: stored, trained-on, base (clean), and rows of each.

Pixels stay uint8 on the device (a table's values float32); poisoned rows are float32 beside them,
never clipped or rounded. How texts take the same place is told in `texts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from engine.lab.randomness import permutation, torch_generator


class Batch(NamedTuple):
    """Float inputs [B, C, H, W] in raw space (texts: see `texts`), labels int64 [B]."""

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

    @property
    def noise(self) -> Tensor:
        """What was added to the clean inputs, shaped like `inputs`, where the attack keeps it."""
        if "noise" in self.extras:
            return self.extras["noise"]
        from engine.lab.texts import only_noise

        return only_noise(self.inputs)


class TrainingSet:
    """All rows a learner may see, resident on one device, in their trained-on form.

    Rows 0 … N-1 are the data set's; rows from N on are added by an attack.
    """

    lengths: Tensor | None = None  # of texts, on the CPU

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

    def take(self, rows: Tensor, width: int | None = None) -> Batch:
        """Trained-on inputs and labels of some rows (int64 [B], on this device).

        Texts are cut behind `width` tokens, by default not at all.
        """
        return Batch(self._inputs(rows, width)[0], self.labels[rows])

    def lengths_of(self, rows: Tensor) -> Tensor | None:
        """Tokens of some rows' texts, int64 [B] on the CPU; None where inputs have no length."""
        return None if self.lengths is None else self.lengths[rows.cpu()]

    def by_length(self, rows: Tensor) -> Tensor:
        """The same rows with texts of one length side by side, for looking at all of them."""
        lengths = self.lengths_of(rows)
        return rows if lengths is None else rows[lengths.argsort(stable=True).to(rows.device)]

    def batches(self, rows: Tensor, size: int) -> Iterator[Batch]:
        """Some rows in their order, `size` at a time; texts cut to each batch's longest."""
        visit = Visit(rows, self.lengths_of(rows))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield self.take(rows[part], visit.width(part))

    def base(self, rows: Tensor) -> Tensor:
        """Clean inputs of some rows of the data set, float32 [B, C, H, W] in [0, 1]."""
        rows = self.pixels[rows]
        return rows if rows.is_floating_point() else rows.to(torch.float32).div_(255)

    def _inputs(self, rows: Tensor, width: int | None = None) -> tuple[Tensor, Tensor | None]:
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

    @property
    def at_once(self) -> int:
        """Rows that suit the device: few stay in a CPU's cache, many fill a GPU; of texts no more
        than 8,192 tokens, whose way through a large model fits into its memory."""
        if self.rows.device.type == "cpu":
            return 64
        return 2048 if self.data.lengths is None else max(1, 8192 // self.data.pixels.shape[1])

    def visit(self) -> Visit:
        """The rows as they come."""
        places = torch.arange(len(self.rows), device=self.rows.device)
        return Visit(places, self.data.lengths_of(self.rows))

    def batches(self) -> Iterator[Batch]:
        yield from self.data.batches(self.rows, self.at_once)


@dataclass(frozen=True)
class Visit:
    """The order in which some rows are visited. places: int64 [M] on the device; lengths: of texts,
    int64 [M] in the same order, on the CPU."""

    places: Tensor
    lengths: Tensor | None = None

    def width(self, part: slice | Tensor) -> int | None:
        """Tokens of the longest text of a part; None where inputs have no length."""
        return None if self.lengths is None else int(self.lengths[part].max())


def epoch_visit(
    data: TrainingSet, rows: Tensor, size: int, seed: int, purpose: str, epoch: int
) -> Visit:
    """The freshly shuffled order of one epoch over `rows` (int64 [M]), as places within them.

    Texts are grouped by length in batches of `size`; which batch comes when stays random.
    """
    places = permutation(len(rows), seed, purpose, epoch)
    lengths = data.lengths_of(rows)
    if lengths is None:
        return Visit(places.to(rows.device, non_blocking=True))
    places = grouped(places, lengths, size, torch_generator(seed, purpose, epoch, "batches"))
    return Visit(places.to(rows.device, non_blocking=True), lengths[places])


WINDOW = 50  # batches that are sorted by length together


def grouped(places: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`places` regrouped so that every `size` in a row have about one length, groups shuffled."""
    windows = torch.split(places, WINDOW * size)
    ordered = torch.cat([part[lengths[part].argsort(stable=True)] for part in windows])
    whole = len(ordered) // size
    groups, rest = ordered[: whole * size].view(whole, size), ordered[whole * size :]
    return torch.cat([groups[torch.randperm(whole, generator=generator)].flatten(), rest])
