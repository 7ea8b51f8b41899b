"""Bilevel poisoning of a linear head: added rows whose inputs are trained to mislead it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.attacks._appended import Optimised, appended, wrong_labels
from engine.spec.component import Card, Knowledge

if TYPE_CHECKING:
    from engine.lab.crafting import CraftTask
    from engine.lab.views import Poison


class BilevelHead(Optimised):
    """Gradient ascent on the head's error through its optimum; there is no preset target."""

    name: Literal["bilevel-head"] = "bilevel-head"
    share: float = Field(
        default=0.025, gt=0, le=1, description="Rows to add, as a share of the training rows."
    )
    steps: int = Field(default=60, ge=1)
    lr: float = Field(default=0.075, gt=0, description="First step of a pixel, in [0, 1] units.")

    knows: ClassVar = Knowledge(
        controls="inputs and labels of rows that are added",
        training_data="all of it",
        model="the frozen extractor and the head",
        recipe="the weight decay; the head is solved for",
        test_input="nothing",
    )
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Bilevel poisoning of the head (indiscriminate)",
        summary="Adds rows under fixed wrong labels and moves their pixels, within [0, 1], so that "
        "the head trained on all rows errs as much as possible on the clean training rows.",
        reference="Biggio, Nelson, Laskov, Poisoning Attacks against Support Vector Machines, ICML "
        "2012; Munoz-Gonzalez et al., Towards Poisoning of Deep Learning Algorithms with "
        "Back-gradient Optimization, AISec 2017 (implicit gradients, here for a softmax head)",
        needs="adding rows, inputs and labels; all training rows; the frozen extractor (or the "
        "victim's architecture and recipe: then features of a surrogate stand in)",
        cost="a clean training, and per step a few dozen passes over the clean features",
        deviations="poison and head are optimised together, so no gradient is cancelled at a "
        "target chosen before: not Gradient Canceling",
    )

    def craft_with(self, task: CraftTask) -> Poison:
        from engine.lab.attacks._ascent import ascend
        from engine.lab.attacks._side import AttackerSide

        side = AttackerSide(task)
        inputs = task.data.base(task.rows)
        labels = wrong_labels(task.data.labels[task.rows], task.classes, task.seed)
        found = ascend(
            side.problem, side.embed, inputs, labels, 0.0, 1.0, side.embed.weights,
            self.steps, self.lr, side.loop("ascent", self.steps, len(inputs)),
        )  # fmt: skip
        return appended(
            task.data, found.inputs, labels, harm=found.harm,
            **side.exact_accuracies(inputs, found.inputs, labels),
        )  # fmt: skip
