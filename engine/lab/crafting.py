"""What an attack that looks at a model may use while it makes its poison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from engine.lab.meter import Meter
from engine.lab.views import Rows, TrainingSet
from engine.spec.experiment import Train


@dataclass(frozen=True, slots=True)
class CraftTask:
    """The attacker's side of one poisoning.

    `data` is the clean training set, `rows` (int64 [P]) are the rows to poison, `training` (int64)
    all rows of the training. `test` holds clean test images, from which a targeted attack takes its
    target. `surrogates` gives the attacker's own trainings on clean data, in eval mode and without
    gradients on their weights; `fresh_model` a newly initialised model like the victim's. `meter`
    counts the attacker's compute, without a limit; `progress(done, total)` is for people who watch.
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
