"""Ridge regression on one-hot labels: the model that is solved for, not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.closed_form import ClosedForm
from engine.spec.component import Card, DataInfo, Model
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import torch

LARGEST = 5_000  # inputs: the normal equations are dense, 8 bytes × this squared


class Ridge(Model):
    """One linear layer on normalised, flattened inputs, where ½ Σ ‖Wx + b - e_y‖² + ½ penalty ‖W‖²
    is least; the prediction is the largest output."""

    name: Literal["ridge"] = "ridge"
    penalty: float = Field(
        default=1.0, gt=0, description="Of the sum over rows, not of their mean; biases are free."
    )

    card: ClassVar = Card(
        title="Ridge regression on one-hot labels",
        summary="A linear classifier whose training is solved for exactly in float64: nothing is "
        "random but the data, so retraining is the exact leave-out.",
        reference="Hoerl & Kennard, Technometrics 1970; as a classifier: Rifkin et al., 2003",
        needs="up to 5,000 inputs; no [train] keys, no step is taken",
        cost="by its multiplications (d inputs, K classes): about d/(3K) + 1/3 TEE",
        deviations="methods that go on training do so on its own loss, half the squared error to the "
        "one-hot labels, with their own weight decay; what needs class probabilities is refused "
        "(fisher, scrub, bad-teacher; attacks that match or cancel gradients; targeted-success); the "
        "calibration error says nothing here; retrain-fresh equals retrain",
    )

    def closed_form(self) -> ClosedForm:
        return ClosedForm(self.penalty)

    def check(self, data: DataInfo) -> None:
        from math import prod

        inputs = prod(data.shape)
        if inputs > LARGEST:
            raise BadInput(
                f"model 'ridge' solves for up to {LARGEST:,} inputs; the data have {inputs:,}."
            )

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from engine.lab.models.linear import Linear

        return Linear().build(shape, classes, mean, std)
