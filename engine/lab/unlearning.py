"""What a method works with, and the driver that runs it to a budget, whole step by whole step."""

from __future__ import annotations

import copy
import math
from collections import UserDict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from engine.lab.context import Context, NotApplicable
from engine.lab.looks import Looks
from engine.lab.losses import loss_of
from engine.lab.meter import TRAIN, BudgetSpent, Meter
from engine.lab.randomness import permutation, stream, torch_generator
from engine.lab.state import pack, unpack
from engine.lab.training import (
    RunningMean,
    autocast,
    report_loss,
    require_finite,
    require_sound,
)
from engine.lab.views import Batch, TrainingSet, Visit, epoch_visit, random_moves
from engine.spec.closed_form import ClosedForm, Loss
from engine.spec.component import Method
from engine.spec.experiment import Train


class Finished(Exception):
    """Raised by a step that has nothing left to do: one-shot methods, after their one step."""


class Source:
    """Metered access to the retain or the forget set, in trained-on form.

    Rows come in epochs, each freshly shuffled; the last batch of an epoch may be smaller. What a
    draw returns depends on the seed and on how many rows were drawn before, nothing else. Epochs of
    the retain set are those of retraining, row for row.
    """

    def __init__(
        self, name: str, data: TrainingSet, rows: Tensor, seed: int, meter: Meter, recipe: Train
    ) -> None:
        self.name = name
        self.drawn = 0  # rows drawn by completed steps
        self.allowed = True
        self._ahead = 0  # rows drawn by the step under way
        self._data = data
        self._rows = rows
        self._seed = seed
        self._meter = meter
        self._recipe = recipe
        self._purpose = () if name == "retain" else (name,)
        self._epoch: tuple[int, Visit, Tensor | None] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def rows_left(self) -> int:
        """Rows of the epoch under way that the step under way has not drawn; 0 at its end."""
        return -(self.drawn + self._ahead) % len(self._rows)

    def batches_per_epoch(self, size: int) -> int:
        return math.ceil(len(self._rows) / size)

    def batch(self, size: int, price: float = TRAIN) -> Batch:
        """The next `size` rows at `price` each (see `meter`), augmented as in training.

        Raises BudgetSpent if over budget.
        """
        places, moves, width = self._next(size, price)
        rows = self._rows[places]
        if moves is None:
            return self._data.take(rows, width)
        return self._data.take_augmented(rows, moves, self._recipe.crop_padding)

    def places(self, size: int, price: float) -> tuple[Tensor, Tensor]:
        """Like `batch` for a method that keeps features: places (int64 [B]) in the order of
        `every`, and labels."""
        places, _, _ = self._next(size, price)
        return self._rank[places], self._data.labels[self._rows[places]]

    def _next(self, size: int, price: float) -> tuple[Tensor, Tensor | None, int | None]:
        """Places within the rows, their augmentation, and the longest text's tokens."""
        self._permit()
        epoch, start = divmod(self.drawn + self._ahead, len(self._rows))
        visit, moves = self._visit(epoch)
        part = slice(start, start + size)
        places = visit.places[part]
        self._meter.charge(len(places), price)
        self._ahead += len(places)
        return places, None if moves is None else moves[part], visit.width(part)

    def every(self, size: int, price: float = TRAIN, limit: int | None = None) -> Iterator[Batch]:
        """All rows once, or a fixed random `limit` of them, in a fixed order, not augmented; texts of
        one length side by side.

        Charged as a whole before the first batch. Raises BudgetSpent if over budget.
        """
        self._permit()
        rows = self._rows
        if limit is not None and limit < len(rows):
            chosen = permutation(len(rows), self._seed, f"sample of {self.name}")[:limit]
            rows = rows[chosen.sort().values.to(rows.device)]
        self._meter.charge(len(rows), price)
        return self._data.batches(self._data.by_length(rows), size)

    def example(self) -> Tensor:
        """Inputs of up to two rows that cost what rows cost on average, free of charge: of texts those
        nearest to the mean length."""
        self._permit()
        places = torch.arange(min(2, len(self._rows)))
        lengths = self._data.lengths_of(self._rows)
        if lengths is not None:
            places = (lengths - lengths.double().mean()).abs().argsort(stable=True)[:2]
        return next(self._data.batches(self._rows[places.to(self._rows.device)], 2)).inputs

    @cached_property
    def _rank(self) -> Tensor:
        """The place of each row in the order of `every`."""
        ordered = self._data.by_length(self._rows)
        by_row = ordered.argsort()
        return by_row[torch.searchsorted(ordered[by_row], self._rows)]

    def _permit(self) -> None:
        if not self.allowed:
            raise PermissionError(f"this method does not declare that it reads the {self.name} set")

    def _visit(self, epoch: int) -> tuple[Visit, Tensor | None]:
        if self._epoch is None or self._epoch[0] != epoch:
            count, device = len(self._rows), self._rows.device
            purpose = "/".join(("order", *self._purpose))
            size = self._recipe.batch_size
            visit = epoch_visit(self._data, self._rows, size, self._seed, purpose, epoch)
            moves = None
            if self._recipe.augment == "crop-flip":
                told = ("augment", *self._purpose, epoch)
                moves = random_moves(count, self._recipe.crop_padding, self._seed, *told).to(device)
            self._epoch = (epoch, visit, moves)
        return self._epoch[1], self._epoch[2]

    def settle(self) -> None:
        self.drawn += self._ahead
        self._ahead = 0

    def refund(self) -> None:
        self._ahead = 0


