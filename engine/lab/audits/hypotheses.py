"""Why unlearning poison is hard: two hypotheses of the paper, on a convex problem solved exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.methods._head import SoftmaxObjective
    from engine.lab.subject import Measured, Subject

BATCHES = 64  # clean minibatches whose gradients are looked at
BATCH = 128


class Hypotheses(Audit):
    """Softmax regression on the model's frozen features, solved with and without some rows.

    H1: leaving out poison moves the optimum further than leaving out as many clean rows.
    H2: the move is orthogonal to clean gradients, so fine-tuning cannot make it.
    """

    name: Literal["hypotheses"] = "hypotheses"
    deleted: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.1, 0.25, 0.5, 1.0),
        min_length=1,
        description="Shares of the poison that are left out.",
    )
    l2: float | None = Field(
        default=None, gt=0, description="Weight decay of the regression; default 5e-4."
    )
    tolerance: float = Field(
        default=1e-8, gt=0, description="Largest gradient norm at what counts as solved."
    )

    metrics: ClassVar = {
        "l1_poison": Metric(
            "L1 norm of the optimum's move when a share of the poison is left out; l1_poison.0.5 is "
            "that of half of it.",
        ),
        "l1_clean": Metric("The same for as many random clean rows."),
        "l1_ratio": Metric(
            "l1_poison over l1_clean: above 1, poison needs a larger move than clean rows do "
            "(hypothesis 1).",
            blind_spots="A linear head on frozen features: what poison did to the features below is "
            "not in it. Mislabelled rows weigh more than others whether or not they do harm.",
        ),
        "cos_clean_gradient": Metric(
            "Cosine of the move without that share of poison with the way down the clean rows' loss, "
            "weight decay aside: near 0 if fine-tuning cannot make the move (hypothesis 2).",
        ),
        "cos_clean_batch": Metric(
            f"The same with gradients of {BATCHES} random clean batches of {BATCH}, averaged.",
        ),
        "cos_poison_gradient": Metric(
            "Cosine of the same move with the way up the deleted poison's loss. At an exact optimum "
            "the two gradients and weight decay add up to 0, so this is the way down the clean loss "
            "with its weight decay when all poison is deleted.",
        ),
        "cos_control": Metric(
            "cos_clean_gradient for as many clean rows: their own move, and the way down the loss of "
            "the rows that stay.",
        ),
        "residual": Metric("Largest gradient norm left in any of the solutions."),
        "count": Metric("Poisoned rows."),
    }
    card: ClassVar = Card(
        title="The paper's two hypotheses, solved exactly",
        summary="Solves the last layer with and without poison, and with and without clean rows, and "
        "compares lengths and directions of the moves. Describes: no verdict.",
        reference="Pawelczyk et al., ICLR 2025, §6, Figures 5 and 14",
        needs="a linear last layer of at most 10,000 weights",
        cost="some fifty Newton steps in float64 for each model; seconds at 65 × 10 weights",
        deviations="features are those of the model under audit: retraining's never saw the poison. "
        "The paper's regularisation and its set of rows are not known to us",
    )

    def measure(self, subject: Subject) -> Measured:
        import torch

        from engine.lab.methods._head import SoftmaxObjective, head_inputs, head_of
        from engine.lab.randomness import permutation
        from engine.lab.subject import Measured

        _, head = head_of(subject.model, subject.classes)
        parts = [
            head_inputs(subject.model, head, rows.batches())
            for rows in (subject.retain, subject.forget)
        ]
        features, labels = (torch.cat(pair) for pair in zip(*parts, strict=True))
        clean, poison = len(subject.retain), len(subject.forget)
        l2 = 5e-4 if self.l2 is None else self.l2

        def over(rows: Tensor, ridge: float = l2) -> SoftmaxObjective:
            return SoftmaxObjective(features[rows], labels[rows], 1 / len(rows), ridge)

        everything = torch.arange(clean + poison)
        start = features.new_zeros(subject.classes, features.shape[1])
        whole, residual = solve(over(everything), start, self.tolerance)
        down = -over(everything[:clean], ridge=0).gradient(whole)
        batches = [
            -over(permutation(clean, subject.seed, "clean batch", n)[:BATCH], 0).gradient(whole)
            for n in range(BATCHES)
        ]
        order = clean + permutation(poison, subject.seed, "deleted poison")
        control = permutation(clean, subject.seed, "deleted clean")
        metrics: dict[str, float | None] = {"count": float(poison)}
        residuals = [residual]
        for share in self.deleted:
            count = max(1, min(round(share * poison), clean - 1))
            moves = []
            for gone in (order[:count], control[:count]):
                kept = everything[~torch.isin(everything, gone)]
                solved, residual = solve(over(kept), whole, self.tolerance)
                residuals.append(residual)
                moves.append(solved - whole)
            of_poison, of_clean = moves
            l1 = [float(move.abs().sum()) for move in moves]
            stay = everything[:clean][~torch.isin(everything[:clean], control[:count])]
            cosines = [cosine(of_poison, batch) for batch in batches]
            told = [value for value in cosines if value is not None]
            up = over(order[:count], ridge=0).gradient(whole)
            metrics |= {
                f"l1_poison.{share:g}": l1[0],
                f"l1_clean.{share:g}": l1[1],
                f"l1_ratio.{share:g}": l1[0] / l1[1] if l1[1] else None,
                f"cos_clean_gradient.{share:g}": cosine(of_poison, down),
                f"cos_clean_batch.{share:g}": sum(told) / len(told) if told else None,
                f"cos_poison_gradient.{share:g}": cosine(of_poison, up),
                f"cos_control.{share:g}": cosine(of_clean, -over(stay, 0).gradient(whole)),
            }
        return Measured(metrics | {"residual": max(residuals)})


def solve(
    objective: SoftmaxObjective, weights: Tensor, tolerance: float, most: int = 100
) -> tuple[Tensor, float]:
    """(minimum [K, d], gradient norm there) by Newton steps. Raises Failed if it is not reached."""
    from engine.lab.context import Failed
    from engine.lab.methods._head import descend, newton_step

    for _ in range(most):
        gradient = objective.gradient(weights)
        norm = float(gradient.norm())
        if norm <= tolerance:
            return weights, norm
        if norm < 1e-5:  # the loss is flat to its last digit here: a descent cannot be seen
            weights = weights - newton_step(objective.hessian(weights), gradient)
        else:
            weights = descend(objective, weights)
    raise Failed(f"not solved to {tolerance:g} in {most} Newton steps: gradient norm {norm:.2g}")


def cosine(one: Tensor, other: Tensor) -> float | None:
    from engine.lab.audits._weights import cosine

    return cosine(one.flatten(), other.flatten())
