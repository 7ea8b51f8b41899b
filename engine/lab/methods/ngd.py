"""NGD: fine-tuning on the retain set with Gaussian noise in every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods.gd import GD
from engine.spec.component import Card

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class NGD(GD):
    """θ ← θ - lr (∇L_retain + ξ), ξ ~ N(0, grad_noise_std² I).

    The noise is added beside the optimizer's step, not to the gradient: momentum would otherwise
    multiply its variance by 1/(1 - momentum²) and correlate it from step to step.
    """

    name: Literal["ngd"] = "ngd"  # type: ignore[assignment]
    grad_noise_std: float = Field(
        default=0.03, ge=0, description="Noise in gradient units: each step moves by lr × this."
    )

    search: ClassVar = {
        "lr": (0.001, 0.003, 0.01, 0.03, 0.1),
        "grad_noise_std": (0.001, 0.01, 0.1, 0.3),
    }
    card: ClassVar = Card(
        title="Noisy gradient descent",
        summary="Continues training on the retain set and blurs the weights at every step.",
        reference="Chourasia & Shah, ICML 2023; one of the methods of Pawelczyk et al., ICLR 2025",
        needs="the retain set",
        cost="as gradient descent",
        deviations="SGD, also where training used AdamW; noise is applied outside momentum; buffers "
        "are left alone",
    )

    def step(self, task: UnlearnTask) -> None:
        import torch

        super().step(task)
        if self.grad_noise_std == 0:
            return
        generator = task.generator("ngd noise")
        with torch.no_grad():
            for parameter in task.model.parameters():
                noise = torch.empty_like(parameter).normal_(generator=generator)
                parameter.add_(noise, alpha=-self.lr * self.grad_noise_std)
