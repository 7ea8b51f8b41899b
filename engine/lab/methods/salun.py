"""SalUn: relabelling that may move only the weights the forget set's gradient points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods.relabel import Relabel, Rule
from engine.spec.component import Card

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask

MASK = "mask/"


class SalUn(Relabel):
    """Relabel under a saliency mask: the `share` of all weights with the largest |Σ ∇L_forget|."""

    name: Literal["salun"] = "salun"  # type: ignore[assignment]
    share: float = Field(default=0.5, ge=0, le=1, description="Of all weights, left free to move.")
    lr: float = Field(default=0.01, gt=0)
    labels: Rule = "uniform"

    version: ClassVar = 2  # snapshots keep the momentum off the mask, too
    search: ClassVar = {"share": (0.1, 0.5), "lr": (5e-3, 1.3e-2)}
    card: ClassVar = Card(
        title="SalUn (saliency unlearning)",
        summary="Finds the weights most salient for the forget set, then relabels within them.",
        reference="Fan et al., SalUn, ICLR 2024",
        needs="retain and forget sets",
        cost="one pass over the forget set for the mask, then 1 TEE an epoch over both",
        deviations="SGD, also where training used AdamW; BatchNorm's statistics stand still in "
        "forget steps by default; weights outside the mask are restored after every step (weight "
        "decay and momentum moved them in early reference code); steps interleave",
    )

    def begin(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.unlearning import frozen_copy

        parameters = dict(task.model.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        task.model.eval()
        for batch in task.forget.every(self.batch_size):
            loss = task.loss_of(task.logits(batch), batch.labels, reduction="sum")
            grads = torch.autograd.grad(loss, list(parameters.values()))
            for name, grad in zip(parameters, grads, strict=True):
                total[name] += grad
        # |sum|, not the sum of |…|: directions on which the rows disagree cancel.
        flat = torch.cat([grad.abs().flatten() for grad in total.values()])
        chosen = torch.zeros_like(flat, dtype=torch.bool)
        chosen[flat.topk(int(self.share * flat.numel())).indices] = True
        parts = torch.split(chosen, [p.numel() for p in parameters.values()])
        super().begin(task)
        task.state["start"] = frozen_copy(task.model)
        for (name, parameter), part in zip(parameters.items(), parts, strict=True):
            task.state[MASK + name] = part.view_as(parameter).clone()

    def step(self, task: UnlearnTask) -> None:
        import torch

        super().step(task)
        start = dict(task.state["start"].named_parameters())
        with torch.no_grad():
            for name, parameter in task.model.named_parameters():
                mask = task.state[MASK + name]
                parameter.copy_(torch.where(mask, parameter, start[name]))
