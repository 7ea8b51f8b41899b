"""Accuracy by class, and calibration: sums that must agree, and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.lab.audits.accuracy import Accuracy, calibration_error
from engine.results.explain import explain
from engine.results.tidy import metric_of, registered_audits
from engine.spec.errors import BadInput
from tests.lab.toys import CLASSES, toy_model, toy_set, toy_subject


def test_the_classes_accuracies_weigh_up_to_the_whole() -> None:
    subject = toy_subject(toy_model(), toy_set())
    told = Accuracy().measure(subject).metrics
    sizes = torch.bincount(subject.test.data.labels, minlength=CLASSES)
    parts = [told[f"class_accuracy.{label}"] for label in range(CLASSES)]
    whole = sum(p * int(n) for p, n in zip(parts, sizes, strict=True)) / int(sizes.sum())
    assert told["test_accuracy"] == pytest.approx(whole)
    assert told["worst_class_accuracy"] == min(parts)


class Always(nn.Module):
    """One class for every row, with a given confidence."""

    def __init__(self, label: int, confidence: float) -> None:
        super().__init__()
        chances = torch.full((CLASSES,), (1 - confidence) / (CLASSES - 1))
        chances[label] = confidence
        self.logits = nn.Parameter(chances.log())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits.expand(len(inputs), -1)


def test_a_model_of_one_answer_knows_one_class() -> None:
    told = Accuracy().measure(toy_subject(Always(1, 0.9), toy_set())).metrics
    assert [told[f"class_accuracy.{label}"] for label in range(CLASSES)] == [0, 1, 0]
    assert told["test_accuracy"] == pytest.approx(1 / 3) and told["worst_class_accuracy"] == 0
    assert told["test_ece"] == pytest.approx(0.9 - 1 / 3, abs=1e-6)


def test_a_class_without_test_rows_has_no_accuracy() -> None:
    data = toy_set()
    data.labels[data.labels == 2] = 0
    subject = toy_subject(toy_model(), data)
    told = Accuracy().measure(subject).metrics
    assert told["class_accuracy.2"] is None and told["worst_class_accuracy"] is not None


def test_confidence_that_comes_true_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand(40_000, 3, generator=generator, dtype=torch.float64)
    chances /= chances.sum(1, keepdim=True)
    labels = torch.multinomial(chances, 1, generator=generator).flatten()
    assert calibration_error(chances.log(), labels) < 15 * (0.25 / 40_000) ** 0.5
    assert calibration_error(20 * chances.log(), labels) > 0.2


def test_calibration_ignores_the_order_of_rows_and_classes() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(90, 3), torch.arange(90) % 3
    plain = calibration_error(logits, labels)
    order, classes = torch.randperm(90), torch.tensor([2, 0, 1])
    assert calibration_error(logits[order], labels[order]) == pytest.approx(plain)
    assert calibration_error(logits[:, classes.argsort()], classes[labels]) == pytest.approx(plain)


def test_one_class_is_explained_as_the_family() -> None:
    audits = registered_audits()
    page = explain("class_accuracy.7", audits)
    assert page == explain("accuracy.class_accuracy.7", audits) == explain("class_accuracy", audits)
    assert metric_of(audits["accuracy"], "class_accuracy.7") == Accuracy.metrics["class_accuracy"]
    with pytest.raises(BadInput):
        explain("class_accurac.7", audits)


def test_every_metric_of_every_audit_is_explained() -> None:
    audits = registered_audits()
    for name, audit in audits.items():
        for metric in audit.metrics:
            assert explain(f"{name}.{metric}", audits).startswith(f"{name}.{metric}\n")
