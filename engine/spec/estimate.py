"""What training a model would take, in memory and in time, from its config alone.

Estimates, made on assumptions that are written here and shown beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

from engine.spec.component import poisoned_count

if TYPE_CHECKING:
    from engine.spec.setting import Setting

BF16_KEPT = 0.7  # of float32's bytes, under autocast: .6 to .8 were measured on a CPU
SLOTS = {"sgd": 1, "adamw": 2}  # numbers an optimizer keeps for each weight
# Floating-point operations a second that a training reaches. A thread of a CPU: about 20 billion in
# our benchmarks. A GPU: a third of an A100's peak, which is 312 trillion in bf16 and 19.5 in fp32.
PACE = {"cpu": 2e10, "fp32": 6e12, "bf16": 1e14}
STEP = 5e-4  # seconds that a step takes however little it computes


@dataclass(frozen=True, slots=True)
class Estimate:
    """One setting of an experiment: memory in bytes by what it is for, floating-point operations and
    optimizer steps of 1 TEE. `keys` are the stages it brought into the plan."""

    setting: str
    parameters: int
    memory: dict[str, int]
    flops: float
    steps: int
    precision: str
    threads: int
    keys: frozenset[str]

    def stored(self, kinds: Iterable[str]) -> int:
        """Bytes of the models that stages of such kinds keep: after unlearning also what a method
        goes on from, an optimizer's momentum or a teacher, about as much again."""
        each = {"train": 1, "unlearn": 2}
        return 4 * self.parameters * sum(each.get(kind, 0) for kind in kinds)

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())

    def seconds(self, tee: float, device: str) -> float:
        """On one worker of a CPU or on one GPU."""
        pace = PACE["cpu"] * self.threads if device == "cpu" else PACE[self.precision]
        return tee * (self.flops / pace + self.steps * STEP)


def estimate(setting: Setting, keys: frozenset[str]) -> Estimate | None:
    """The peak of the training, and its work; None where the model does not tell its size.

    Not counted: another copy of the weights that a method may keep (teacher, importances), what a
    device's libraries take for themselves, audits.
    """
    experiment, data, rows, recipe = setting.experiment, setting.info, setting.rows, setting.train
    size = experiment.model.size(data)
    if size is None:
        return None
    attacks = [
        single
        for _, _, variant in setting.attacks
        for seed in experiment.seeds
        for _, single in variant.units(data, seed)
    ]
    numbers, noised = prod(data.shape), any("noise" in attack.offers() for attack in attacks)
    if data.kind == "text" and noised:
        numbers *= 1 + size.embedding  # every token has room for what is added to its embedding
    poisoned = max(poisoned_count(attack.selection(), rows) for attack in attacks)
    batch = min(recipe.batch_size, rows)
    half = recipe.precision == "bf16"
    kept = size.kept + size.unfused * (setting.planner.device == "cpu")
    memory = {
        "weights": (6 if half else 4) * size.parameters,  # autocast keeps a copy
        "gradients": 4 * size.parameters,
        "optimizer": 4 * SLOTS[recipe.optimizer] * size.parameters,
        "activations": int(4 * batch * kept * (BF16_KEPT if half else 1)),
        "data": (data.train + data.test) * prod(data.shape) * (1 if data.kind == "image" else 4),
        "poison": 4 * (poisoned + batch) * numbers,
    }
    return Estimate(
        setting=setting.label,
        parameters=size.parameters,
        memory=memory,
        flops=rows * (3.0 * size.flops + size.again),
        steps=ceil(rows / recipe.batch_size),
        precision=recipe.precision,
        threads=setting.threads,
        keys=keys,
    )
