"""Training in closed form: the normal equations of a linear layer, summed up and solved in float64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engine.lab.context import Context
from engine.lab.methods._head import head_inputs, head_of, set_head_weights
from engine.lab.training import require_finite
from engine.lab.views import Batch, Rows
from engine.spec.closed_form import ClosedForm


class NormalEquations:
    """(scale Σ φφᵀ + penalty I) Wᵀ = scale Σ φ e_yᵀ over some rows; φ with a column of ones where
    there is a bias, which the penalty leaves out. `scale` is for rows that stand for more.

    Memory is one batch's features and a square matrix of them, whatever the number of rows.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Linear,
        batches: Iterable[Batch],
        penalty: float,
        scale: float = 1.0,
    ) -> None:
        self.classes = head.out_features
        size = head.in_features + (head.bias is not None)
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=head.weight.device)
        self.moments = self.gram.new_zeros(size, self.classes)
        for batch in batches:
            features, labels = head_inputs(model, head, [batch])
            self.gram += features.T @ features
            self.moments += features.T @ one_hot(labels, self.classes).double()
        self.gram *= scale
        self.moments *= scale
        self.gram.diagonal()[: head.in_features].add_(penalty)

    def solution(self) -> Tensor:
        """[K, d] float64."""
        return self.solve(self.moments.T)

    def solve(self, right: Tensor) -> Tensor:
        """`right` [K, d] times the matrix's inverse."""
        factor = torch.linalg.cholesky(self.gram)
        return torch.cholesky_solve(right.T, factor).T

    def gradient(self, weights: Tensor) -> Tensor:
        """Of the objective, [K, d]."""
        return weights @ self.gram - self.moments.T


def solve(model: nn.Module, rows: Rows, how: ClosedForm, ctx: Context) -> None:
    """Give the last linear layer of `model` its exact solution over `rows`, rounded to float32 at
    the end. Whatever weights it had play no part."""
    ctx.raise_if_stopped()
    ctx.progress(0, 1)
    model.to(ctx.device)
    head = next(m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear))
    _, head = head_of(model, head.out_features)
    equations = NormalEquations(model, head, rows.batches(), how.penalty)
    set_head_weights(head, equations.solution())
    require_finite(model, 1)
    ctx.progress(1, 1)
