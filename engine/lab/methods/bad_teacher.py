"""Bad teacher: imitate an ignorant network on the forget set and the old model on the retain set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods._batchnorm import OF_FORGET_STEPS, BatchNorm, Calibrating
from engine.spec.component import Card

if TYPE_CHECKING:
    import torch

    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch


class BadTeacher(Calibrating):
    """Descend on KL(teacher ‖ student): a random network teaches F, the poisoned model teaches R.

    Steps on R and on F are spread evenly. A round is one pass over the forget set and over
    `retain_share` of the retain set; the next round takes the next part of the retain set.
    """

    name: Literal["bad-teacher"] = "bad-teacher"
    lr: float = Field(default=1e-4, gt=0, description="Of Adam.")
    retain_share: float = Field(
        default=0.3, ge=0, le=1, description="Of the retain set, seen for one pass over F."
    )
    temperature: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=256, ge=1)
    batchnorm: BatchNorm = Field(default="frozen", description=OF_FORGET_STEPS)

    search: ClassVar = {"lr": (1e-4, 3e-4)}
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Bad teacher",
        summary="Distils ignorance into the forget set from a random network, and competence into "
        "the retain set from the poisoned model.",
        reference="Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023",
        needs="retain and forget sets",
        cost="4/3 of training for every row drawn (one teacher's forward)",
        deviations="the divergence is averaged over rows, not over rows × classes (the default "
        "reduction of the reference code, which divides the rate by the number of classes); "
        "separate steps for R and F instead of mixed batches; a new part of R every round; goes on "
        "to the budget's end; the student is in train mode",
    )

    def begin(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.unlearning import frozen_copy

        parameters = [p for p in task.model.parameters() if p.requires_grad]
        task.state["optimizer"] = torch.optim.Adam(parameters, lr=self.lr, fused=True)
        task.state["competent"] = frozen_copy(task.model)
        task.state["ignorant"] = frozen_copy(task.fresh_model())

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.meter import FORWARD, TRAIN

        forget = self.forget_turn(task)
        source = task.forget if forget else task.retain
        batch = source.batch(self.batch_size, TRAIN + FORWARD)
        task.train_mode(self.forget_mode() if forget else self.retain_mode())
        teacher = task.state["ignorant" if forget else "competent"]
        task.descend(self.divergence(task, batch, teacher))

    def forget_turn(self, task: UnlearnTask) -> bool:
        """Whether this step is a forget step: they are spread evenly over a round."""
        retain = math.ceil(self.retain_share * task.retain.batches_per_epoch(self.batch_size))
        forget = task.forget.batches_per_epoch(self.batch_size)
        done = task.steps % (retain + forget)
        return (done + 1) * forget // (retain + forget) > done * forget // (retain + forget)

    def divergence(self, task: UnlearnTask, batch: Batch, teacher: torch.nn.Module) -> torch.Tensor:
        """KL(teacher ‖ student) at the temperature, mean over rows."""
        import torch
        from torch.nn.functional import kl_div, log_softmax

        with torch.no_grad():
            told = log_softmax(task.logits(batch, teacher).float() / self.temperature, 1)
        student = log_softmax(task.logits(batch).float() / self.temperature, 1)
        return kl_div(student, told, reduction="batchmean", log_target=True)
