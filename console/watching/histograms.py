"""Looks at the Gaussian score: from probe events and from the scores an audit left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from console.charts import bins
from console.viewmodel import Look

SMALLEST = 8  # scores: with fewer, Kolmogorov's limit law says nothing


def look_of_probe(data: dict[str, Any]) -> Look | None:
    """The look a probe event describes; None when it describes none."""
    try:
        lo, hi, width = (float(word) for word in data["edges"])
        counts = tuple(int(count) for count in data["counts"])
        count = int(data["count"])
        step = float(data.get("step") or 0)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not (-math.inf < lo < hi < math.inf and width > 0) or not counts:
        return None
    if min(counts) < 0 or len(counts) > 2000:
        return None
    edges = _edges(lo, hi, len(counts))
    below = np.cumsum(counts)[:-1] / max(1.0, sum(counts))
    gap = max((abs(b - _phi(e)) for b, e in zip(below, edges[1:-1], strict=True)), default=0.0)
    mean, std = number(data.get("mean")), number(data.get("std"))
    p = kolmogorov(float(gap), count) if count >= SMALLEST else None
    return Look(step, edges, counts, count, mean, std, p)


@lru_cache(64)
def _edges(lo: float, hi: float, parts: int) -> tuple[float, ...]:
    return tuple(lo + (hi - lo) * n / parts for n in range(parts + 1))


def look_of_scores(scores: Sequence[float], step: float, what: str) -> Look | None:
    """The look at an audit's scores; None if there are none that are finite."""
    values = np.sort(np.asarray(scores, dtype=np.float64))
    values = values[np.isfinite(values)]
    n = len(values)
    if not n:
        return None
    edges, counts = bins(values)
    null = np.array([_phi(value) for value in values])
    after, before = np.arange(1, n + 1) / n, np.arange(n) / n
    gap = float(np.maximum(after - null, null - before).max())
    p = kolmogorov(gap, n) if n >= SMALLEST else None
    std = float(values.std(ddof=1)) if n > 1 else math.nan
    return Look(step, tuple(edges), tuple(counts), n, float(values.mean()), std, p, what)


def kolmogorov(gap: float, n: int) -> float:
    """P(D ≥ gap) of n draws from the null, by the limit law with Stephens's correction (1970).

    From binned scores the gap is at most the true one, so the p is on the careful side.
    """
    root = math.sqrt(n)
    x = (root + 0.12 + 0.11 / root) * gap
    if x < 0.2:
        return 1.0
    total: float = sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * total))


def number(value: Any) -> float:
    """A float, NaN for what is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else math.nan


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
