"""What a method does with BatchNorm's running statistics, and their recalibration at the end.

    update       every step moves them
    frozen       they are used as they are and stay
    recalibrate  as frozen; then one forward pass over the retain set estimates them anew

Methods that also train on the forget set freeze by default in these steps only: there, "update"
would leave statistics of poison behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from engine.spec.component import Method

if TYPE_CHECKING:
    import torch

    from engine.lab.unlearning import UnlearnTask

BatchNorm = Literal["update", "frozen", "recalibrate"]
ALWAYS = (
    "update: every step moves running statistics; frozen: they stay; recalibrate: they stay, and "
    "are estimated anew at the end by a forward pass over the retain set (its share of the budget "
    "is kept back)."
)
OF_FORGET_STEPS = (
    "In forget steps: update or frozen, while retain steps always update. recalibrate: frozen in all "
    "steps, then estimated anew by a forward pass over the retain set, within the budget."
)


class Calibrating(Method):
    """A method whose `batchnorm` may be "recalibrate"."""

    batchnorm: BatchNorm = "update"

    def reserve(self, task: UnlearnTask) -> float:
        from engine.lab.meter import FORWARD

        if not self._recalibrates(task.model):
            return 0.0
        return len(task.retain) * FORWARD / task.meter.rows

    def finish(self, task: UnlearnTask) -> torch.nn.Module | None:
        return recalibrated(task, task.model) if self._recalibrates(task.model) else None

    def retain_mode(self) -> str:
        """How BatchNorm behaves in a step on the retain set."""
        return "frozen" if self.batchnorm == "recalibrate" else "update"

    def forget_mode(self) -> str:
        """How BatchNorm behaves in a step on the forget set."""
        return "update" if self.batchnorm == "update" else "frozen"

    def _recalibrates(self, model: torch.nn.Module) -> bool:
        return self.batchnorm == "recalibrate" and bool(batchnorms(model))


def batchnorms(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The BatchNorm layers that keep running statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def recalibrated(task: UnlearnTask, model: torch.nn.Module) -> torch.nn.Module:
    """A copy of `model` whose running statistics are those of the retain set, in trained-on form.

    Mean and unbiased variance over all rows of what each layer reads, in one forward pass in batches
    of about the training's size, not augmented; layers further up normalise by their batch, as in
    training.
    """
    import copy
    import math

    import torch

    from engine.lab.meter import FORWARD

    model = copy.deepcopy(model)
    before = [(module, module.training) for module in model.modules()]
    layers = batchnorms(model)
    sums: dict[torch.nn.Module, torch.Tensor] = {}  # layer → count, sum, sum of squares

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        wide = inputs[0].detach().transpose(0, 1).flatten(1).double()
        rows = torch.full((len(wide),), wide.shape[1], dtype=wide.dtype, device=wide.device)
        told = torch.stack([rows, wide.sum(1), wide.square().sum(1)])
        sums[layer] = sums[layer] + told if layer in sums else told

    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    kept = [layer.num_batches_tracked.clone() for layer in layers]  # type: ignore[operator]
    model.eval()
    for layer in layers:
        layer.train()
    with torch.no_grad():
        parts = math.ceil(len(task.retain) / task.recipe.batch_size)
        even = math.ceil(len(task.retain) / parts)  # no last batch of one row: it has no variance
        for batch in task.retain.every(even, FORWARD):
            task.logits(batch, model)
        for layer, batches in zip(layers, kept, strict=True):
            rows, total, squares = sums[layer]
            mean = total / rows
            variance = (squares - rows * mean.square()) / (rows - 1).clamp(min=1)
            layer.running_mean.copy_(mean)  # type: ignore[operator, union-attr]
            layer.running_var.copy_(variance.clamp(min=0))  # type: ignore[operator, union-attr]
            layer.num_batches_tracked.copy_(batches)  # type: ignore[operator, union-attr]
    for hook in hooks:
        hook.remove()
    for module, training in before:
        module.training = training
    return model
