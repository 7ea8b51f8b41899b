"""Poison for a head by bilevel ascent: after every change of the poison, the head is solved anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.lab.attacks._heads import HeadProblem, chunks, curvature, harm_gradient, solve
from engine.lab.crafting import Loop, Tensors, number


@dataclass(frozen=True, slots=True)
class Ascended:
    """The poisoned rows that did the most harm, the head they lead to, and the harm it does."""

    inputs: Tensor
    weights: Tensor
    harm: float


def ascend(
    problem: HeadProblem,
    embed: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    low: Tensor | float,
    high: Tensor | float,
    start: Tensor,
    steps: int,
    rate: Tensor | float,
    loop: Loop,
) -> Ascended:
    """Maximise the harm of the head's optimum over `inputs` in [low, high] (start: the clean head).

    Adam, cosine, on gradients of norm 1 a row (far rows have tiny ones); a coordinate moves by
    `rate` at first. It goes on where `loop` does.
    """
    best = Ascended(inputs, start, -math.inf)
    weights, adjoint = start, None
    walk = Walk(inputs, rate, low, high, steps)

    def state() -> Tensors:
        found = {"weights": weights, "best inputs": best.inputs, "best weights": best.weights}
        found |= {} if adjoint is None else {"adjoint": adjoint}
        return walk.state() | found | {"best harm": number(best.harm)}

    first, kept = loop.resume()
    if kept:
        walk.restore(first, kept)
        weights, adjoint = kept["weights"], kept.get("adjoint")
        best = Ascended(kept["best inputs"], kept["best weights"], float(kept["best harm"]))
    for step in range(first, steps + 1):
        loop.before(step, state)
        with torch.no_grad():
            features = torch.cat([embed(part) for part in chunks(walk.inputs)])
        weights = problem.optimum(features, labels, weights)
        harm, slope = problem.harm(weights)
        if harm > best.harm:
            best = Ascended(walk.inputs, weights, harm)
        if step == steps:
            break
        product = curvature(problem.objective(features, labels), weights)
        adjoint = solve(product, slope, 20, adjoint)
        uphill = harm_gradient(problem, embed, walk.inputs, labels, weights, adjoint)
        walk.descend(-uphill)
    return best


class Walk:
    """Adam on row-normalised gradients within a box; each coordinate may have its own rate."""

    def __init__(
        self,
        inputs: Tensor,
        rate: Tensor | float,
        low: Tensor | float,
        high: Tensor | float,
        steps: int,
    ) -> None:
        self.inputs = inputs.clone()
        self.rate = rate
        self.low = torch.as_tensor(low, device=inputs.device)
        self.high = torch.as_tensor(high, device=inputs.device)
        self.steps = steps
        self.taken = 0
        self.mean = torch.zeros_like(inputs)
        self.square = torch.zeros_like(inputs)

    def state(self) -> Tensors:
        return {"inputs": self.inputs, "mean": self.mean, "square": self.square}

    def restore(self, taken: int, kept: Tensors) -> None:
        """Stand where `state` was asked for, after `taken` steps."""
        self.taken = taken
        self.inputs, self.mean, self.square = kept["inputs"], kept["mean"], kept["square"]

    def descend(self, gradient: Tensor) -> None:
        """One step down; the rate falls along half a cosine."""
        norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
        gradient = gradient / norms.reshape(-1, *[1] * (gradient.dim() - 1))
        share = 0.5 * (1 + math.cos(math.pi * self.taken / self.steps))
        self.taken += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient.square()
        mean = self.mean / (1 - 0.9**self.taken)
        size = (self.square / (1 - 0.999**self.taken)).sqrt()
        # Relative to the row's own mean size: where a row's gradient is zero, nothing moves.
        moved = self.inputs - share * self.rate * mean / (size + 1e-8)
        self.inputs = moved.clamp(self.low, self.high)
