"""Layers several models share. Imports torch: only from inside `build`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """First layer of every image model: data stay in [0, 1], the model does the rest."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std
