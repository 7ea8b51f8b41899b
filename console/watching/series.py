"""Bounded memory for curves, histograms and lines that arrive for days."""

from __future__ import annotations

import math
from array import array
from collections import deque

import numpy as np

from console.viewmodel import Floats, LogLine

POINTS = 40_000
LINES = 2_000


class Points:
    """The points of one curve, in order of arrival. When full, four points become two: the lowest
    and the highest, so that no spike is lost."""

    def __init__(self, limit: int = POINTS) -> None:
        self.limit = limit
        self.x, self.y = array("d"), array("d")
        self.version = 0
        self._made: tuple[int, Floats, Floats] | None = None

    def add(self, x: float, y: float) -> None:
        self.x.append(x)
        self.y.append(y)
        self.version += 1
        if len(self.x) >= self.limit:
            self._thin()

    def cut(self, first: float, last: float) -> None:
        """Drop the points from x = `first` to x = `last`."""
        kept = [(x, y) for x, y in zip(self.x, self.y, strict=True) if not first <= x <= last]
        self.x, self.y = array("d", (x for x, _ in kept)), array("d", (y for _, y in kept))
        self.version += 1

    def _thin(self) -> None:
        xs, ys = np.array(self.x), np.array(self.y)
        fours = len(xs) // 4 * 4
        blocks = ys[:fours].reshape(-1, 4)
        low = np.where(np.isnan(blocks), math.inf, blocks).argmin(1)
        high = np.where(np.isnan(blocks), -math.inf, blocks).argmax(1)
        high = np.where(high == low, (low + 1) % 4, high)
        base = np.arange(0, fours, 4)
        kept = np.sort(np.concatenate((base + low, base + high, np.arange(fours, len(xs)))))
        self.x, self.y = array("d", xs[kept].tobytes()), array("d", ys[kept].tobytes())

    def arrays(self) -> tuple[Floats, Floats]:
        """Copies that nobody changes any more; the same ones until a point arrives."""
        if self._made is None or self._made[0] != self.version:
            self._made = (self.version, np.array(self.x), np.array(self.y))
        return self._made[1], self._made[2]


class Lines:
    """The latest lines of a log."""

    def __init__(self, limit: int = LINES) -> None:
        self._lines: deque[LogLine] = deque(maxlen=limit)
        self.count = 0
        self._made: tuple[int, tuple[LogLine, ...]] = (0, ())

    def add(self, line: LogLine) -> None:
        self._lines.append(line)
        self.count += 1

    def told(self) -> tuple[LogLine, ...]:
        if self._made[0] != self.count:
            self._made = (self.count, tuple(self._lines))
        return self._made[1]

    @property
    def start(self) -> int:
        return self.count - len(self._lines)
