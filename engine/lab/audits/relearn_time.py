"""Relearn time: how soon does the model fit the poison again?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from torch import nn

    from engine.lab.subject import Measured, Subject
    from engine.lab.views import Rows


class RelearnTime(Audit):
    """Trains a copy on the poisoned rows until their loss is back near the poisoned model's.

    The same optimizer, order and batches for every model, in eval mode (BatchNorm frozen, no
    dropout): what differs is where it starts.
    """

    name: Literal["relearn-time"] = "relearn-time"
    lr: float = Field(default=0.01, gt=0, description="Of SGD, the same for every model.")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=32, ge=1)
    slack: float = Field(
        default=0.05, ge=0, description="Done at (1 + slack) × the poisoned model's loss."
    )
    most_epochs: int = Field(default=20, ge=1, description="Passes over the poisoned rows at most.")

    reads: ClassVar = frozenset({"start"})
    metrics: ClassVar = {
        "relearn_epochs": Metric(
            "Passes over the poisoned rows until their loss is within the slack of the poisoned "
            "model's, in quarters; the most allowed if it never was (see capped). 0: it never left.",
            direction="down",
            blind_spots="A clean model may learn easy rows just as fast: compare with retraining. A "
            "wrecked model is slow at anything. With a cap, averages are lower bounds.",
        ),
        "capped": Metric("1 if the level was not reached within most_epochs, else 0."),
        "level": Metric("The loss to reach: (1 + slack) × the poisoned model's on these rows."),
        "loss_before": Metric("Loss on the poisoned rows before relearning.", direction="down"),
        "loss_after": Metric("Loss on the poisoned rows at the end.", direction="down"),
    }
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Relearn time",
        summary="Fine-tunes a copy on the poisoned rows and counts passes until it fits them as the "
        "poisoned model did. Describes: no verdict.",
        reference="Golatkar et al., CVPR 2020; anamnesis index: Chundawat et al., "
        "Zero-Shot Machine Unlearning, TIFS 2023; level as in Goel et al., 2022",
        needs="the poisoned rows",
        cost="up to most_epochs passes over the poisoned rows, and four looks a pass",
        deviations="constant learning rate; BatchNorm statistics frozen",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.subject import Measured

        level = (1 + self.slack) * loss_on(subject.other("start"), subject.forget)
        before = loss_on(subject.model, subject.forget)
        epochs, after = self._relearn(subject, level, before)
        return Measured(
            {
                "relearn_epochs": epochs,
                "capped": float(after > level),
                "level": level,
                "loss_before": before,
                "loss_after": after,
            }
        )

    def _relearn(self, subject: Subject, level: float, loss: float) -> tuple[float, float]:
        """(passes, loss at their end)."""
        import copy
        import math

        import torch
        from torch.nn.functional import cross_entropy

        from engine.lab.randomness import permutation

        model = copy.deepcopy(subject.model).eval()
        parameters = [p.requires_grad_(True) for p in model.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum)
        rows = subject.forget
        steps = math.ceil(len(rows) / self.batch_size)
        stride = max(1, steps // 4)
        for epoch in range(self.most_epochs):
            order = permutation(len(rows), subject.seed, "relearn", epoch).to(rows.rows.device)
            for step in range(steps):
                if loss <= level:
                    return epoch + step / steps, loss
                part = order[step * self.batch_size : (step + 1) * self.batch_size]
                inputs, labels = next(rows.data.batches(rows.rows[part], len(part)))
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                if (step + 1) % stride == 0 or step + 1 == steps:
                    loss = loss_on(model, rows)
                    if not math.isfinite(loss):
                        return float(self.most_epochs), float("inf")
        return float(self.most_epochs), loss


def loss_on(model: nn.Module, rows: Rows) -> float:
    """Mean cross-entropy in eval mode, float64."""
    from torch.nn.functional import cross_entropy

    from engine.lab.training import predictions

    logits, labels = predictions(model, rows.batches())
    return float(cross_entropy(logits.double(), labels))
