"""LiRA: membership by the ratio of two likelihoods, from shadows that had the row and had not."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.audits._likelihood import LikelihoodAudit
from engine.spec.component import Card


class MIALiRA(LikelihoodAudit):
    """Each poisoned row's confidence under the model, judged by shadows trained with and without it.

    A shadow learns the retained rows, half of the poison and half of as many decoys: validation
    rows under the same attack, the non-members. So it has as many rows, and as many poisoned ones,
    as the model under audit, and shadows treat members and non-members alike.
    """

    name: Literal["mia-lira"] = "mia-lira"

    reads: ClassVar = frozenset({"decoys", "shadows"})
    card: ClassVar = Card(
        title="LiRA (likelihood-ratio membership inference)",
        summary="Asks, row by row, whether the model's confidence is that of shadow models which "
        "learned the row or of those which did not.",
        reference="Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022",
        needs="an attack that can be put on other rows, and validation rows for it",
        cost="`shadows` trainings for each attack and seed, shared by all methods and budgets",
        deviations="only poison and decoys are in or out, all retained rows are in every shadow "
        "(retain_share); one variance for all rows below 64 shadows; no augmented queries",
    )
