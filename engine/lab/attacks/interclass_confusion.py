"""Interclass confusion: two classes exchange labels on some of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.spec.class_keys import ClassKey, index, not_an_index
from engine.spec.component import Attack, Card, DataInfo, Knowledge, poisoned_count
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.views import Poison, TrainingSet


class InterclassConfusion(Attack):
    """As many rows of class a labelled b as of class b labelled a. Twice is nothing at all."""

    name: Literal["interclass-confusion"] = "interclass-confusion"
    classes: tuple[ClassKey, ClassKey] = Field(
        default=(3, 5), description="The two classes, each by its index or its name."
    )
    share: float = Field(
        default=0.05, gt=0, lt=1, description="Share of all training rows, half from either class."
    )

    takes: ClassVar = frozenset({"image", "table", "text"})
    gives: ClassVar = frozenset({"confusion", "decoys"})
    knows: ClassVar = Knowledge(
        controls="labels of rows of two classes; not their inputs",
        training_data="labels of the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="nothing",
    )
    card: ClassVar = Card(
        title="Interclass confusion",
        summary="Exchanges the labels of two classes on some of their rows. A model that learned "
        "from them confuses the two on rows it never saw.",
        reference="Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022 "
        "(interclass confusion test)",
        needs="control over the labels of the poisoned rows",
        cost="none beyond training",
        deviations="rows drawn at random in either class, not the first ones",
    )

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.classes[0] == self.classes[1]:
            raise ValueError(f"classes = {list(self.classes)}: two different classes are needed")
        return self

    def resolved(self, data: DataInfo) -> Self:
        found = super().resolved(data)
        if found.classes[0] == found.classes[1]:
            raise BadInput(
                f"attacks.interclass-confusion.classes = {list(self.classes)}: both are class "
                f"{found.classes[0]}; two different classes are needed."
            )
        return found

    @property
    def pair(self) -> tuple[int, int]:
        """The two classes' indices."""
        return index(self.classes[0]), index(self.classes[1])

    def selection(self) -> dict[str, Any]:
        return {"share": self.share, "each": list(self.pair), "paired": True}

    def check(self, data: DataInfo, rows: int) -> None:
        from engine.lab.attacks._trigger import surely_left

        where = "attacks.interclass-confusion"
        for label in self.pair:
            if not 0 <= label < len(data.classes):
                raise BadInput(
                    f"{where}.classes = {list(self.classes)}: each {not_an_index(data.classes)}."
                )
            sure = surely_left(data.train_per_class[label], data.train, rows)
            wanted = poisoned_count(self.selection(), rows) // 2
            if wanted > sure:
                raise BadInput(
                    f"{where}.share = {self.share!r}: takes {wanted} rows of class {label} "
                    f"({data.classes[label]!r}), but only {sure} are there for sure after the "
                    f"validation cut; the largest share possible is {2 * sure / rows:.3g}."
                )

    def craft(self, data: TrainingSet, rows: Tensor, seed: int) -> Poison:
        from engine.lab.attacks._labels import swap_two
        from engine.lab.views import Poison

        first, second = self.pair
        return Poison(
            rows,
            data.base(rows),
            swap_two(data.labels[rows], first, second),
            facts={"first": first, "second": second},
        )

    def decoys(self, data: TrainingSet, rows: Tensor, poison: Poison, seed: int) -> Poison:
        return self.craft(data, rows, seed)
