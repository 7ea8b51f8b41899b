"""Alignment: does the update point to where retraining lies?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from engine.lab.subject import Measured, Subject


class Alignment(Audit):
    """Cosines of the update θ - θ_start with directions that a method could or should take."""

    name: Literal["alignment"] = "alignment"

    reads: ClassVar = frozenset({"start", "retrain", "control"})
    metrics: ClassVar = {
        "cos_retrain": Metric(
            "Cosine of the update with the way to retraining, θ_retrain - θ_start: 1 is straight "
            "there. Empty for a model that did not move.",
            direction="down",
            blind_spots="Direction only: a step of no length may point right. Outside convex models "
            "there are many clean optima, and the one retraining found is one of them.",
        ),
        "cos_control": Metric(
            "The same with the way to the control, trained without as many random clean rows "
            "instead of the poison: what any two trainings' ways have in common.",
        ),
        "cos_poison_gradient": Metric(
            "Cosine with the poisoned rows' loss gradient at the start: the way up their loss.",
        ),
        "cos_retain_gradient": Metric(
            "Cosine with minus the retained rows' loss gradient at the start: the way fine-tuning "
            "takes. Near 0 for retraining if poison lies orthogonal to clean gradients (hypothesis 2 "
            "of Pawelczyk et al.).",
        ),
    }
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Update alignment",
        summary="Compares the direction of the update with the way to retraining, to a control, up "
        "the poison's loss and down the clean loss. Describes: no verdict.",
        reference="Pawelczyk et al., ICLR 2025, §6 and Figure 14 (there for logistic regression)",
        needs="as many clean rows as poisoned ones, for the control",
        cost="the control: one more training for each attack and seed; two gradients",
        deviations="any model; gradients in eval mode and float32, summed in float64",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.audits._weights import cosine, loss_gradient, vector
        from engine.lab.subject import Measured

        model = subject.other("start")
        start = vector(model)
        update = vector(subject.model) - start
        ways = {
            "cos_retrain": vector(subject.other("retrain")) - start,
            "cos_control": vector(subject.other("control")) - start,
            "cos_poison_gradient": loss_gradient(model, subject.forget),
            "cos_retain_gradient": -loss_gradient(model, subject.retain),
        }
        return Measured({name: cosine(update, way) for name, way in ways.items()})
