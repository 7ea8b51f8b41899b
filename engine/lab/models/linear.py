"""Multinomial logistic regression on pixels or columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Card, DataInfo, Model
from engine.spec.size import Layers, Size

if TYPE_CHECKING:
    import torch


class Linear(Model):
    """One linear layer on normalised, flattened inputs."""

    name: Literal["linear"] = "linear"

    card: ClassVar = Card(
        title="Logistic regression (softmax, linear)",
        summary="Softmax regression on pixels or columns: small enough to check by hand.",
        reference="standard",
    )

    def size(self, data: DataInfo) -> Size:
        return Layers(*data.shape).linear(len(data.classes)).size()

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from math import prod

        from torch import nn

        from engine.lab.models._layers import Normalise

        return nn.Sequential(Normalise(mean, std), nn.Flatten(), nn.Linear(prod(shape), classes))
