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


class ToThreeChannels(nn.Module):
    """Repeats a grey channel for networks that are written for three."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.expand(-1, 3, -1, -1) if inputs.shape[1] == 1 else inputs


def initialise_convolutions(net: nn.Module) -> None:
    """He initialisation of every convolution, as torchvision does for ResNets."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
