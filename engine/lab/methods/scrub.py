"""SCRUB: a student that obeys its teacher on the retain set and flees it on the forget set."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods._batchnorm import OF_FORGET_STEPS, BatchNorm, Calibrating, recalibrated
from engine.lab.methods.relabel import forget_turn
from engine.spec.component import Card

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch

CHECKPOINT = "checkpoint/"


class SCRUB(Calibrating):
    """max over F and min over R of d = T² KL(teacher ‖ student), plus cross-entropy on R.

    Retain step: descend on ce_weight·CE + kl_weight·d. Forget step: climb d. The teacher is the
    poisoned model, in eval mode. Forget steps end after `max_epochs` passes over the forget set.
    """

    name: Literal["scrub"] = "scrub"
    lr: float = Field(default=5e-4, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    ce_weight: float = Field(default=0.99, ge=0, description="γ of the paper.")
    kl_weight: float = Field(default=0.001, ge=0, description="α of the paper.")
    temperature: float = Field(default=4.0, gt=0)
    max_epochs: int = Field(default=2, ge=0, description="Passes over the forget set (msteps).")
    batch_size: int = Field(default=128, ge=1)
    forget_batch_size: int = Field(default=128, ge=1)
    batchnorm: BatchNorm = Field(default="update", description=OF_FORGET_STEPS)
    rewind: bool = Field(
        default=False,
        description="SCRUB+R: hand out the checkpoint whose forget error is nearest to the final "
        "model's error on validation rows of the forget set's classes.",
    )

    search: ClassVar = {
        "kl_weight": (0.001, 0.05, 0.5),
        "ce_weight": (0.6, 0.99, 1.0),
        "lr": (5e-4, 5e-3),
    }
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="SCRUB",
        summary="Distils the retain set from the poisoned model and drives predictions on the "
        "forget set away from it; with rewind, not further than unseen data would go.",
        reference="Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023",
        needs="retain and forget sets; rewind also validation rows",
        cost="4/3 of training for every row drawn (teacher's forward)",
        deviations="SGD, also where training used AdamW; retain steps go on to the budget's end; "
        "forget steps are spread among retain steps instead of whole passes, and come "
        "after retain steps: at the teacher itself the divergence has no gradient; no decay of the "
        "rate; no smoothing term (reference code configures it and never applies it)",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.unlearning import frozen_copy

        task.state["optimizer"] = task.sgd(self.lr, self.momentum, self.weight_decay)
        task.state["teacher"] = frozen_copy(task.model)

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.meter import FORWARD, TRAIN

        price = TRAIN + FORWARD
        passes = task.forget.drawn // len(task.forget)
        turn = forget_turn(task, self.batch_size, self.forget_batch_size)
        if turn and passes < self.max_epochs:
            batch = task.forget.batch(self.forget_batch_size, price)
            task.train_mode(self.forget_mode())
            task.descend(-self.divergence(task, batch, task.logits(batch).float()))
        else:
            # Without a divergence to compute there is no teacher to pay for.
            batch = task.retain.batch(self.batch_size, price if self.kl_weight else TRAIN)
            task.train_mode(self.retain_mode())
            task.descend(self.retain_loss(task, batch))
        if self.rewind and turn and task.forget.rows_left() == 0:
            self._keep(task)

    def retain_loss(self, task: UnlearnTask, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits = task.logits(batch).float()
        loss = self.ce_weight * cross_entropy(logits, batch.labels)
        if self.kl_weight:
            loss = loss + self.kl_weight * self.divergence(task, batch, logits)
        return loss

    def divergence(self, task: UnlearnTask, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        """T² KL(teacher ‖ student) at temperature T, mean over the batch."""
        import torch
        from torch.nn.functional import kl_div, log_softmax

        with torch.no_grad():
            told = task.logits(batch, task.state["teacher"]).float()
        student = log_softmax(logits / self.temperature, 1)
        teacher = log_softmax(told / self.temperature, 1)
        return self.temperature**2 * kl_div(
            student, teacher, reduction="batchmean", log_target=True
        )

    # --- rewind ----------------------------------------------------------------------------------

    def _keep(self, task: UnlearnTask) -> None:
        from engine.lab.unlearning import frozen_copy

        kept = sum(name.startswith(CHECKPOINT) for name in task.state)
        if kept < self.max_epochs:
            task.state[f"{CHECKPOINT}{kept}"] = frozen_copy(task.model)

    def reserve(self, task: UnlearnTask) -> float:
        from engine.lab.meter import FORWARD

        calibration = super().reserve(task)
        if not self.rewind:
            return calibration
        rows = (self.max_epochs + 1) * len(task.forget) + len(task.validation)
        return rows * FORWARD / task.meter.rows + calibration

    def finish(self, task: UnlearnTask) -> torch.nn.Module | None:
        best = self._rewound(task) if self.rewind else task.model
        if self._recalibrates(best):
            return recalibrated(task, best)
        return None if best is task.model else best

    def _rewound(self, task: UnlearnTask) -> torch.nn.Module:
        """The checkpoint, or the last model, whose forget error is nearest to the target."""
        import torch

        from engine.lab.meter import FORWARD

        trained = torch.cat([b.labels for b in task.forget.every(1024, price=0.0)])
        labels = torch.unique(trained)
        target = _error(task.model, task.validation.every(1024, FORWARD), labels)
        checkpoints = [task.state[n] for n in sorted(task.state) if n.startswith(CHECKPOINT)]
        candidates = [*checkpoints, task.model]
        gaps = [
            abs(_error(model, task.forget.every(1024, FORWARD), labels) - target)
            for model in candidates
        ]
        found: torch.nn.Module = candidates[gaps.index(min(gaps))]
        return found


def _error(model: torch.nn.Module, batches: Iterable[Batch], classes: torch.Tensor) -> float:
    """Share of wrong predictions among rows whose label is one of `classes`."""
    import torch

    from engine.lab.training import predictions

    logits, labels = predictions(model, batches)
    asked = torch.isin(labels, classes)
    return float((logits.argmax(1) != labels)[asked].double().mean()) if asked.any() else 0.0
