"""When a model under way is looked at, for people who watch: now and then, whatever a look costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import torch
from torch import nn

Look = Callable[[nn.Module, int], None]

SPACING = 1.0  # seconds between two looks: more than that nobody could follow
REST = 20.0  # times as long as a look took, none begins after it: looks take at most 5 %
SHORT = 1.0  # seconds: of a stage that took less, the last look is always taken


class Pace:
    """What looks have cost in this process, whose stages follow each other. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.rests_until = -inf
        self.costs: dict[str, float] = {}  # seconds that the last look of a kind took


PACE = Pace()


class Looks:
    """The looks of one stage.

    None begins within REST times the duration of the one before, counted from its end, be that of
    this stage or of an earlier one. Nor does one begin before the stage has worked for so long that
    all its looks, and one more that takes as long as the last of its `kind`, are a twentieth of it:
    the very first look of a kind is the only one whose cost nobody can know.
    """

    def __init__(self, look: Look, kind: str = "", pace: Pace = PACE) -> None:
        self._look = look
        self._kind = kind
        self._pace = pace
        self._spent = 0.0  # seconds on looks
        self._began = self._ended = pace.clock()  # of the stage; of its last look

    def offer(self, model: nn.Module, step: int) -> None:
        """Between two steps: look if it is time."""
        if self.due(SPACING):
            self._take(model, step)

    def last(self, model: nn.Module, step: int) -> None:
        """After the last step, `model` being the outcome: look if looks have rested, whenever the one
        before was, or if the stage was SHORT."""
        if self._worked() < SHORT or self.due(0.0):
            self._take(model, step)

    def due(self, spacing: float) -> bool:
        now = self._pace.clock()
        cost = self._pace.costs.get(self._kind, 0.0)
        return (
            now >= self._pace.rests_until
            and now - self._ended >= spacing
            and self._worked() >= REST * (self._spent + cost)
        )

    def _worked(self) -> float:
        return self._pace.clock() - self._began - self._spent

    def _take(self, model: nn.Module, step: int) -> None:
        if any(parameter.is_cuda for parameter in model.parameters()):
            torch.cuda.synchronize()  # the look would wait for the steps before it: not its time
        begin = self._pace.clock()
        self._look(model, step)
        self._ended = self._pace.clock()
        took = self._ended - begin
        self._spent += took
        self._pace.costs[self._kind] = took
        self._pace.rests_until = self._ended + REST * took
