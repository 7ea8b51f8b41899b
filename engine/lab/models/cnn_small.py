"""A small convolutional net for small images: three blocks, a few seconds an epoch on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, DataInfo, Model
from engine.spec.size import Layers, Size

if TYPE_CHECKING:
    import torch


class CNNSmall(Model):
    """Three 3×3 convolutions with normalisation, ReLU and pooling; then a linear classifier."""

    name: Literal["cnn-small"] = "cnn-small"
    width: int = Field(default=32, ge=4, description="Channels of the first block; doubled twice.")
    norm: Literal["batch", "group", "none"] = "batch"

    convolutional: ClassVar = True
    takes: ClassVar = frozenset({"image"})
    card: ClassVar = Card(
        title="Small CNN",
        summary="Three convolution blocks. Weight sharing memorises little: expect a weak Gaussian "
        "signal, and a strong backdoor one.",
        reference="standard",
    )

    def size(self, data: DataInfo) -> Size:
        layers = Layers(*data.shape)
        for factor in (1, 2, 4):
            layers.convolve(self.width * factor, 3, bias=self.norm == "none")
            if self.norm != "none":
                layers.normalise()
            layers.pool(-(-layers.height // 2), -(-layers.width // 2), largest=True)
        return layers.pool(2, 2).linear(len(data.classes)).size()

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from torch import nn

        from engine.lab.models._layers import Normalise, initialise_convolutions

        def norm(channels: int) -> list[nn.Module]:
            if self.norm == "batch":
                return [nn.BatchNorm2d(channels)]
            return [nn.GroupNorm(4, channels)] if self.norm == "group" else []

        layers: list[nn.Module] = [Normalise(mean, std)]
        inside = shape[0]
        for factor in (1, 2, 4):
            outside = self.width * factor
            layers.append(nn.Conv2d(inside, outside, 3, padding=1, bias=self.norm == "none"))
            layers += [*norm(outside), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)]
            inside = outside
        net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inside, classes)
        )
        initialise_convolutions(net)
        return net
