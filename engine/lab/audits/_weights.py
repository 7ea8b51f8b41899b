"""Weights as one vector, and directions of loss in that space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.lab.views import Rows


def vector(model: nn.Module) -> Tensor:
    """All parameters, float64 [D] on the CPU; buffers are no part of it."""
    import torch

    return torch.cat([p.detach().double().flatten().cpu() for p in model.parameters()])


def loss_gradient(model: nn.Module, rows: Rows) -> Tensor:
    """∇θ of the summed cross-entropy on trained-on rows, float64 [D] on the CPU; eval mode."""
    import torch
    from torch.nn.functional import cross_entropy

    parameters = [p.requires_grad_(True) for p in model.parameters()]
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for inputs, labels in rows.batches():
        loss = cross_entropy(model(inputs), labels, reduction="sum")
        for sum_, grad in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            sum_ += grad
    return torch.cat([t.flatten().cpu() for t in total])


def cosine(one: Tensor, other: Tensor) -> float | None:
    """Of two vectors; None where one is zero, which has no direction."""
    norms = float(one.norm()) * float(other.norm())
    return float(one @ other) / norms if norms > 0 else None
