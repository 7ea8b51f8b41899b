"""Retraining without the poison that was found: what partial discovery can reach at best."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.spec.component import Card, Method


class RetrainKnown(Method):
    """Like `retrain`, but the poison nobody found stays in. The same as `retrain` when all is."""

    name: Literal["retrain-known"] = "retrain-known"

    role: ClassVar = "retrain-known"
    reads: ClassVar = frozenset({"retain"})
    card: ClassVar = Card(
        title="Retraining without the known poison",
        summary="Exact unlearning of the forget set, where that is only a share of the poison "
        "(forget.share). A method cannot be asked to do better; the clean retraining can.",
        reference="Goel et al., Corrective Machine Unlearning, TMLR 2024",
        needs="the retain set",
        cost="the whole training, less the known poison's share",
    )
