"""Cancelling a gradient: rows under which training would rest at given weights.

The condition is that of the victim's objective, the mean over N clean and P added rows plus
½ ridge ‖θ‖²:  G = (Σ_clean ∇ℓ + Σ_poison ∇ℓ) / (N + P) + ridge θ = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.attacks._ascent import Walk
from engine.lab.attacks._heads import HeadProblem, chunks, row_gradients
from engine.lab.crafting import Loop, Tensors, number
from engine.lab.views import Rows

Gradients = list[Tensor]


class Condition:
    """G as a function of the poison, at fixed weights.

    `clean` is G's part without poison rows, `poison_gradient(inputs, labels)` the sum over rows,
    differentiable in the inputs; `whole` is the norm of G without any poison.
    """

    def __init__(
        self,
        clean_sum: Gradients,
        weights: Gradients,
        clean_rows: int,
        poisons: int,
        ridge: float,
        poison_gradient: Callable[[Tensor, Tensor], Gradients],
    ) -> None:
        self.scale = 1 / (clean_rows + poisons)
        pairs = list(zip(clean_sum, weights, strict=True))
        self.clean = [self.scale * total + ridge * weight for total, weight in pairs]
        self.whole = norm([total / clean_rows + ridge * weight for total, weight in pairs])
        self.poison_gradient = poison_gradient

    def gap(self, inputs: Tensor, labels: Tensor) -> Gradients:
        """G, without a graph."""
        gap = self.clean
        for part, own in zip(chunks(inputs), chunks(labels), strict=True):
            given = self.poison_gradient(part, own)
            gap = [g + self.scale * p.detach() for g, p in zip(gap, given, strict=True)]
        return gap

    def slope(self, inputs: Tensor, labels: Tensor, gap: Gradients) -> Tensor:
        """∂ ½‖G‖² / ∂ inputs, a few rows' graph at a time: ‖G‖² is a sum of rows once G is known."""
        found = []
        for part, own in zip(chunks(inputs), chunks(labels), strict=True):
            leaf = part.detach().requires_grad_(True)
            given = self.poison_gradient(leaf, own)
            pull = sum((g * p).sum() for g, p in zip(gap, given, strict=True))
            assert isinstance(pull, Tensor)
            found.append(torch.autograd.grad(self.scale * pull, leaf)[0])
        return torch.cat(found)


def norm(gradients: Gradients) -> float:
    return float(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())


def head_condition(
    problem: HeadProblem, embed: Callable[[Tensor], Tensor], weights: Tensor, poisons: int
) -> Condition:
    """Of the head's weights [K, D] alone, in closed form."""
    errors = row_gradients(problem.features, problem.labels, weights)
    clean = errors.T @ problem.features

    def poison_gradient(inputs: Tensor, labels: Tensor) -> Gradients:
        features = embed(inputs)
        return [row_gradients(features, labels, weights).T @ features]

    return Condition(
        [clean], [weights], len(problem.labels), poisons, problem.ridge, poison_gradient
    )


def model_condition(model: nn.Module, clean: Rows, poisons: int, ridge: float) -> Condition:
    """Of all weights of a model, in eval mode; they must require gradients."""
    model.eval()
    weights = [p for p in model.parameters() if p.requires_grad]
    total: Gradients = [torch.zeros_like(weight) for weight in weights]
    for batch in clean.batches():
        loss = cross_entropy(model(batch.inputs), batch.labels, reduction="sum")
        total = [t + g for t, g in zip(total, torch.autograd.grad(loss, weights), strict=True)]

    def poison_gradient(inputs: Tensor, labels: Tensor) -> Gradients:
        loss = cross_entropy(model(inputs), labels, reduction="sum")
        return list(torch.autograd.grad(loss, weights, create_graph=inputs.requires_grad))

    values = [weight.detach() for weight in weights]
    return Condition(total, values, len(clean), poisons, ridge, poison_gradient)


@dataclass(frozen=True, slots=True)
class Canceled:
    """The rows with the smallest residual, ‖G‖ over ‖G without poison‖, and what it was at first."""

    inputs: Tensor
    residual: float
    start: float


def cancel(
    condition: Condition,
    inputs: Tensor,
    labels: Tensor,
    steps: int,
    rate: float,
    loop: Loop,
) -> Canceled:
    """Minimise the residual over pixels in [0, 1]. It goes on where `loop` does."""
    walk = Walk(inputs, rate, 0.0, 1.0, steps)
    best = Canceled(inputs, float("inf"), float("nan"))

    def state() -> Tensors:
        told = {"best residual": number(best.residual), "start": number(best.start)}
        return walk.state() | {"best inputs": best.inputs} | told

    first, kept = loop.resume()
    if kept:
        walk.restore(first, kept)
        best = Canceled(kept["best inputs"], float(kept["best residual"]), float(kept["start"]))
    for step in range(first, steps + 1):
        loop.before(step, state)
        gap = condition.gap(walk.inputs, labels)
        residual = norm(gap) / condition.whole
        if residual < best.residual:
            best = Canceled(walk.inputs, residual, residual if step == 0 else best.start)
        if step < steps:
            walk.descend(condition.slope(walk.inputs, labels, gap))
    return best