class State(UserDict[str, Any]):
    """What a method keeps between steps, by name. Tensors become contiguous, as a snapshot would
    bring them back: a matrix product may round otherwise in another memory layout."""

    def __setitem__(self, name: str, value: Any) -> None:
        self.data[name] = value.contiguous() if isinstance(value, Tensor) else value


class UnlearnTask:
    """A trained model, the data it may be unlearned with, and the meter that watches both.

    `state` holds what a method keeps between steps: optimizers over the model's parameters,
    tensors, and modules shaped like the model (teachers). All of it is saved with a snapshot.
    `fresh_model()` gives a newly initialised model, the one retraining starts from. `validation`
    holds clean rows that were cut off before the poisoning; the test set is out of reach.
    `closed_form` says how a model was solved for that was not trained in steps.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        retain: Tensor,
        forget: Tensor,
        recipe: Train,
        seed: int,
        device: str,
        classes: int,
        fresh: Callable[[], nn.Module] | None = None,
        validation: tuple[TrainingSet, Tensor] | None = None,
        closed_form: ClosedForm | None = None,
    ) -> None:
        self.model = model
        self.fresh_model = fresh or _no_fresh_model
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.classes = classes
        self.closed_form = closed_form
        self.row_loss: Loss = "cross-entropy" if closed_form is None else "squared-error"
        self.meter = Meter(len(retain) + len(forget))
        self.retain = Source("retain", data, retain.to(device), seed, self.meter, recipe)
        self.forget = Source("forget", data, forget.to(device), seed, self.meter, recipe)
        clean, rows = validation or (data, retain[:0])
        self.validation = Source("validation", clean, rows.to(device), seed, self.meter, recipe)
        self.state = State()
        self.steps = 0
        self.handed_out: nn.Module | None = None  # what audits see, where it is not `model`
        self.finishing_tee = 0.0  # spent on that; not part of the trajectory
        self.mean_loss = RunningMean()

    def sgd(self, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> torch.optim.SGD:
        """SGD over the parameters that require gradients now."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.SGD(
            parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
        )

    def logits(self, batch: Batch, model: nn.Module | None = None) -> Tensor:
        """[B, K] under the recipe's precision, by the model under way or another one."""
        with autocast(self.recipe.precision, self.device):
            logits: Tensor = (model or self.model)(batch.inputs)
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """The training's mean loss of a batch on its trained-on labels."""
        return self.loss_of(self.logits(batch), batch.labels)

    def loss_of(
        self, logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """What the training minimises on rows, in float32: cross-entropy for all but `closed_form`."""
        return loss_of(self.row_loss, logits.float(), labels, reduction)

    def descend(self, loss: Tensor, clip: float | None = None) -> None:
        """One step of `state["optimizer"]` down the gradient of `loss`, its norm at most `clip`."""
        optimizer = self.state["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        optimizer.step()
        self.mean_loss.add(loss)

    def generator(self, purpose: str) -> torch.Generator:
        """Fresh random numbers for this step, unrelated to the order of the data."""
        return torch_generator(self.seed, purpose, self.steps, device=self.device)

    def settle(self) -> None:
        for part in (self.meter, self.retain, self.forget):
            part.settle()

    def refund(self) -> None:
        for part in (self.meter, self.retain, self.forget):
            part.refund()

    def train_mode(self, batchnorm: str = "update") -> None:
        """Train mode; with "frozen" batch statistics are used as they are and not updated."""
        self.model.train()
        if batchnorm != "update":
            freeze_batchnorm(self.model)

    def remaining(self, price: float = TRAIN) -> int:
        """Rows that can still be drawn at `price` each."""
        left = self.meter.limit * self.meter.rows - self.meter.spent - self.meter.pending
        return int(left / price + 1e-6)

    def save(self, folder: Path) -> None:
        """Everything needed to go on from here, bit for bit."""
        counters = {
            "steps": self.steps,
            "spent": self.meter.spent,
            "retain": self.retain.drawn,
            "forget": self.forget.drawn,
        }
        pack(folder, self.model, self.state, counters, self.handed_out)

    def restore(self, folder: Path) -> None:
        """Undo `save`."""
        counters = unpack(folder, self.model, self.state, self.device)
        self.steps = counters["steps"]
        self.meter.spent = counters["spent"]
        self.retain.drawn = counters["retain"]
        self.forget.drawn = counters["forget"]


def unlearn(
    method: Method,
    task: UnlearnTask,
    budget: float,
    ctx: Context,
    previous: Path | None = None,
    looks: Looks | None = None,
) -> None:
    """Run `method` on `task.model` to the last whole step within `budget` TEE.

    With `previous`, the folder of a snapshot at a smaller budget, goes on from there; the outcome
    is the same as without it; and so it is with a checkpoint of `ctx`, which is gone on from first.
    Raises NotApplicable when not even one step fits, Diverged when the model is no longer finite.
    """
    task.meter.limit = budget
    task.meter.limit -= method.reserve(task)
    task.retain.allowed = "retain" in method.reads
    task.forget.allowed = "forget" in method.reads
    updates = _Updates(task.model)

    def save(folder: Path) -> None:
        require_sound(task.model, task.mean_loss)
        task.save(folder)

    try:
        if ctx.resume("unlearn", task.restore) is not None:
            pass
        elif previous is not None:
            task.restore(previous)
        else:
            torch.manual_seed(stream(task.seed, "begin"))
            method.begin(task)
            task.settle()
        while True:
            ctx.checkpoint("unlearn", task.steps, save)
            task.mean_loss.step = task.steps + 1
            updates.mark()
            torch.manual_seed(stream(task.seed, "dropout", task.steps))
            try:
                method.step(task)
            except BudgetSpent:
                if updates.any():
                    raise RuntimeError(
                        f"{type(method).__name__}.step changed the model before it had drawn all "
                        "its data: draw first, then update"
                    ) from None
                raise
            if not task.meter.pending:
                raise RuntimeError(
                    f"{type(method).__name__}.step drew no data: a step that costs nothing has no "
                    "end; raise Finished when the work is done"
                )
            task.settle()
            task.steps += 1
            if task.mean_loss.count and ctx.due("loss", 0.5):
                _report(task, budget, ctx)
            if looks is not None:
                looks.offer(task.model, task.steps)
    except Finished:
        task.refund()
    except BudgetSpent as spent:
        task.refund()
        if task.steps == 0:
            raise NotApplicable(f"needs {spent.needed:.3g} TEE for its first step") from None
    finally:
        updates.close()
    if task.mean_loss.count:
        _report(task, budget, ctx)
    require_finite(task.model, task.steps)
    _finish(method, task, budget)
    if looks is not None:
        looks.last(task.handed_out or task.model, task.steps)


def _finish(method: Method, task: UnlearnTask, budget: float) -> None:
    """Let the method prepare what is handed out, aside from the trajectory that later budgets
    continue."""
    spent = task.meter.spent
    task.meter.limit = budget
    torch.manual_seed(stream(task.seed, "finish", task.steps))
    task.handed_out = method.finish(task)
    task.settle()
    task.finishing_tee = (task.meter.spent - spent) / task.meter.rows
    task.meter.spent = spent
    if task.handed_out is not None:
        require_finite(task.handed_out, task.steps)


def _report(task: UnlearnTask, budget: float, ctx: Context) -> None:
    total = task.steps
    if task.meter.spent:
        total = max(total, int(task.steps * budget / task.meter.tee))
    report_loss(ctx, task.mean_loss, task.steps, total)


class _Updates:
    """Notices when the model changes: in-place operations by version, fused optimizers by a hook
    (their kernels do not raise the version)."""

    def __init__(self, model: nn.Module) -> None:
        self._tensors = [*model.parameters(), *model.buffers()]
        self._optimizer_steps = 0
        self._hook = register_optimizer_step_post_hook(self._count)
        self.mark()

    def _count(self, *_: object) -> None:
        self._optimizer_steps += 1

    def _state(self) -> tuple[int, int]:
        return sum(tensor._version for tensor in self._tensors), self._optimizer_steps

    def mark(self) -> None:
        self._before = self._state()

    def any(self) -> bool:
        return self._state() != self._before

    def close(self) -> None:
        self._hook.remove()


def _no_fresh_model() -> nn.Module:
    raise RuntimeError("this task was made without a way to build a fresh model")


def freeze_batchnorm(model: nn.Module) -> None:
    """BatchNorm in eval mode: running statistics are used and stay; weights still train."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def frozen_copy(model: nn.Module) -> nn.Module:
    """A teacher: same weights, eval mode, no gradients."""
    teacher = copy.deepcopy(model).eval()
    return teacher.requires_grad_(False)
