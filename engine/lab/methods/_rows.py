"""Gradients of single rows' losses, in eval mode and float32, whatever the recipe trains with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.lab.losses import slope
from engine.spec.closed_form import Loss

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch

Tree = dict[str, Tensor]
# (logits [K], label [], pull) → a tree like the parameters; pull maps d loss / d logits [K] to
# d loss / d parameters, and may be called several times for one forward.
Measure = Callable[[Tensor, Tensor, Callable[[Tensor], Tree]], Tree]
CHUNK = {"cpu": 1 << 22, "cuda": 1 << 27}  # gradient entries held at once: cache, or memory
BATCH = 64


def label_gradient(loss: Loss) -> Measure:
    """∇ of the training's loss of one row on its label."""
    return lambda logits, label, pull: pull(slope(loss, logits, label))


def per_row(model: nn.Module, batches: Iterable[Batch], measure: Measure) -> Iterator[Tree]:
    """`measure` of every row, a few rows at a time: trees of [B, *parameter.shape].

    Dropout and batch statistics are off: no row's gradient depends on the other rows.
    """
    model.eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())
    entries = sum(p.numel() for p in parameters.values())
    device = next(iter(parameters.values())).device.type
    size = max(1, min(BATCH, CHUNK[device] // entries))

    def one(inputs: Tensor, label: Tensor) -> Tree:
        def logits_of(tree: Tree) -> Tensor:
            out: Tensor = functional_call(model, (tree, buffers), (inputs[None],))
            return out[0]

        logits, pull = vjp(logits_of, parameters)[:2]
        return measure(logits, label, lambda cotangent: pull(cotangent)[0])

    for batch in batches:
        for start in range(0, len(batch.labels), size):
            part = slice(start, start + size)
            # Flash attention has no batching rule: it would fall back to a loop, with a warning.
            with sdpa_kernel(SDPBackend.MATH), without_recomputing(model):
                found: Tree = vmap(one)(batch.inputs[part], batch.labels[part])
            yield found


@contextmanager
def without_recomputing(model: nn.Module) -> Iterator[None]:
    """Blocks keep their insides for a while: torch.func does not see through computing them again."""
    blocks: list[Any] = [m for m in model.modules() if getattr(m, "recompute", False)]
    for block in blocks:
        block.recompute = False
    try:
        yield
    finally:
        for block in blocks:
            block.recompute = True


def mean_of(model: nn.Module, trees: Iterable[Tree], count: int) -> Tree:
    """Σ over all rows / count, float64 and shaped like the parameters; 0 without any row."""
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for tree in trees:
        for name, rows in tree.items():
            total[name] += rows.sum(0, dtype=torch.float64)
    return {name: value / max(1, count) for name, value in total.items()}


def rows_seen(task: UnlearnTask, **counts: int) -> None:
    """Keep how many rows a one-shot method used: with a small budget it is a sample."""
    for name, count in counts.items():
        task.state[f"rows/{name}"] = torch.tensor(count)
