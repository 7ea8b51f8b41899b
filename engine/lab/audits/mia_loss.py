"""Loss-threshold membership inference: are the poisoned rows still fitted as only members are?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.audits._membership import membership_metrics
from engine.spec.component import Audit, Card

if TYPE_CHECKING:
    from engine.lab.subject import Measured, Subject


class MIALoss(Audit):
    """A row is called a member if its loss is small.

    Members are the poisoned rows as trained on; non-members are validation rows, then test rows,
    under the same attack: with fresh noise, with the trigger and its label, with labels exchanged.
    """

    name: Literal["mia-loss"] = "mia-loss"
    nonmembers: int = Field(
        default=2000,
        ge=2,
        description="At most so many; 999 resolve a false-positive rate of .1 %.",
    )

    needs: ClassVar = frozenset({"decoys"})
    reads: ClassVar = frozenset({"decoys"})
    primary: ClassVar = "auc"
    metrics: ClassVar = membership_metrics(
        "One threshold for all rows: how hard a row is drowns whether it was learned. What a model "
        "kept of a row without fitting it better is invisible. Compare with retraining, not with "
        "0.5: other rows of the classes were learned."
    )
    card: ClassVar = Card(
        title="Membership inference by loss",
        summary="Tells poisoned rows from unseen rows in the same form by their loss alone.",
        reference="Yeom et al., Privacy Risk in Machine Learning, CSF 2018; as used in Pawelczyk et "
        "al., ICLR 2025, Figure 2",
        needs="an attack that can be put on other rows; validation rows or test rows",
        cost="one forward over the poisoned rows and the non-members",
        deviations="ranked by the log-odds of the label, which order rows as the loss does without "
        "saturating; non-members in the members' form, never clean",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.audits._membership import confidence, pieces, rates
        from engine.lab.subject import Measured

        members = confidence(subject.model, subject.forget.batches())
        others = confidence(subject.model, pieces(subject.decoys(self.nonmembers)))
        return Measured(
            rates(members, others, subject.seed), {"members": members, "nonmembers": others}
        )
