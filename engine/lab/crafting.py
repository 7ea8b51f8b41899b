"""What an attack that looks at a model may use while it makes its poison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_tensors, save_tensors
from engine.lab.meter import Meter
from engine.lab.views import Rows, TrainingSet
from engine.spec.experiment import Train

Tensors = dict[str, Tensor]
LOOP, METER = "loop.safetensors", "meter"


@dataclass(frozen=True, slots=True)
class CraftTask:
    """The attacker's side of one poisoning.

    `data` is the clean training set, `rows` (int64 [P]) are the rows to poison, `training` (int64)
    all rows of the training. `test` holds clean test images, from which a targeted attack takes its
    target. `surrogates` gives the attacker's own trainings on clean data, in eval mode and without
    gradients on their weights; `fresh_model` a newly initialised model like the victim's. `meter`
    counts the attacker's compute, without a limit; `progress(done, total)` is for people who watch.
    `checkpoint` and `resume` are the context's: loops use them through `Loop`.
    """

    data: TrainingSet
    rows: Tensor
    training: Tensor
    test: Rows
    seed: int
    device: str
    classes: int
    recipe: Train | None
    fresh_model: Callable[[], nn.Module]
    surrogates: Callable[[], list[nn.Module]]
    raise_if_stopped: Callable[[], None]
    meter: Meter = field(default_factory=lambda: Meter(1))
    progress: Callable[[int, int], None] = lambda done, total: None
    checkpoint: Callable[[str, int, Callable[[Path], None]], None] = lambda loop, step, save: None
    resume: Callable[[str, Callable[[Path], None]], int | None] = lambda loop, load: None


class Loop:
    """One of an attack's loops: before each step it stops if asked to, tells how far it is, keeps
    what a later attempt goes on from, and makes the step's charge.

    Loops of one attack have different names and follow one another; what lies between them is
    computed again where an attempt goes on. `step` counts from 0 to `steps`.
    """

    def __init__(
        self, task: CraftTask, name: str, steps: int, charge: Callable[[], None] = lambda: None
    ) -> None:
        self.task = task
        self.name = name
        self.steps = steps
        self.charge = charge

    def resume(self) -> tuple[int, Tensors]:
        """The step to go on with, and what `state` gave there; (0, {}) at the start."""
        found: Tensors = {}
        step = self.task.resume(
            self.name, lambda folder: found.update(load_tensors(folder / LOOP, self.task.device))
        )
        if step is None:
            return 0, {}
        meter = self.task.meter
        meter.spent, meter.pending = found.pop(METER).tolist()
        return step, found

    def before(self, step: int, state: Callable[[], Tensors]) -> None:
        """`state()` is all that the steps from here on depend on. Raises Stopped."""
        meter = self.task.meter

        def save(folder: Path) -> None:
            spent = torch.tensor([meter.spent, meter.pending], dtype=torch.float64)
            save_tensors(folder, LOOP, state() | {METER: spent})

        self.task.checkpoint(self.name, step, save)
        self.task.raise_if_stopped()
        self.task.progress(step, self.steps)
        self.charge()


def number(value: float) -> Tensor:
    """A float as a tensor that gives it back exactly: float64 []."""
    return torch.tensor(value, dtype=torch.float64)
