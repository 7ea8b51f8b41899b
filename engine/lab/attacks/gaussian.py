"""Gaussian poison: noise on a few inputs, labels kept. The auditor's own, and hard to hide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Attack, Card, Knowledge

if TYPE_CHECKING:
    import torch

    from engine.lab.subject import Subject
    from engine.lab.views import Poison, TrainingSet


class Gaussian(Attack):
    """x' = x + ξ with ξ ~ N(0, noise_std² I) in raw space, neither clipped nor rounded."""

    name: Literal["gaussian"] = "gaussian"
    share: float = Field(default=0.05, gt=0, lt=1, description="Share of the training rows.")
    noise_std: float = Field(
        default=0.31, gt=0, description="Per pixel, in [0, 1] units (.31: MNIST, .14: CIFAR-10)."
    )

    gives: ClassVar = frozenset({"noise", "decoys"})
    knows: ClassVar = Knowledge(
        controls="inputs of random rows; not their labels",
        training_data="the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="nothing",
    )
    card: ClassVar = Card(
        title="Gaussian poison",
        summary="Adds secret Gaussian noise to a share of the training inputs and keeps the labels. "
        "A model that learned from them has gradients that lean against the noise.",
        reference="Pawelczyk et al., Machine Unlearning Fails to Remove Data Poisoning Attacks, "
        "ICLR 2025, §4.1 and Algorithm 2",
        needs="control over the inputs of the poisoned rows; the noise is kept for the audit",
        cost="none beyond training",
        deviations="noise lives in [0, 1] pixel space; augmentation leaves poisoned rows alone",
    )

    def selection(self) -> dict[str, Any]:
        return {"share": self.share}

    def craft(self, data: TrainingSet, rows: torch.Tensor, seed: int) -> Poison:
        import torch

        from engine.lab.randomness import torch_generator
        from engine.lab.views import Poison

        base = data.base(rows)
        # Drawn on the CPU, so that every device gets the same noise.
        drawn = torch.randn(base.shape, generator=torch_generator(seed, "gaussian noise"))
        inputs = base + self.noise_std * drawn.to(base.device)
        return Poison(
            rows=rows,
            inputs=inputs,
            labels=data.labels[rows],
            extras={"noise": inputs - base},  # what was really added, after rounding to float32
            movable=False,
            facts={"noise_std": self.noise_std},
        )

    def decoys(self, data: TrainingSet, rows: torch.Tensor, poison: Poison, seed: int) -> Poison:
        return self.craft(data, rows, seed)

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        from engine.lab.audits.gaussian import glimpse

        return {"gaussian": glimpse(subject)}
