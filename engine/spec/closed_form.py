"""A training that is no sequence of steps but the solution of linear equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.spec.errors import BadInput
from engine.spec.registry import component_name

if TYPE_CHECKING:
    from engine.spec.experiment import Experiment

# What a model minimises on a row. "squared-error" is half of ‖logits - one-hot label‖².
Loss = Literal["cross-entropy", "squared-error"]


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """A linear model on d features, solved for: the minimum over weights W [K, d] and biases b of

        ½ Σ_rows ‖W φ + b - one-hot label‖² + ½ penalty ‖W‖².

    The penalty belongs to the sum, not to the mean: with fewer rows it stays what it is, and biases
    are free of it. So the solution without some rows is the exact leave-out.
    """

    penalty: float

    def row_price(self, features: int, classes: int) -> float:
        """Row's share of the normal equations, in passes of a training step (3·d·K products)."""
        d = features + 1  # and the column of ones
        return d * (d + classes) / (3 * features * classes)

    def solving_price(self, features: int, classes: int) -> float:
        """Cholesky's factor and two triangular solutions a class, in the same unit."""
        d = features + 1
        return (d**3 / 6 + d * d * classes) / (3 * features * classes)

    def passes(self, rows: int, features: int, classes: int) -> float:
        """What solving over `rows` costs, in passes of a row; over N rows, N times the TEE."""
        return rows * self.row_price(features, classes) + self.solving_price(features, classes)


def check_closed_form(experiment: Experiment) -> None:
    """Raise BadInput for what has no meaning for a model that is solved for."""
    from engine.spec.experiment import Train

    name = component_name(type(experiment.model))
    recipe, usual = experiment.train, Train()
    for key, field in Train.model_fields.items():
        value = getattr(recipe, key)
        own = key == "start_from" and recipe.from_as == "poisoned-model"
        if value != getattr(usual, key) and not own:
            raise BadInput(
                f"train.{field.alias or key} = {value!r}: model {name!r} is solved for in closed form, "
                f"no step is taken; leave it out (model.penalty is its weight decay)."
            )
    for kind, entries in (
        ("attack", experiment.attacks),
        ("method", experiment.methods),
        ("audit", experiment.audits),
    ):
        for entry in entries:
            if entry.needs_probabilities:
                raise BadInput(
                    f"{kind} {component_name(type(entry))!r} needs a model trained by cross-entropy, "
                    f"whose outputs are log-probabilities; model {name!r} minimises the squared error."
                )
