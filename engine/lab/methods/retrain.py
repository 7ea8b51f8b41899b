"""Retraining from scratch without the poison: the reference every method is compared with."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.spec.component import Card, Method


class Retrain(Method):
    """A fresh model trained on the retained rows, by the same recipe and from the same seed."""

    name: Literal["retrain"] = "retrain"

    role: ClassVar = "retrain"
    reads: ClassVar = frozenset({"retain"})
    card: ClassVar = Card(
        title="Retraining",
        summary="Trains anew without the poisoned rows, with the same initial weights as the "
        "poisoned model. Exact unlearning, at full price.",
        reference="baseline (exact unlearning)",
        needs="the retain set",
        cost="the whole training, less the forget set's share",
        deviations="every layer starts anew, buffers included; epochs are kept, not steps",
    )
