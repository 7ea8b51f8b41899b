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

    It is fitted to retained, poisoned and (clean) validation rows. Features memorise what they were
    trained on, and a memorised row hardly moves a head: so clean rows are left out twice, from the
    retained rows and from the validation rows, which no features ever saw. Beside the features of
    retraining, which never saw the poison either, the second is the fair control.

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
        "l1_seen": Metric("The same for as many random retained rows, which the features saw."),
        "l1_unseen": Metric("The same for as many validation rows, which no features saw."),
        "l1_ratio": Metric(
            "l1_poison over l1_unseen: above 1, poison needs a larger move than clean rows do "
            "(hypothesis 1).",
            blind_spots="A linear head on frozen features: what poison did to the features below is "
            "not in it. Mislabelled rows weigh more than others whether or not they do harm.",
        ),
        "l1_ratio_seen": Metric(
            "l1_poison over l1_seen: larger still where features memorised the retained rows.",
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
            "cos_clean_gradient for as many validation rows: their own move, and the way down the "
            "loss of the clean rows that stay.",
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
            for rows in (subject.retain, subject.validation, subject.forget)
            if len(rows)
        ]
        features, labels = (torch.cat(pair) for pair in zip(*parts, strict=True))
        seen, poison = len(subject.retain), len(subject.forget)
        clean = seen + len(subject.validation)
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
        whose = {
            "poison": clean + permutation(poison, subject.seed, "deleted poison"),
            "seen": permutation(seen, subject.seed, "deleted clean"),
            "unseen": seen + permutation(clean - seen, subject.seed, "deleted validation"),
        }
        metrics: dict[str, float | None] = {"count": float(poison)}
        residuals = [residual]
        for share in self.deleted:
            count = max(1, round(share * poison))
            moves: dict[str, Tensor | None] = dict.fromkeys(whose)
            for who, order in whose.items():
                if count < len(order) or who == "poison":
                    kept = everything[~torch.isin(everything, order[:count])]
                    solved, residual = solve(over(kept), whole, self.tolerance)
                    residuals.append(residual)
                    moves[who] = solved - whole
            l1 = {who: None if m is None else float(m.abs().sum()) for who, m in moves.items()}
            move, control = moves["poison"], moves["unseen"]
            assert move is not None
            told = [c for c in (cosine(move, batch) for batch in batches) if c is not None]
            up = over(whose["poison"][:count], ridge=0).gradient(whole)
            stay = everything[:clean]
            stay = stay[~torch.isin(stay, whose["unseen"][:count])]
            found = {
                **{f"l1_{who}": value for who, value in l1.items()},
                "l1_ratio": ratio(l1["poison"], l1["unseen"]),
                "l1_ratio_seen": ratio(l1["poison"], l1["seen"]),
                "cos_clean_gradient": cosine(move, down),
                "cos_clean_batch": sum(told) / len(told) if told else None,
                "cos_poison_gradient": cosine(move, up),
                "cos_control": None
                if control is None
                else cosine(control, -over(stay, 0).gradient(whole)),
            }
            metrics |= {f"{name}.{share:g}": value for name, value in found.items()}
        return Measured(metrics | {"residual": max(residuals)})


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


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
