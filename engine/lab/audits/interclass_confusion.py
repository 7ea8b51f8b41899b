"""Interclass confusion: does the model still take two classes for one another?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.subject import Measured, Subject
    from engine.lab.views import Batch


class InterclassConfusion(Audit):
    """Predictions on rows of the two confused classes, against their true labels."""

    name: Literal["interclass-confusion"] = "interclass-confusion"

    needs: ClassVar = frozenset({"confusion"})
    reads: ClassVar = frozenset({"retrain"})
    primary: ClassVar = "test_confusion"
    metrics: ClassVar = {
        "test_confusion": Metric(
            "Share of clean test rows of the two classes predicted as the other of the two: the "
            "confusion carried over to rows nobody learned.",
            direction="up", margin=0.05, span=1.0,
            blind_spots="Only these two classes, and only what shows in a prediction: a logit pulled "
            "halfway does not count. Two look-alike classes are confused without any poison: compare "
            "with retraining.",
        ),
        "test_error": Metric(
            "Share of the same rows predicted as anything but their class.", direction="up"
        ),
        "forget_confusion": Metric(
            "Share of the poisoned rows predicted as the label they were given, the wrong one.",
            direction="up",
        ),
        "forget_error": Metric(
            "Share of the poisoned rows predicted as anything but their true class.", direction="up"
        ),
        "retain_confusion": Metric(
            "Share of the correctly labelled training rows of the two classes predicted as the other "
            "of the two.",
            direction="up",
        ),
        "mcnemar_p": Metric(
            "Exact McNemar p-value that retraining errs as often on the same test rows of the two "
            "classes: only the rows on which just one of them is right count.",
            averaged=False,
        ),
        "count": Metric("Test rows of the two classes."),
    }  # fmt: skip
    card: ClassVar = Card(
        title="Interclass confusion test",
        summary="Counts rows of the two poisoned classes that are taken for the other one, on test, "
        "poisoned and retained rows.",
        reference="Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022",
        needs="the attack interclass-confusion",
        cost="a forward over rows of two classes; another one by retraining",
        deviations="confusions as shares, not counts; of all classes, not ten",
    )

    def measure(self, subject: Subject) -> Measured:
        import torch

        from engine.lab.subject import Measured
        from engine.lab.training import predictions
        from engine.lab.views import Rows

        facts = subject.poison.facts
        pair = torch.tensor([facts["first"], facts["second"]], device=subject.device).long()

        def of_the_pair(rows: Rows) -> Rows:
            return Rows(rows.data, rows.rows[torch.isin(rows.data.labels[rows.rows], pair)])

        def told(batches: list[Batch]) -> tuple[Tensor, Tensor]:
            if not batches:
                nothing = torch.empty(0, dtype=torch.long)
                return nothing, nothing
            logits, labels = predictions(subject.model, batches)
            return logits.argmax(1), labels

        test = list(of_the_pair(subject.test).batches())
        answers, labels = told(test)
        metrics: dict[str, float | None] = {
            "test_confusion": share(answers == pair.sum() - labels),
            "test_error": share(answers != labels),
            "count": float(len(labels)),
        }
        right = answers == labels
        if len(right):
            retrained, _ = predictions(subject.other("retrain"), test)
            metrics["mcnemar_p"] = mcnemar(right, retrained.argmax(1) == labels)
        else:
            metrics["mcnemar_p"] = None
        given, labels = told(list(subject.forget.batches()))  # labels as they were given: wrong
        metrics["forget_confusion"] = share(given == labels)
        metrics["forget_error"] = share(given != pair.sum() - labels)
        kept, labels = told(list(of_the_pair(subject.retain).batches()))
        metrics["retain_confusion"] = share(kept == pair.sum() - labels)
        return Measured(metrics)


def share(hits: Tensor) -> float | None:
    """Of bool [M], how many are true; None for none at all."""
    return float(hits.double().mean()) if len(hits) else None


def mcnemar(one: Tensor, other: Tensor) -> float:
    """Exact two-sided p (Psychometrika 12, 1947) that both are right equally often; bool [M] each."""
    from scipy.stats import binomtest

    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if not only_one + only_other:
        return 1.0
    return float(binomtest(only_one, only_one + only_other, 0.5).pvalue)
