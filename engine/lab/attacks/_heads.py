"""A linear head on fixed features as the attacker sees it: its optimum, and how poison moves it.

Everything is matrix-free: Hessians act on directions, and systems are solved by conjugate
gradients, cut off early where a rough answer will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engine.lab.methods._head import SoftmaxObjective, head_of, head_weights, set_head_weights

if TYPE_CHECKING:
    from engine.lab.views import Batch

SOLVED = 1e-8  # norm of a gradient that is taken for zero
CHUNK = 256  # poisoned rows whose graph is held at once


def chunks(rows: Tensor, size: int = CHUNK) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Embedding:
    """A network up to its last layer; features come with a column of ones if the head has a bias.

    Raises NotApplicable for a network that does not end in a linear layer.
    """

    def __init__(self, model: nn.Module, classes: int) -> None:
        self.model = model.eval()
        _, self.head = head_of(model, classes)

    def __call__(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] → float32 [B, D], differentiable."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self.model(inputs)
        finally:
            hook.remove()
        return with_ones(seen[-1], self.head.bias is not None)

    @torch.no_grad()
    def of(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Features [N, D] and labels [N] of whole sets."""
        pairs = [(self(batch.inputs), batch.labels) for batch in batches]
        return torch.cat([f for f, _ in pairs]), torch.cat([y for _, y in pairs])

    @torch.no_grad()
    def of_all(self, inputs: Tensor) -> Tensor:
        return torch.cat([self(part) for part in chunks(inputs)])

    @property
    def weights(self) -> Tensor:
        """float32 [K, D]"""
        return head_weights(self.head).float()

    def set_weights(self, weights: Tensor) -> None:
        set_head_weights(self.head, weights)


def with_ones(features: Tensor, bias: bool) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1) if bias else features


class HeadProblem:
    """Training a head on clean rows and poison: mean cross-entropy + ½ ridge ‖W‖², W [K, D].

    `features` [N, D] and `labels` [N] are the clean rows; the dtype of the features is that of all
    results. `ridge` must be positive, or the optimum need not exist.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, ridge: float) -> None:
        self.features = features
        self.labels = labels
        self.classes = classes
        self.ridge = ridge

    def objective(self, poison: Tensor, labels: Tensor) -> SoftmaxObjective:
        """The mean over all N + P rows; `poison` is [P, D]."""
        features = torch.cat([self.features, poison])
        labels = torch.cat([self.labels, labels])
        return SoftmaxObjective(features, labels, scale=1 / len(labels), ridge=self.ridge)

    def optimum(
        self, poison: Tensor, labels: Tensor, start: Tensor, steps: int = 2, solves: int = 20
    ) -> Tensor:
        """W after `steps` damped Newton steps of at most `solves` conjugate gradient steps each.

        Ends before that where the gradient has all but vanished.
        """
        objective, weights = self.objective(poison, labels), start
        for _ in range(steps):
            gradient = objective.gradient(weights)
            if float(gradient.norm()) < SOLVED:
                break
            step = solve(curvature(objective, weights), gradient, solves)
            value, share = objective.value(weights), 1.0
            while share > 0.01 and objective.value(weights - share * step) > value:
                share /= 2
            weights = weights - share * step
        return weights

    def harm(self, weights: Tensor) -> tuple[float, Tensor]:
        """Mean over the clean rows of sigmoid(lse of the other logits - own logit), and its slope.

        A smooth count of errors: rows far on the wrong side weigh as little as those far right.
        """
        weights = weights.detach().requires_grad_(True)
        logits = self.features @ weights.T
        own = logits.gather(1, self.labels[:, None])
        others = logits.scatter(1, self.labels[:, None], -torch.inf).logsumexp(1, keepdim=True)
        loss = (others - own).sigmoid().mean()
        (slope,) = torch.autograd.grad(loss, weights)
        return float(loss.detach()), slope

    def accuracy(self, weights: Tensor, features: Tensor, labels: Tensor) -> float:
        return float(((features @ weights.T).argmax(1) == labels).double().mean())


def row_gradients(poison: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """[P, K]: ∂ cross-entropy / ∂ logits; its outer product with the row is the head's gradient."""
    errors: Tensor = (poison @ weights.T).softmax(1) - one_hot(labels, len(weights))
    return errors


def curvature(objective: SoftmaxObjective, weights: Tensor) -> Callable[[Tensor], Tensor]:
    """V → Hessian · V, both [K, D]."""
    chances = (objective.features @ weights.T).softmax(1)

    def product(direction: Tensor) -> Tensor:
        moved = objective.features @ direction.T
        moved = chances * (moved - (chances * moved).sum(1, keepdim=True))
        return objective.scale * moved.T @ objective.features + objective.ridge * direction

    return product


def solve(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    steps: int,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
) -> Tensor:
    """x with product(x) ≈ right by conjugate gradients: to `tolerance` of ‖right‖, or `steps`."""
    found = torch.zeros_like(right) if start is None else start
    rest = right if start is None else right - product(found)
    direction, size = rest, rest.square().sum()
    goal = tolerance**2 * right.square().sum()
    for _ in range(steps):
        if size <= goal:
            break
        pushed = product(direction)
        length = size / (direction * pushed).sum()
        found = found + length * direction
        rest = rest - length * pushed
        size, before = rest.square().sum(), size
        direction = rest + (size / before) * direction
    return found


def harm_gradient(
    problem: HeadProblem,
    embed: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    adjoint: Tensor,
) -> Tensor:
    """∂ harm(optimum) / ∂ inputs by the implicit function theorem, shaped like `inputs`.

    `weights` is the optimum and `adjoint` = Hessian⁻¹ ∂ harm / ∂ weights, both [K, D]. Since
    dW = -Hessian⁻¹ ∂(gradient), each row contributes -(p - e_y) · (adjoint φ) / (N + P).
    """
    found = []
    for part, own in zip(chunks(inputs), chunks(labels), strict=True):
        leaf = part.detach().requires_grad_(True)
        features = embed(leaf)
        pull = (row_gradients(features, own, weights) * (features @ adjoint.T)).sum()
        found.append(torch.autograd.grad(pull, leaf)[0])
    return -torch.cat(found) / (len(problem.labels) + len(labels))
