"""Shrink and perturb: pull the weights towards a fresh initialisation, then fine-tune."""

from typing import ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method


class ShrinkPerturb(Method):
    """θ ← keep θ + (1 - keep) θ_fresh once, then SGD on the retain set."""

    name: Literal["shrink-perturb"] = "shrink-perturb"
    keep: float = Field(default=0.5, ge=0, le=1, description="Share of the old weights.")
    lr: float = Field(default=0.05, gt=0)
    batch_size: int = Field(default=128, ge=1)

    reads: ClassVar = frozenset({"retain"})
    card: ClassVar = Card(
        title="Shrink and perturb",
        summary="Halfway back to a fresh model, then fine-tuning on the retain set.",
        reference="Ash & Adams, NeurIPS 2020 (warm starts, not unlearning)",
        needs="the retain set",
        cost="1 TEE an epoch over the retain set",
        deviations="the fresh weights stand for their noise; buffers are left alone",
    )

    def begin(self, task):
        import torch

        with torch.no_grad():
            fresh = task.fresh_model().parameters()
            for old, new in zip(task.model.parameters(), fresh, strict=True):
                old.lerp_(new, 1 - self.keep)
        task.state["optimizer"] = task.sgd(self.lr, momentum=0.9, weight_decay=5e-4)

    def step(self, task):
        batch = task.retain.batch(self.batch_size)
        task.model.train()
        task.descend(task.loss(batch))
