"""Accuracy on every set: is the model still worth having?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.subject import Measured, Subject


class Accuracy(Audit):
    """Share of correct predictions, a fraction, on the test, validation, retain and forget sets; of
    the test set also by class, and how far its confidence can be believed."""

    name: Literal["accuracy"] = "accuracy"

    version: ClassVar = 2  # classes and calibration were added; the rest is what it was
    primary: ClassVar = "test_accuracy"
    metrics: ClassVar = {
        "test_accuracy": Metric(
            "On clean test rows. Utility: 2 points below retraining is called wrecked.",
            direction="down", margin=0.02, span=1.0,
            blind_spots="A backdoor or a targeted poison leaves it untouched: equal accuracy does "
            "not mean that poison is gone.",
        ),
        "validation_accuracy": Metric("On clean rows cut off before poisoning.", direction="down"),
        "retain_accuracy": Metric("On the rows that stay, as trained on."),
        "forget_accuracy": Metric("On the poisoned rows, as trained on: poisoned input and label."),
        "class_accuracy": Metric(
            "On clean test rows of one class: class_accuracy.3 is class 3's, the share of its rows "
            "predicted right. Empty for a class without test rows.",
            direction="down",
        ),
        "worst_class_accuracy": Metric(
            "The smallest of them: a method that gives up one class hides in the mean.",
            direction="down",
            blind_spots="A minimum over classes is low by chance when classes are small: compare with "
            "retraining's, never with the mean.",
        ),
        "test_ece": Metric(
            "Expected calibration error on clean test rows: mean distance of confidence and accuracy "
            "over 15 equal bins of confidence, weighted by rows. 0 is calibrated.",
            blind_spots="It looks at the predicted class only, and is biased upwards when a bin holds "
            "few rows.",
        ),
    }  # fmt: skip
    card: ClassVar = Card(
        title="Accuracy",
        summary="Correct predictions on test, validation, retain and forget sets.",
        reference="standard",
        cost="one forward over each set",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.subject import Measured
        from engine.lab.training import accuracy, predictions

        metrics: dict[str, float | None] = {}
        for name in ("validation", "retain", "forget"):
            rows = getattr(subject, name)
            metrics[f"{name}_accuracy"] = accuracy(subject.model, rows.batches()) if rows else None
        if not subject.test:
            return Measured(metrics | dict.fromkeys(("test_accuracy", *OF_TEST)))
        logits, labels = predictions(subject.model, subject.test.batches())
        right = (logits.argmax(1) == labels).double()
        metrics["test_accuracy"] = float(right.mean())
        by_class = [right[labels == label] for label in range(subject.classes)]
        means = [float(rows.mean()) if len(rows) else None for rows in by_class]
        metrics |= {f"class_accuracy.{label}": mean for label, mean in enumerate(means)}
        metrics["worst_class_accuracy"] = min(mean for mean in means if mean is not None)
        metrics["test_ece"] = calibration_error(logits, labels)
        return Measured(metrics)


OF_TEST = ("worst_class_accuracy", "test_ece")


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error (Guo et al., ICML 2017) of logits [M, K] on labels int64 [M]."""
    import torch

    confidence, predicted = logits.double().softmax(1).max(1)
    surplus = confidence - (predicted == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins (lower, upper]
    total = torch.zeros(bins, dtype=torch.float64, device=place.device)
    total.index_add_(0, place, surplus)
    return float(total.abs().sum() / len(labels))
