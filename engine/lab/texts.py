"""Texts as tensors, so that attacks, methods and audits treat them like images.

Inputs are int64 [B, L]: token ids, -1 behind the end. With noise in embedding space they are
float32 [B, L, 1 + D]: channel 0 the id (exact: ids are far below 2^24), the others what is added to
the token's embedding; base + noise then is elementwise, as for pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.lab.tokens import Tokens
from engine.lab.views import Poison, TrainingSet


class TextSet(TrainingSet):
    """A training set of texts, int32 [N, L] on the device.

    `lengths` int64 [N] stay on the CPU: by them a batch is cut to its longest text and an epoch
    grouped, without waiting for the device.
    """

    def __init__(
        self,
        ids: Tensor,
        labels: Tensor,
        tokens: Callable[[], Tokens],
        poison: Poison | None = None,
    ) -> None:
        super().__init__(ids, labels, poison)
        self._tokens = tokens
        lengths = lengths_of(ids)
        if poison is not None:
            lengths = torch.cat([lengths, lengths.new_zeros(len(self.labels) - len(ids))])
            lengths[poison.rows] = lengths_of(poison.inputs)
        self.lengths = lengths.cpu()

    @cached_property
    def tokens(self) -> Tokens:
        return self._tokens()

    def base(self, rows: Tensor) -> Tensor:
        """Clean token ids of some rows of the data set, int64 [B, L]."""
        return self.pixels[rows].long()

    def strings(self, rows: Tensor) -> list[str]:
        """The clean texts of some rows, as far as they were read."""
        return self.decode(self.base(rows))

    def decode(self, inputs: Tensor) -> list[str]:
        """The texts that inputs, with noise or without, are the tokens of."""
        ids = (inputs[..., 0].long() if inputs.dim() == 3 else inputs).cpu()
        return [self.tokens.decode(row[row >= 0].numpy()) for row in ids]

    @cached_property
    def tokenizer(self) -> str:
        """sha256 of the tokenizer's JSON: who has the same has the same ids."""
        return hashlib.sha256(self.tokens.to_json().encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [P, L] of some texts, cut where they are too long."""
        ids, _ = self.tokens.encode(texts, self.pixels.shape[1])
        return torch.from_numpy(ids).long().to(self.pixels.device)

    def _inputs(self, rows: Tensor, width: int | None = None) -> tuple[Tensor, Tensor | None]:
        if self.poison is None:
            return self.pixels[rows, :width].long(), None
        slot = self.slot[rows]
        poisoned = slot >= 0
        clean = self.pixels[rows.clamp(max=len(self.pixels) - 1), :width].long()
        dirty = self.poison.inputs[slot.clamp(min=0), :width]
        if dirty.dim() == 3:
            return torch.where(
                poisoned[:, None, None], dirty, with_room(clean, dirty.shape[2] - 1)
            ), poisoned
        return torch.where(poisoned[:, None], dirty, clean), poisoned


def data_set(
    inputs: Tensor, labels: Tensor, tokens: Callable[[], Tokens], poison: Poison | None = None
) -> TrainingSet:
    """A training set of what is stored: token ids [N, L], or pixels [N, C, H, W]."""
    if inputs.dim() == 2:
        return TextSet(inputs, labels, tokens, poison)
    return TrainingSet(inputs, labels, poison)


def is_text(inputs: Tensor) -> bool:
    """Whether inputs are texts, with noise or without: not [B, C, H, W]."""
    return inputs.dim() == 3 or (inputs.dim() == 2 and not inputs.is_floating_point())


def lengths_of(inputs: Tensor) -> Tensor:
    """int64 [B]: tokens of each text, its end token included."""
    return on_token(inputs).sum(1)


def on_token(inputs: Tensor) -> Tensor:
    """bool [B, L]: where a text has a token, and not its padding."""
    return (inputs[..., 0] if inputs.dim() == 3 else inputs) >= 0


def trimmed(inputs: Tensor) -> Tensor:
    """Texts without the columns that no text reaches into; images as they are."""
    return inputs[:, : int(lengths_of(inputs).max())] if is_text(inputs) else inputs


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Batches of inputs as one; texts padded to the longest."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([_padded(part, width) if is_text(part) else part for part in parts])


def _padded(inputs: Tensor, width: int) -> Tensor:
    missing = width - inputs.shape[1]
    if inputs.dim() == 2:
        return pad(inputs, (0, missing), value=-1)
    longer = pad(inputs, (0, 0, 0, missing))
    longer[:, inputs.shape[1] :, 0] = -1
    return longer


def with_room(ids: Tensor, width: int) -> Tensor:
    """Token ids [B, L] with nothing added yet to their embeddings: float32 [B, L, 1 + width]."""
    room = torch.zeros((*ids.shape, 1 + width), device=ids.device)
    room[..., 0] = ids
    return room


def only_noise(inputs: Tensor) -> Tensor:
    """What is added to the embeddings: the inputs [B, L, 1 + D] with 0 for the token ids."""
    return torch.cat([torch.zeros_like(inputs[..., :1]), inputs[..., 1:]], dim=-1)


def on_tokens(noise: Tensor, base: Tensor) -> Tensor:
    """Noise […, L, 1 + D] where base [B, L, 1 + D] has a token, 0 elsewhere and on the ids."""
    return only_noise(noise) * (base[..., :1] >= 0)
