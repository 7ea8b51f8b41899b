"""GD: go on training on the retain set and hope that the rest is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods._batchnorm import ALWAYS, BatchNorm, Calibrating
from engine.spec.component import Card

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class GD(Calibrating):
    """θ ← θ - lr (∇L_retain + weight_decay θ), with momentum."""

    name: Literal["gd"] = "gd"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=128, ge=1)
    batchnorm: BatchNorm = Field(default="update", description=ALWAYS)

    later: ClassVar = frozenset({"batchnorm"})
    reads: ClassVar = frozenset({"retain"})
    search: ClassVar = {"lr": (0.001, 0.003, 0.01, 0.03, 0.1)}
    card: ClassVar = Card(
        title="Gradient descent (fine-tuning)",
        summary="Continues training on the retain set only.",
        reference="Golatkar et al., CVPR 2020; one of the methods of Pawelczyk et al., ICLR 2025",
        needs="the retain set",
        cost="1 TEE an epoch over the retain set, less the forget set's share",
        deviations="SGD, also where training used AdamW",
    )

    def begin(self, task: UnlearnTask) -> None:
        task.state["optimizer"] = task.sgd(self.lr, self.momentum, self.weight_decay)

    def step(self, task: UnlearnTask) -> None:
        batch = task.retain.batch(self.batch_size)
        task.train_mode("update" if self.batchnorm == "update" else "frozen")
        task.descend(task.loss(batch))
