"""Relabelling (amnesiac unlearning): teach the forget set random other labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods._batchnorm import OF_FORGET_STEPS, BatchNorm, Calibrating
from engine.spec.component import Card

if TYPE_CHECKING:
    import torch

    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch

Rule = Literal["exclude-trained", "uniform", "runner-up"]


class Relabel(Calibrating):
    """Cross-entropy on retained rows and on forget rows with new labels, steps interleaved.

    After every round of retain steps comes one forget step, so that both sets finish their epochs
    together, wherever the budget ends.
    """

    name: Literal["relabel"] = "relabel"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=128, ge=1)
    labels: Rule = Field(
        default="exclude-trained",
        description="New labels: random but never the trained one; uniform over all; or the "
        "poisoned model's best other class.",
    )
    batchnorm: BatchNorm = Field(default="frozen", description=OF_FORGET_STEPS)

    search: ClassVar = {"lr": (1e-3, 3e-3, 1e-2, 3e-2)}
    card: ClassVar = Card(
        title="Relabelling (amnesiac)",
        summary="Trains the forget set on wrong labels while training the retain set on its own.",
        reference="Graves et al., Amnesiac Machine Learning, AAAI 2021; Golatkar et al., CVPR 2020",
        needs="retain and forget sets",
        cost="1 TEE an epoch over both",
        deviations="SGD, also where training used AdamW; BatchNorm's statistics stand still in "
        "forget steps by default; retain and forget steps alternate instead of one shuffled "
        "union; labels are drawn anew for every batch",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.unlearning import frozen_copy

        task.state["optimizer"] = task.sgd(self.lr, self.momentum, self.weight_decay)
        if self.labels == "runner-up":
            task.state["start"] = frozen_copy(task.model)

    def step(self, task: UnlearnTask) -> None:
        if forget_turn(task, self.batch_size):
            batch = task.forget.batch(self.batch_size, price=self._forget_price())
            task.train_mode(self.forget_mode())
            labels = self.new_labels(task, batch)
            task.descend(task.loss_of(task.logits(batch), labels))
        else:
            batch = task.retain.batch(self.batch_size)
            task.train_mode(self.retain_mode())
            task.descend(task.loss(batch))

    def _forget_price(self) -> float:
        from engine.lab.meter import FORWARD, TRAIN

        return TRAIN + FORWARD if self.labels == "runner-up" else TRAIN

    def new_labels(self, task: UnlearnTask, batch: Batch) -> torch.Tensor:
        """int64 [B] by the rule; random numbers of this step's own."""
        import torch

        if self.labels == "runner-up":
            with torch.no_grad():
                logits = task.logits(batch, task.state["start"]).float()
            own = torch.nn.functional.one_hot(batch.labels, task.classes).bool()
            return logits.masked_fill(own, -torch.inf).argmax(1)
        choices = task.classes - (self.labels == "exclude-trained")
        drawn = torch.randint(
            choices, batch.labels.shape, generator=task.generator("labels"), device=task.device
        )
        if self.labels == "exclude-trained":
            drawn += drawn >= batch.labels
        return drawn


def forget_turn(task: UnlearnTask, size: int, forget_size: int | None = None) -> bool:
    """Whether this step is a forget step: one after each round of retain steps, rounds so long
    that the forget set is seen once in an epoch of the retain set."""
    retain = task.retain.batches_per_epoch(size)
    forget = task.forget.batches_per_epoch(forget_size or size)
    done = task.steps % (retain + forget)
    # Bresenham's line: forget steps spread evenly, each after its share of the retain steps.
    return (done + 1) * forget // (retain + forget) > done * forget // (retain + forget)
