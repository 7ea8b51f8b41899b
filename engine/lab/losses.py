"""What training minimises on a row, for everything that goes on from a trained model."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from engine.spec.closed_form import Loss


def loss_of(
    kind: Loss, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Of logits [B, K] on labels int64 [B], a scalar: cross-entropy, or half the squared error."""
    if kind == "cross-entropy":
        return cross_entropy(logits, labels, reduction=reduction)
    total = (logits - one_hot(labels, logits.shape[1])).square().sum() / 2
    return total / len(labels) if reduction == "mean" else total


def slope(kind: Loss, logits: Tensor, label: Tensor) -> Tensor:
    """∂ loss / ∂ logits [..., K] of single rows; label int64 [...]."""
    told = logits.softmax(-1) if kind == "cross-entropy" else logits
    return told - one_hot(label, logits.shape[-1])
