"""GA: gradient ascent on the forget set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class GA(Method):
    """θ ← θ + lr ∇L_forget, the gradient clipped, the loss capped at that of guessing, log C.

    Without a cap the loss has no end: the model would be driven to infinity.
    """

    name: Literal["ga"] = "ga"
    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=1.0, gt=0, description="Largest gradient norm of a step.")
    cap: bool = Field(default=True, description="Stop climbing at the loss of guessing, log C.")
    batch_size: int = Field(default=64, ge=1)
    batchnorm: Literal["update", "frozen"] = "frozen"

    reads: ClassVar = frozenset({"forget"})
    search: ClassVar = {"lr": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)}
    card: ClassVar = Card(
        title="Gradient ascent",
        summary="Climbs the loss of the forget set. Cheap, and quick to wreck a model.",
        reference="Graves et al., AAAI 2021; Thudi et al., EuroS&P 2022",
        needs="the forget set only",
        cost="the forget set's share of 1 TEE an epoch",
        deviations="SGD, also where training used AdamW; clipped and capped; no weight decay (it "
        "would descend on the norm); BatchNorm statistics are frozen by default, else they become "
        "the forget set's",
    )

    def begin(self, task: UnlearnTask) -> None:
        task.state["optimizer"] = task.sgd(self.lr, self.momentum)

    def step(self, task: UnlearnTask) -> None:
        batch = task.forget.batch(self.batch_size)
        task.train_mode(self.batchnorm)
        loss = task.loss(batch)
        if self.cap:
            loss = loss.clamp(max=math.log(task.classes))
        task.descend(-loss, clip=self.clip)
