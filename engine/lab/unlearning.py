"""What a method works with, and the driver that runs it to a budget, whole step by whole step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.context import Context, Failed, NotApplicable
from engine.lab.meter import TRAIN, BudgetSpent, Meter
from engine.lab.randomness import stream, torch_generator
from engine.lab.state import pack, unpack
from engine.lab.training import Look, RunningMean, autocast, report_loss
from engine.lab.views import Batch, TrainingSet, epoch_order
from engine.spec.component import Method
from engine.spec.experiment import Train


class Source:
    """Metered access to the retain or the forget set, in trained-on form.

    Rows come in epochs, each freshly shuffled; the last batch of an epoch may be smaller. What a
    draw returns depends on the seed and on how many rows were drawn before, nothing else.
    """

    def __init__(self, name: str, data: TrainingSet, rows: Tensor, seed: int, meter: Meter) -> None:
        self.name = name
        self.drawn = 0  # rows drawn by completed steps
        self._ahead = 0  # rows drawn by the step under way
        self._data = data
        self._rows = rows
        self._seed = seed
        self._meter = meter
        self._order: tuple[int, Tensor] | None = None
        self.allowed = True

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, size: int, price: float = TRAIN) -> Batch:
        """The next `size` rows at `price` each (see `meter`). Raises BudgetSpent if over budget."""
        if not self.allowed:
            raise PermissionError(f"this method does not declare that it reads the {self.name} set")
        epoch, start = divmod(self.drawn + self._ahead, len(self._rows))
        if self._order is None or self._order[0] != epoch:
            device = str(self._rows.device)
            order = epoch_order(len(self._rows), self._seed, f"unlearn {self.name}", epoch, device)
            self._order = (epoch, self._rows[order])
        rows = self._order[1][start : start + size]
        self._meter.charge(len(rows), price)
        self._ahead += len(rows)
        return self._data.take(rows)

    def settle(self) -> None:
        self.drawn += self._ahead
        self._ahead = 0

    def refund(self) -> None:
        self._ahead = 0


class UnlearnTask:
    """A trained model, the data it may be unlearned with, and the meter that watches both.

    `state` holds what a method keeps between steps: optimizers over the model's parameters,
    tensors, and modules shaped like the model (teachers). All of it is saved with a snapshot.
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
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.classes = classes
        self.meter = Meter(len(retain) + len(forget))
        self.retain = Source("retain", data, retain.to(device), seed, self.meter)
        self.forget = Source("forget", data, forget.to(device), seed, self.meter)
        self.state: dict[str, Any] = {}
        self.steps = 0
        self.mean_loss = RunningMean(device)

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
        """Mean cross-entropy of a batch on its trained-on labels."""
        return cross_entropy(self.logits(batch).float(), batch.labels)

    def descend(self, loss: Tensor) -> None:
        """One step of `state["optimizer"]` down the gradient of `loss`."""
        optimizer = self.state["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
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

    def save(self, folder: Path) -> None:
        """Everything needed to go on from here, bit for bit."""
        counters = {
            "steps": self.steps,
            "spent": self.meter.spent,
            "retain": self.retain.drawn,
            "forget": self.forget.drawn,
        }
        pack(folder, self.model, self.state, counters)

    def restore(self, folder: Path) -> None:
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
    look: Look | None = None,
) -> None:
    """Run `method` on `task.model` to the last whole step within `budget` TEE.

    With `previous`, the folder of a snapshot at a smaller budget, goes on from there; the outcome
    is the same as without it. Raises NotApplicable when not even one step fits, Failed when the
    model is no longer finite.
    """
    task.meter.limit = budget
    task.retain.allowed = "retain" in method.reads
    task.forget.allowed = "forget" in method.reads
    try:
        if previous is not None:
            task.restore(previous)
        else:
            torch.manual_seed(stream(task.seed, "begin"))
            method.begin(task)
            task.settle()
        while True:
            ctx.raise_if_stopped()
            before = _versions(task.model)
            torch.manual_seed(stream(task.seed, "dropout", task.steps))
            try:
                method.step(task)
            except BudgetSpent:
                if _versions(task.model) != before:
                    raise RuntimeError(
                        f"{type(method).__name__}.step changed the model before it had drawn all "
                        "its data: draw first, then update"
                    ) from None
                raise
            task.settle()
            task.steps += 1
            if task.mean_loss.count and ctx.due("loss", 0.5):
                _report(task, budget, ctx)
            if look is not None and ctx.due("look", 1.0):
                look(task.model, task.steps)
    except BudgetSpent as spent:
        task.refund()
        if task.steps == 0:
            raise NotApplicable(f"needs {spent.needed:.3g} TEE for its first step") from None
    if task.mean_loss.count:
        _report(task, budget, ctx)
    if not all(bool(torch.isfinite(p).all()) for p in task.model.parameters()):
        raise Failed(f"diverged at step {task.steps}: the weights are no longer finite")
    if look is not None:
        look(task.model, task.steps)


def _report(task: UnlearnTask, budget: float, ctx: Context) -> None:
    total = task.steps
    if task.meter.spent:
        total = max(total, int(task.steps * budget / task.meter.tee))
    report_loss(ctx, task.mean_loss, task.steps, total)


def _versions(model: nn.Module) -> int:
    """Grows with every in-place change of a parameter or buffer."""
    return sum(t._version for t in [*model.parameters(), *model.buffers()])


def frozen_copy(model: nn.Module) -> nn.Module:
    """A teacher: same weights, eval mode, no gradients."""
    teacher = copy.deepcopy(model).eval()
    return teacher.requires_grad_(False)
