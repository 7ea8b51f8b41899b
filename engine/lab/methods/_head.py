"""The last linear layer: found in any classifier of ours, and solved for on frozen features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from engine.lab.context import NotApplicable
from engine.lab.units import forward_flops

if TYPE_CHECKING:
    from engine.lab.views import Batch


def head_of(model: nn.Module, classes: int) -> tuple[str, nn.Linear]:
    """(name, module) of the linear layer that makes the logits. Raises NotApplicable without one."""
    linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not linear or linear[-1][1].out_features != classes:
        raise NotApplicable("the model does not end in a linear layer with one output a class")
    return linear[-1]


def head_share(model: nn.Module, head: nn.Linear, example: Tensor) -> float:
    """The head's share of the network's forward FLOPs."""
    whole, _ = forward_flops([model], example)
    return min(1.0, 2 * head.weight.numel() * len(example) / max(1, whole))


@torch.no_grad()
def head_inputs(
    model: nn.Module, head: nn.Linear, batches: Iterable[Batch]
) -> tuple[Tensor, Tensor]:
    """What the head reads, float64 [n, d] (with a column of ones for its bias), and labels [n].

    Raises NotApplicable where the head's output is not the model's.
    """
    seen: list[Tensor] = []
    labels: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.eval()
    try:
        for batch in batches:
            logits = model(batch.inputs)
            labels.append(batch.labels)
            if len(seen) != len(labels) or not torch.equal(head.forward(seen[-1]), logits):
                raise NotApplicable("the model's last linear layer does not make its logits")
    finally:
        hook.remove()
    features = torch.cat(seen).double()
    if head.bias is not None:
        features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    return features, torch.cat(labels)


def head_weights(head: nn.Linear) -> Tensor:
    """[K, d] float64, the bias as last column."""
    columns = [head.weight] if head.bias is None else [head.weight, head.bias[:, None]]
    return torch.cat(columns, dim=1).detach().double()


def set_head_weights(head: nn.Linear, weights: Tensor) -> None:
    with torch.no_grad():
        head.weight.copy_(weights[:, : head.in_features])
        if head.bias is not None:
            head.bias.copy_(weights[:, -1])


class SoftmaxObjective:
    """scale · Σ cross-entropy + ½ ridge ‖weights‖² over some rows, as a function of [K, d]."""

    def __init__(self, features: Tensor, labels: Tensor, scale: float, ridge: float) -> None:
        self.features = features
        self.labels = labels
        self.scale = scale
        self.ridge = ridge

    def value(self, weights: Tensor) -> float:
        loss = cross_entropy(self.features @ weights.T, self.labels, reduction="sum")
        return float(self.scale * loss + self.ridge / 2 * weights.square().sum())

    def gradient(self, weights: Tensor) -> Tensor:
        """[K, d]"""
        errors = (self.features @ weights.T).softmax(1) - one_hot(self.labels, len(weights))
        return self.scale * errors.T @ self.features + self.ridge * weights

    def hessian(self, weights: Tensor) -> Tensor:
        """[K·d, K·d], in the order of `weights.flatten()`."""
        chances = (self.features @ weights.T).softmax(1)
        k, d = weights.shape
        blocks = weights.new_empty(k, d, k, d)
        for a in range(k):
            for b in range(a + 1):
                mass = chances[:, a] * (float(a == b) - chances[:, b])
                block = self.scale * (self.features * mass[:, None]).T @ self.features
                blocks[a, :, b] = block
                blocks[b, :, a] = block.T
        hessian = blocks.view(k * d, k * d)
        hessian.diagonal().add_(self.ridge)
        return hessian


def newton_step(hessian: Tensor, gradient: Tensor) -> Tensor:
    """hessian⁻¹ gradient, shaped like `gradient`; the matrix must be positive definite."""
    factor = torch.linalg.cholesky(hessian)
    found: Tensor = torch.cholesky_solve(gradient.reshape(-1, 1), factor)
    return found.reshape(gradient.shape)


def descend(objective: SoftmaxObjective, weights: Tensor) -> Tensor:
    """A Newton step down, halved until it does not climb."""
    step = newton_step(objective.hessian(weights), objective.gradient(weights))
    start = objective.value(weights)
    for halvings in range(30):
        moved = weights - 0.5**halvings * step
        if objective.value(moved) <= start:
            return moved
    return weights
