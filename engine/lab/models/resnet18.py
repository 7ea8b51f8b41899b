"""ResNet-18 with the CIFAR stem: the architecture of the field's vision experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from engine.spec.component import Card, DataInfo, Model
from engine.spec.size import Layers, Size

if TYPE_CHECKING:
    import torch


class ResNet18(Model):
    """Four stages of two basic blocks, of width, 2·width, 4·width and 8·width channels."""

    name: Literal["resnet18"] = "resnet18"
    width: int = Field(default=64, ge=4, description="Channels of the first stage; 64 is standard.")
    norm: Literal["batch", "group"] = "batch"
    groups: int = Field(default=8, ge=1, description='Groups of norm = "group".')

    convolutional: ClassVar = True
    packages: ClassVar = ("torchvision",)
    takes: ClassVar = frozenset({"image"})
    card: ClassVar = Card(
        title="ResNet-18 (CIFAR stem)",
        summary="torchvision's basic blocks behind a 3×3 stem without pooling, for small images.",
        reference="He et al., CVPR 2016",
        cost="3.3 GFLOP a 32×32 image and training pass at width 64; a quarter at width 32",
    )

    @model_validator(mode="after")
    def _groups_divide(self) -> ResNet18:
        if self.norm == "group" and self.width % self.groups:
            raise ValueError(f"groups = {self.groups} must divide width = {self.width}")
        return self

    def size(self, data: DataInfo) -> Size:
        layers = Layers(*data.shape).convolve(self.width, 3).normalise()
        for stage in range(4):
            outside, stride = self.width * 2**stage, 1 if stage == 0 else 2
            if stride == 2:
                layers.add(layers.branch().convolve(outside, 1, stride).normalise())
            layers.convolve(outside, 3, stride).normalise().convolve(outside, 3).normalise()
            layers.convolve(outside, 3).normalise().convolve(outside, 3).normalise()
        return layers.pool(1, 1).linear(len(data.classes)).size()

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from torch import nn
        from torchvision.models.resnet import BasicBlock

        from engine.lab.models._layers import Normalise, initialise_convolutions

        def norm(channels: int) -> nn.Module:
            if self.norm == "group":
                return nn.GroupNorm(self.groups, channels)
            return nn.BatchNorm2d(channels)

        def stage(inside: int, outside: int, stride: int) -> nn.Module:
            shortcut = None
            if stride != 1 or inside != outside:
                shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), norm(outside)
                )
            first = BasicBlock(inside, outside, stride, shortcut, norm_layer=norm)
            return nn.Sequential(first, BasicBlock(outside, outside, norm_layer=norm))

        width = self.width
        net = nn.Sequential(
            Normalise(mean, std),
            nn.Conv2d(shape[0], width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
            stage(width, width, 1),
            stage(width, 2 * width, 2),
            stage(2 * width, 4 * width, 2),
            stage(4 * width, 8 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, classes),
        )
        initialise_convolutions(net)
        return net
