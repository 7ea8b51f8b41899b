"""What the indiscriminate attacks share: rows added to the training set, under wrong labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from engine.spec.component import Attack, DataInfo
from engine.spec.errors import BadInput
from engine.spec.registry import component_name

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.views import Poison, TrainingSet


class Appended(Attack):
    """Base of attacks that add rows: copies of training rows to start from, labels drawn once.

    Retraining without the poison is training on the original rows. All of these attacks start from
    the same rows and labels where seed and share are the same.
    """

    share: float = Field(
        default=0.05, gt=0, le=1, description="Rows to add, as a share of the training rows."
    )

    appends: ClassVar = True

    def selection(self) -> dict[str, Any]:
        return {"share": self.share}

    def check(self, data: DataInfo, rows: int) -> None:
        if len(data.classes) < 2:
            raise BadInput(
                f"attacks.{component_name(type(self))}: needs two classes, for a wrong label; "
                f"the data have {len(data.classes)}."
            )


class Optimised(Appended):
    """Base of attacks whose added rows are optimised against a head: their attacker looks at one
    clean training, and the same rows with nothing but their wrong labels stand beside them."""

    knows_model: ClassVar = True

    def baselines(self) -> list[Attack]:
        from engine.lab.attacks.appended_label_flip import AppendedLabelFlip

        return [AppendedLabelFlip(share=self.share)]

    def surrogate_count(self) -> int:
        return 1


def appended(data: TrainingSet, inputs: Tensor, labels: Tensor, **facts: float | None) -> Poison:
    """Poison behind the last row of `data`; facts that are None are left out."""
    import torch

    from engine.lab.views import Poison

    rows = torch.arange(len(data), len(data) + len(inputs), device=inputs.device)
    told = {name: float(value) for name, value in facts.items() if value is not None}
    return Poison(rows, inputs, labels, facts={"poisons": float(len(rows))} | told)


def wrong_labels(labels: Tensor, classes: int, seed: int) -> Tensor:
    """int64 [P]: for each true label another one, drawn uniformly on the CPU."""
    import torch

    from engine.lab.randomness import torch_generator

    generator = torch_generator(seed, "wrong labels")
    shift = torch.randint(1, classes, (len(labels),), generator=generator)
    return (labels + shift.to(labels.device)) % classes
