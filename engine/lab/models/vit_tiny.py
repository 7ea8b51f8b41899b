"""A small vision transformer for small square images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.spec.bounds import LAYERS
from engine.spec.component import Card, DataInfo, Model
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import torch


class ViTTiny(Model):
    """torchvision's VisionTransformer with patches of a few pixels."""

    name: Literal["vit-tiny"] = "vit-tiny"
    patch: int = Field(default=4, ge=1, description="Side of a patch in pixels.")
    depth: Annotated[int, AfterValidator(LAYERS.within)] = Field(default=6, ge=1)
    heads: int = Field(default=3, ge=1)
    width: int = Field(default=192, ge=8)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    transformer: ClassVar = True
    packages: ClassVar = ("torchvision",)
    takes: ClassVar = frozenset({"image"})
    card: ClassVar = Card(
        title="ViT, tiny",
        summary="A vision transformer of a few million weights.",
        reference="Dosovitskiy et al., ICLR 2021; sizes as in Touvron et al. 2021 (DeiT-Ti), shallower",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> ViTTiny:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        return self

    def check(self, data: DataInfo) -> None:
        _, height, width = data.shape
        if height != width or height % self.patch:
            raise BadInput(
                f"model.patch = {self.patch}: vit-tiny needs square images whose side is a multiple "
                f"of the patch; these are {width}×{height}."
            )

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from torch import nn
        from torchvision.models import VisionTransformer

        from engine.lab.models._layers import Normalise, ToThreeChannels

        transformer = VisionTransformer(
            image_size=shape[1],
            patch_size=self.patch,
            num_layers=self.depth,
            num_heads=self.heads,
            hidden_dim=self.width,
            mlp_dim=4 * self.width,
            dropout=self.dropout,
            num_classes=classes,
        )
        nn.init.trunc_normal_(transformer.heads[-1].weight, std=0.02)  # zeros would start flat
        return nn.Sequential(Normalise(mean, std), ToThreeChannels(), transformer)
