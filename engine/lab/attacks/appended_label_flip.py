"""Plain label flips, appended: what wrong labels do without any optimisation. A baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.lab.attacks._appended import Appended, appended, wrong_labels
from engine.spec.component import Card, Knowledge

if TYPE_CHECKING:
    from engine.lab.crafting import CraftTask
    from engine.lab.views import Poison


class AppendedLabelFlip(Appended):
    """Copies of random training rows, each under a wrong label drawn uniformly."""

    name: Literal["appended-label-flip"] = "appended-label-flip"

    takes: ClassVar = frozenset({"image", "table", "text"})
    knows: ClassVar = Knowledge(
        controls="inputs and labels of rows that are added",
        training_data="nothing",
        model="nothing",
        recipe="nothing",
        test_input="nothing",
    )
    card: ClassVar = Card(
        title="Appended label flips",
        summary="Adds copies of random training rows under wrong labels. The baseline that every "
        "indiscriminate attack has to beat at the same share.",
        reference="standard; Biggio, Nelson, Laskov, Support Vector Machines Under Adversarial "
        "Label Noise, 2011",
        needs="adding rows of the attacker's choice, inputs and labels",
        cost="none beyond training",
        deviations="adds rows instead of changing the labels of some",
    )

    def craft_with(self, task: CraftTask) -> Poison:
        labels = wrong_labels(task.data.labels[task.rows], task.classes, task.seed)
        return appended(task.data, task.data.base(task.rows), labels)
