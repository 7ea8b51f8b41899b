"""The training loop: every model of every experiment, poisoned or retrained, comes out of `fit`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.context import Context, Diverged, NotKept
from engine.lab.looks import Looks
from engine.lab.randomness import stream
from engine.lab.state import pack, unpack
from engine.lab.views import Batch, TrainingSet, epoch_visit, random_moves
from engine.spec.experiment import Train


def fit(
    model: nn.Module,
    data: TrainingSet,
    rows: Tensor,
    recipe: Train,
    seed: int,
    ctx: Context,
    looks: Looks | None = None,
) -> None:
    """Train `model` in place on some rows of `data` (int64 [M], any device) by the recipe.

    Order and augmentation depend on `seed` and the epoch only. Nothing in the loop waits for the
    device; the loss is read at most twice a second, when it is reported. `looks` are
    offered the model after each epoch; they must leave it as they found it.

    Goes on from a checkpoint of `ctx`, if there is one, bit for bit. Raises Diverged when the loss
    or the weights stop being finite.
    """
    device = ctx.device
    layout = torch.channels_last if recipe.channels_last is True else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    net = torch.compile(model) if recipe.compile else model
    optimizer = make_optimizer(model, recipe)
    rows = rows.to(device)
    size = recipe.batch_size
    per_epoch = math.ceil(len(rows) / size)
    total = recipe.epochs * per_epoch
    mean_loss = RunningMean()

    def save(folder: Path) -> None:
        require_sound(model, mean_loss)
        # All there is: random numbers, order and rate are functions of seed and step.
        pack(folder, model, {"optimizer": optimizer}, {})

    def load(folder: Path) -> None:
        nonlocal optimizer
        state: dict[str, Any] = {}
        unpack(folder, model, state, device)
        optimizer = state["optimizer"]

    first = ctx.resume("fit", load) or 0
    for epoch in range(first // per_epoch, recipe.epochs):
        model.train()
        visit = epoch_visit(data, rows, size, seed, "order", epoch)
        order = rows[visit.places]
        moves = None
        if recipe.augment == "crop-flip":
            moves = random_moves(len(rows), recipe.crop_padding, seed, "augment", epoch).to(device)
        for index in range(per_epoch):
            step = epoch * per_epoch + index
            if step < first:
                continue
            ctx.checkpoint("fit", step, save)
            torch.manual_seed(stream(seed, "dropout", step))
            set_lr(optimizer, recipe.lr * lr_factor(recipe, step, total))

            part = slice(index * size, (index + 1) * size)
            if moves is None:
                batch = data.take(order[part], visit.width(part))
            else:
                batch = data.take_augmented(order[part], moves[part], recipe.crop_padding)
            inputs = batch.inputs.contiguous(memory_format=layout)
            with autocast(recipe.precision, device):
                loss = cross_entropy(net(inputs), batch.labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

            mean_loss.step = step + 1
            mean_loss.add(loss)
            if ctx.due("loss", 0.5) or step + 1 == total:
                report_loss(ctx, mean_loss, step + 1, total)
        if looks is not None:
            take = looks.last if epoch + 1 == recipe.epochs else looks.offer
            take(model, (epoch + 1) * per_epoch)
    require_finite(model, total)


def make_optimizer(model: nn.Module, recipe: Train) -> torch.optim.Optimizer:
    """The recipe's optimizer, fused: one kernel for all parameters, the same result every time."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def lr_factor(recipe: Train, step: int, total: int) -> float:
    """Share of the peak rate used for 0-based `step` of `total`.

    `warmup` is a linear rise over that share of the steps (one-cycle: at least 30 %, as in Smith &
    Topin 2018), after which cosine and one-cycle fall along half a cosine towards zero.
    """
    share = max(recipe.warmup, 0.3) if recipe.schedule == "one-cycle" else recipe.warmup
    rise = math.ceil(share * total)
    if step < rise:
        return (step + 1) / rise
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def autocast(precision: str, device: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


class RunningMean:
    """Losses since the last reading, one or more a step; they stay on the device, so no step waits.

    `step` is the one under way, counted from 1.
    """

    def __init__(self) -> None:
        self.step = 0
        self._losses: list[Tensor] = []
        self._steps: list[int] = []

    @property
    def count(self) -> int:
        return len(self._losses)

    def add(self, value: Tensor) -> None:
        self._losses.append(value.detach())
        self._steps.append(self.step)

    def read(self) -> float:
        """The mean, then start anew. Waits for the device.

        Raises Diverged at the first step whose loss is not finite.
        """
        losses = self._values()
        lost = (~torch.isfinite(losses)).nonzero()
        if len(lost):
            first = int(lost[0])
            raise Diverged(self._steps[first], f"the loss is {float(losses[first])}")
        self._losses.clear()
        self._steps.clear()
        return float(losses.mean())

    def finite(self) -> bool:
        """Whether all losses since the last reading are. Waits for the device."""
        return not self._losses or bool(torch.isfinite(self._values()).all())

    def _values(self) -> Tensor:
        return torch.stack(self._losses).double()


def report_loss(ctx: Context, mean: RunningMean, step: int, total: int) -> None:
    loss = mean.read()
    ctx.progress(step, total)
    ctx.metric("loss", step, loss)


@contextmanager
def looking_at(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; every layer's own mode is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def require_finite(model: nn.Module, step: int) -> None:
    """Raise Diverged if a weight or a running statistic is not finite. Waits for the device."""
    for what, tensors in (("weights", model.parameters()), ("statistics", model.buffers())):
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise Diverged(step, f"the {what} are no longer finite")


def require_sound(model: nn.Module, losses: RunningMean) -> None:
    """Raise NotKept where a checkpoint would hide the step at which the model diverged: the next loss
    that is read, or the end, tells it, and so it does for whoever goes on from an older one."""
    try:
        require_finite(model, losses.step)
    except Diverged as why:
        raise NotKept(str(why)) from None
    if not losses.finite():
        raise NotKept("a loss is not finite")


@torch.no_grad()
def predictions(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Logits float32 [M, K] and labels [M] over an iterable of batches, in eval mode and float32."""
    logits, labels = [], []
    with looking_at(model):
        for batch in batches:
            logits.append(model(batch.inputs).float())
            labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Share of rows whose largest logit is their label's."""
    logits, labels = predictions(model, batches)
    return float((logits.argmax(1) == labels).double().mean())
