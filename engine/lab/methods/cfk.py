"""CF-k: fine-tune the last k layers on the retain set, the rest frozen (catastrophic forgetting)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class CFK(Method):
    """The prefix is frozen, BatchNorm statistics included; the tail trains on the retain set."""

    name: Literal["cfk"] = "cfk"
    k: int = Field(default=1, ge=1, description="Layers or blocks from the end; the head counts.")
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=128, ge=1)
    batchnorm: Literal["update", "frozen"] = Field(
        default="update", description="Running statistics of the tail; the prefix's always stay."
    )
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Passes over the retain set; default: the training's epochs.",
    )

    later: ClassVar = frozenset({"batchnorm"})
    reads: ClassVar = frozenset({"retain"})
    version: ClassVar = 3
    search: ClassVar = {"lr": (0.001, 0.003, 0.01, 0.03, 0.1)}
    card: ClassVar = Card(
        title="CF-k (catastrophically forget the last k layers)",
        summary="Fine-tunes only the end of the network on the retain set.",
        reference="Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022",
        needs="the retain set",
        cost="a whole forward and the tail's share of the backward; without augmentation the "
        "prefix is computed once where it ends in one vector a row (within a transformer: k = 1)",
        deviations="SGD, also where training used AdamW; k counts residual blocks as one; the head "
        "is always in the tail; prefix BatchNorm statistics are frozen (in reference code they "
        "drift); ends after max_epochs even where the budget would pay for thousands of passes "
        "over kept features",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.methods._tail import begin_tail

        begin_tail(task, self.k, self.batchnorm)
        task.state["optimizer"] = task.sgd(self.lr, self.momentum, self.weight_decay)

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.methods._tail import tail_loss
        from engine.lab.unlearning import Finished

        if task.retain.drawn >= (self.max_epochs or task.recipe.epochs) * len(task.retain):
            raise Finished
        task.descend(tail_loss(task, self.k, self.batch_size, self.batchnorm))
