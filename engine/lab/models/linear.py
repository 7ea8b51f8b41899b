"""Multinomial logistic regression on pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Card, Model

if TYPE_CHECKING:
    import torch


class Linear(Model):
    """One linear layer on normalised, flattened pixels."""

    name: Literal["linear"] = "linear"

    card: ClassVar = Card(
        title="Linear classifier",
        summary="Softmax regression on pixels: small enough to check by hand.",
        reference="standard",
    )

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from math import prod

        from torch import nn

        from engine.lab.models._layers import Normalise

        return nn.Sequential(Normalise(mean, std), nn.Flatten(), nn.Linear(prod(shape), classes))
