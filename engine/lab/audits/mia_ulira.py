"""U-LiRA: LiRA whose shadows went through the same unlearning as the model under audit."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.lab.audits._likelihood import LikelihoodAudit
from engine.spec.component import Card


class MIAULiRA(LikelihoodAudit):
    """mia-lira against the method at hand: "in" is learned and then unlearned, "out" never learned.

    Each shadow unlearns its halves of poison and decoys (as many rows as the model under audit
    forgets) by the same method, keys and budget, with other random numbers. Both sides went through
    it, so what the method does to every row cancels and what it leaves of the row itself does not.
    Models that nothing was unlearned from (none, retrain, retrain-fresh) are judged as in mia-lira.
    """

    name: Literal["mia-ulira"] = "mia-ulira"

    reads: ClassVar = frozenset({"decoys", "unlearned-shadows"})
    card: ClassVar = Card(
        title="U-LiRA (likelihood ratios after unlearning)",
        summary="Asks, row by row, whether the model's confidence is that of shadows which learned "
        "and unlearned the row by this method, or of those which never learned it.",
        reference="Hayes et al., Inexact Unlearning Needs More Careful Evaluations to Avoid a False "
        "Sense of Privacy, 2024; Kurmanji et al., NeurIPS 2023",
        needs="an attack that can be put on other rows, and validation rows for it",
        cost="`shadows` trainings for each attack and seed (those of mia-lira), and as many "
        "unlearnings for each method and budget",
        deviations="no unlearning and retraining are judged by mia-lira's shadows, as nothing was "
        'unlearned there; "out" shadows are unlearned too, of other rows; one variance for all '
        "rows below 64 shadows",
    )
