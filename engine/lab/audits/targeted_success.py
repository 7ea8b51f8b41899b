"""Targeted success: does the one image still get the class the attacker wanted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from engine.lab.subject import Measured, Subject


class TargetedSuccess(Audit):
    """What a model makes of the target image: one yes or no, and how far it leans."""

    name: Literal["targeted-success"] = "targeted-success"

    needs: ClassVar = frozenset({"target"})
    primary: ClassVar = "adversarial_probability"
    metrics: ClassVar = {
        "adversarial_probability": Metric(
            "Probability the model gives the target for the adversarial class: success before it "
            "is rounded to yes or no, which makes ±.05 testable with a few dozen targets, where "
            "the rate itself needs 59 without a single surprise.",
            direction="up", margin=0.05, span=1.0,
            blind_spots="It looks at the chosen target and at nothing near it. A method that "
            "flattens all predictions moves it to 1 over the number of classes, so read it beside "
            "the accuracy; and it says little where the attack had not worked before unlearning.",
        ),
        "success": Metric(
            "1 if the target is predicted as the adversarial class, else 0; its mean over targets "
            "and seeds is the success rate.",
            direction="up", rate=True, beside=True,
        ),
        "target_margin": Metric(
            "Logit of the adversarial class less the largest other; above 0 is success. It does not "
            "saturate as probabilities do, but its scale is the model's own.",
            direction="up",
        ),
        "correct": Metric(
            "1 if the target is predicted as its true class, else 0: what retraining should give.",
            direction="down", rate=True,
        ),
    }  # fmt: skip
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Targeted success",
        summary="Asks the model for the one test image that the poison is aimed at.",
        reference="Geiping et al., ICLR 2021; judged by the probability, not by the rate",
        needs="an attack with a target image (gradient-matching)",
        cost="one forward of one image",
        deviations="the target is one of the test images: it counts in test accuracy as one row",
    )

    def measure(self, subject: Subject) -> Measured:
        from engine.lab.subject import Measured

        logits, adversarial = target_logits(subject)
        predicted = int(logits.argmax())
        return Measured(
            {
                "adversarial_probability": float(logits.softmax(0)[adversarial]),
                "success": float(predicted == adversarial),
                "target_margin": _margin(logits, adversarial),
                "correct": float(predicted == int(subject.poison.facts["true_class"])),
            }
        )


def target_logits(subject: Subject) -> tuple[Any, int]:
    """Logits float64 [K] of the target image, and the adversarial class."""
    import torch

    facts = subject.poison.facts
    row = torch.tensor([int(facts["target_row"])], device=subject.test.rows.device)
    with torch.no_grad():
        logits = subject.model(subject.test.data.base(row))[0].double()
    return logits, int(facts["adversarial"])


def _margin(logits: Any, adversarial: int) -> float:
    others = logits.clone()
    others[adversarial] = float("-inf")
    return float(logits[adversarial] - others.max())


def glimpse(subject: Subject) -> dict[str, Any]:
    """The target's margin and probability, for the live view."""
    logits, adversarial = target_logits(subject)
    return {
        "margin": _margin(logits, adversarial),
        "probability": float(logits.softmax(0)[adversarial]),
    }
