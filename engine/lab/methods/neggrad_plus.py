"""NegGrad+: descend on the retain set and climb on the forget set in the same step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods._batchnorm import OF_FORGET_STEPS, BatchNorm, Calibrating
from engine.spec.component import Card

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class NegGradPlus(Calibrating):
    """θ ← θ - lr ∇[retain_weight L_retain - forget_weight L_forget]."""

    name: Literal["neggrad-plus"] = "neggrad-plus"
    lr: float = Field(default=0.01, gt=0)
    retain_weight: float = Field(default=0.99, ge=0)
    forget_weight: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=128, ge=1)
    forget_batch_size: int = Field(default=128, ge=1)
    clip: float | None = Field(default=None, gt=0, description="Largest gradient norm of a step.")
    batchnorm: BatchNorm = Field(default="frozen", description=OF_FORGET_STEPS)

    later: ClassVar = frozenset({"batchnorm"})
    search: ClassVar = {"forget_weight": (1e-4, 1e-3, 1e-2, 5e-2), "lr": (1e-3, 1e-2)}
    card: ClassVar = Card(
        title="NegGrad+",
        summary="Fine-tunes on the retain set while pushing the forget set's loss up.",
        reference="Kurmanji et al., NeurIPS 2023 (SCRUB), baseline NegGrad+",
        needs="retain and forget sets",
        cost="the retain set's TEE plus one forget batch a step",
        deviations="SGD, also where training used AdamW; the forget batch runs with BatchNorm "
        "frozen by default; both weights are spelled out, where references use one letter for "
        "either; the forget set is reshuffled every epoch",
    )

    def begin(self, task: UnlearnTask) -> None:
        task.state["optimizer"] = task.sgd(self.lr, self.momentum, self.weight_decay)

    def step(self, task: UnlearnTask) -> None:
        retain = task.retain.batch(self.batch_size)
        forget = task.forget.batch(self.forget_batch_size)
        task.train_mode(self.retain_mode())
        loss = self.retain_weight * task.loss(retain)
        task.train_mode(self.forget_mode())
        loss = loss - self.forget_weight * task.loss(forget)
        task.descend(loss, clip=self.clip)
