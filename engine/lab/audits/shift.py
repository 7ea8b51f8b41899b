"""Shift: how far the weights moved, and how far they are from retraining's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from engine.lab.subject import Measured, Subject

ORDERS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}


def _metrics() -> dict[str, Metric]:
    found = {}
    for name, told in (("l1", "Sum"), ("l2", "Root of the sum of squares"), ("linf", "Largest")):
        of = "of the changes of all weights" if name != "linf" else "change of any weight"
        found[f"{name}_to_start"] = Metric(f"{told} {of} since the poisoned model.")
        found[f"{name}_to_retrain"] = Metric(
            f"{told} {of} that would lead to retraining.",
            direction="up",
            blind_spots="Weights of two equally clean trainings lie far apart (see retrain-fresh): "
            "far is not poisoned, and near is not clean.",
        )
        found[f"{name}_of_control"] = Metric(
            f"{told} {of} when as many random clean rows are left out of the training instead: "
            "what leaving out rows does by itself. Beside it, retraining's own shift is large if "
            "poison needs large changes (hypothesis 1 of Pawelczyk et al.)."
        )
    found["way_left"] = Metric(
        "L2 to retraining, as a share of that of the poisoned model: 1 is no unlearning, 0 is "
        "retraining, above 1 is further away than before.",
        direction="up",
    )
    return found


class Shift(Audit):
    """Distances in the space of weights, from start, to retraining, and of a control."""

    name: Literal["shift"] = "shift"

    reads: ClassVar = frozenset({"start", "retrain", "control"})
    metrics: ClassVar = _metrics()
    card: ClassVar = Card(
        title="Weight shift",
        summary="Measures how far the weights moved and how far away retraining is, in three norms. "
        "Describes: no verdict.",
        reference="Pawelczyk et al., ICLR 2025, §6 and Figure 5 (there for logistic regression)",
        needs="as many clean rows as poisoned ones, for the control",
        cost="the control: one more training for each attack and seed",
        deviations="any model; parameters only, not BatchNorm statistics",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.audits._weights import vector
        from engine.lab.subject import Measured

        here = vector(subject.model)
        start, retrain, control = (
            vector(subject.other(role)) for role in ("start", "retrain", "control")
        )
        metrics: dict[str, float | None] = {}
        for name, order in ORDERS.items():
            metrics[f"{name}_to_start"] = float((here - start).norm(order))
            metrics[f"{name}_to_retrain"] = float((here - retrain).norm(order))
            metrics[f"{name}_of_control"] = float((control - start).norm(order))
        whole = float((start - retrain).norm())
        metrics["way_left"] = float((here - retrain).norm()) / whole if whole > 0 else None
        return Measured(metrics)
