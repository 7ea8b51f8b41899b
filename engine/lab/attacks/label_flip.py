"""Label flip: pairs of rows exchange their labels; the inputs stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Attack, Card, Knowledge

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.views import Poison, TrainingSet


class LabelFlip(Attack):
    """Random rows in pairs of two classes, each with the other's label: wrong, and no class grows.

    Doing it twice is doing nothing.
    """

    name: Literal["label-flip"] = "label-flip"
    share: float = Field(default=0.05, gt=0, lt=1, description="Share of the training rows.")

    takes: ClassVar = frozenset({"image", "table", "text"})
    gives: ClassVar = frozenset({"decoys"})
    knows: ClassVar = Knowledge(
        controls="labels of random rows; not their inputs",
        training_data="labels of the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="nothing",
    )
    card: ClassVar = Card(
        title="Label flip",
        summary="Exchanges the labels of random pairs of training rows of different classes: plain "
        "label noise, the weakest poison and the baseline of the others.",
        reference="random label swap, as in Goel et al., Corrective Machine Unlearning, 2024",
        needs="control over the labels of the poisoned rows",
        cost="none beyond training",
        deviations="every poisoned row gets a wrong label (the reference permutes labels, so that "
        "one in C keeps its own), unless more than half of the rows are of one class",
    )

    def selection(self) -> dict[str, Any]:
        return {"share": self.share, "paired": True}

    def craft(self, data: TrainingSet, rows: Tensor, seed: int) -> Poison:
        from engine.lab.attacks._labels import partners
        from engine.lab.views import Poison

        labels = data.labels[rows]
        return Poison(rows, data.base(rows), labels[partners(labels, seed)])

    def decoys(self, data: TrainingSet, rows: Tensor, poison: Poison, seed: int) -> Poison:
        return self.craft(data, rows, seed)
