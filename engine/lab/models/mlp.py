"""A multilayer perceptron on pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from engine.spec.bounds import LAYERS
from engine.spec.component import Card, DataInfo, Model
from engine.spec.size import Layers, Size

if TYPE_CHECKING:
    import torch


class MLP(Model):
    """`depth` hidden ReLU layers of `width` units on normalised, flattened pixels."""

    name: Literal["mlp"] = "mlp"
    width: int = Field(default=256, ge=1)
    depth: Annotated[int, AfterValidator(LAYERS.within)] = Field(default=1, ge=1)

    card: ClassVar = Card(
        title="Multilayer perceptron",
        summary="Trains in seconds on a CPU and memorises enough to show every effect.",
        reference="standard",
    )

    def size(self, data: DataInfo) -> Size:
        layers = Layers(*data.shape)
        for _ in range(self.depth):
            layers.linear(self.width)
        return layers.linear(len(data.classes)).size()

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from math import prod

        from torch import nn

        from engine.lab.models._layers import Normalise

        layers: list[nn.Module] = [Normalise(mean, std), nn.Flatten()]
        size = prod(shape)
        for _ in range(self.depth):
            layers += [nn.Linear(size, self.width), nn.ReLU()]
            size = self.width
        return nn.Sequential(*layers, nn.Linear(size, classes))
