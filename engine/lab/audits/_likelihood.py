"""The likelihood-ratio attack's arithmetic: scores of rows from models that had them and had not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from engine.lab.audits._membership import membership_metrics
from engine.spec.component import Audit, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.subject import Measured, Subject

FEW = 64  # shadows below which a row's own variance is too rough (Carlini et al., §VI)


@dataclass(frozen=True)
class Ratios:
    """Log-likelihood ratios float64 [K] of the kept rows, and bool [M] which rows those are."""

    scores: Tensor
    kept: Tensor


def likelihood_ratios(target: Tensor, shadows: Tensor, inside: Tensor, own: bool) -> Ratios:
    """log N(target; rows' in-models) - log N(target; rows' out-models).

    `target` [M], `shadows` and `inside` [S, M]: confidences of S shadows, and whether row m was in
    shadow s. Rows with fewer than two shadows on a side are dropped: a neutral score would be a
    guess. `own`: each row's own variances; else one for all rows and either side, from the
    deviations about each row's means.
    """
    import torch

    counts = torch.stack([inside.sum(0), (~inside).sum(0)])
    kept = counts.min(0).values >= 2
    target, shadows, inside, counts = (t[..., kept] for t in (target, shadows, inside, counts))
    sides = []
    for side, count in zip((inside, ~inside), counts.double(), strict=True):
        mean = (shadows * side).sum(0) / count
        squares = ((shadows - mean).square() * side).sum(0)
        variance = squares / (count - 1) if own else squares.sum() / (count - 1).sum()
        sides.append((mean, variance.clamp(min=1e-12)))
    log_densities = [
        -(target - mean).square() / (2 * variance) - torch.log(torch.as_tensor(variance)) / 2
        for mean, variance in sides
    ]
    return Ratios(log_densities[0] - log_densities[1], kept)


class LikelihoodAudit(Audit):
    """Base of the audits that compare a model with shadows; see mia-lira."""

    shadows: int = Field(
        default=16,
        ge=4,
        multiple_of=2,
        description="Shadow models for each attack and seed; 16 show trends, .1 % needs 64 or more.",
    )
    retain_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the retained rows each shadow trains on; .5 as in Carlini et al. (a "
        "cheaper shadow, but of half the data).",
    )

    needs: ClassVar = frozenset({"decoys"})
    primary: ClassVar = "auc"
    metrics: ClassVar = membership_metrics(
        "What does not show in the confidence on the row itself. Few shadows make rough densities, "
        "and so a weaker attack: a small value may be the attack's failure, not the method's success."
    ) | {
        "dropped": Metric(
            "Rows left out because fewer than two shadows had, or had not, learned them."
        ),
    }  # fmt: skip

    def shadow_models(self) -> tuple[int, float]:
        return self.shadows, self.retain_share

    def measure(self, subject: Subject) -> Measured:
        import torch

        from engine.lab.audits._membership import confidence, pieces, rates
        from engine.lab.shadows import halves
        from engine.lab.subject import Measured
        from engine.spec.readings import shadow_role

        decoys = subject.decoys(len(subject.forget), test=False)
        members = len(subject.forget)

        def told(model: torch.nn.Module) -> Tensor:
            return torch.cat(
                [confidence(model, subject.forget.batches()), confidence(model, pieces(decoys))]
            )

        target = told(subject.model)
        models = range(self.shadows)
        seen = torch.stack([told(subject.other(shadow_role(index))) for index in models])
        inside = torch.stack(
            [halves(subject.seed, index, members, len(decoys.labels)) for index in models]
        )
        found = likelihood_ratios(target, seen, inside, own=self.shadows >= FEW)
        count = int(found.kept[:members].sum())
        ours, others = found.scores[:count], found.scores[count:]
        dropped = float((~found.kept).sum())
        return Measured(
            rates(ours, others, subject.seed) | {"dropped": dropped},
            {"members": ours, "nonmembers": others},
        )
