"""Retraining again from another seed: how far apart two clean models are by chance."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.spec.component import Card, Method


class RetrainFresh(Method):
    """Like `retrain`, with other initial weights and another order. Judged like a method."""

    name: Literal["retrain-fresh"] = "retrain-fresh"

    role: ClassVar = "retrain-fresh"
    reads: ClassVar = frozenset({"retain"})
    card: ClassVar = Card(
        title="Retraining, fresh seed",
        summary="The yardstick: a perfect unlearner that shares nothing with the reference but "
        "the data. Called residue in more than about one run of twenty, the audit is wrong.",
        reference="control",
        needs="the retain set",
        cost="the whole training, less the forget set's share",
    )
