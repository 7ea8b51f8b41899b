"""Accuracy on every set: is the model still worth having?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from engine.lab.subject import Measured, Subject


class Accuracy(Audit):
    """Share of correct predictions, a fraction, on the test, validation, retain and forget sets."""

    name: Literal["accuracy"] = "accuracy"

    primary: ClassVar = "test_accuracy"
    metrics: ClassVar = {
        "test_accuracy": Metric(
            "On clean test rows. Utility: 2 points below retraining is called wrecked.",
            direction="down", margin=0.02,
            blind_spots="A backdoor or a targeted poison leaves it untouched: equal accuracy does "
            "not mean that poison is gone.",
        ),
        "validation_accuracy": Metric("On clean rows cut off before poisoning.", direction="down"),
        "retain_accuracy": Metric("On the rows that stay, as trained on."),
        "forget_accuracy": Metric("On the poisoned rows, as trained on: poisoned input and label."),
    }  # fmt: skip
    card: ClassVar = Card(
        title="Accuracy",
        summary="Correct predictions on test, validation, retain and forget sets.",
        reference="standard",
        cost="one forward over each set",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.subject import Measured
        from engine.lab.training import accuracy

        metrics: dict[str, float | None] = {}
        for name in ("test", "validation", "retain", "forget"):
            rows = getattr(subject, name)
            metrics[f"{name}_accuracy"] = accuracy(subject.model, rows.batches()) if rows else None
        return Measured(metrics)
