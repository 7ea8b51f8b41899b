"""Agreement with retraining: do the two models say the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.subject import Measured, Subject


def _metrics() -> dict[str, Metric]:
    found = {}
    for name, rows in (("test", "clean test rows"), ("forget", "poisoned rows, as trained on")):
        found[f"{name}_agreement"] = Metric(
            f"Share of {rows} on which model and retraining predict the same class.",
            direction="down",
            blind_spots="Two retrainings agree on less than everything: the row of retrain-fresh "
            "says on how much. Agreement on rows without the trigger says nothing of a backdoor.",
        )
        found[f"{name}_kl"] = Metric(
            f"Mean over {rows} of KL(retraining ‖ model) in nats; 0 if they say the same.",
            direction="up",
        )
        found[f"{name}_js"] = Metric(
            f"Mean over {rows} of the Jensen-Shannon divergence in nats: symmetric, at most log 2.",
            direction="up",
        )
    return found


class Agreement(Audit):
    """Predictions and predicted probabilities beside those of retraining with the same seed."""

    name: Literal["agreement"] = "agreement"

    reads: ClassVar = frozenset({"retrain"})
    metrics: ClassVar = _metrics()
    card: ClassVar = Card(
        title="Agreement with retraining",
        summary="Compares predictions with those of retraining from scratch, on test and poisoned "
        "rows. Describes: no verdict, for no two trainings agree on all.",
        reference="Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020; divergences as "
        "in Chundawat et al., AAAI 2023, without its rescaling",
        cost="a forward over test and poisoned rows by both models",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.subject import Measured
        from engine.lab.training import predictions

        retrained = subject.other("retrain")
        metrics: dict[str, float | None] = dict.fromkeys(self.metrics)
        for name in ("test", "forget"):
            rows = getattr(subject, name)
            if not len(rows):
                continue
            mine, theirs = (predictions(m, rows.batches())[0] for m in (subject.model, retrained))
            kl, js = divergences(theirs, mine)
            same = mine.argmax(1) == theirs.argmax(1)
            metrics[f"{name}_agreement"] = float(same.double().mean())
            metrics |= {f"{name}_kl": float(kl.mean()), f"{name}_js": float(js.mean())}
        return Measured(metrics)


def divergences(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """KL(reference ‖ other) and Jensen-Shannon, float64 [M] in nats, from logits [M, K].

    Never below zero: rounding aside, neither can be.
    """
    import torch

    p, q = (logits.double().log_softmax(1) for logits in (reference, other))
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=torch.float64))

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a.exp() * (a - b)).sum(1).clamp(min=0)

    return kl(p, q), (kl(p, middle) + kl(q, middle)) / 2
