"""Scores of many rows from a few seeds: intervals of any number computed from all of them.

Rows of one seed share a model and a poison, so they are no independent sample of what the method
does: the seed is drawn, not the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.results.statistics import Estimate, t_quantile

Scores = NDArray[np.float64]

DRAWS = 1000
THRESHOLD_1PCT = 2.3263478740408408  # 99 % quantile of N(0, 1)


def clustered_bootstrap(
    groups: Sequence[ArrayLike],
    statistic: Callable[[Scores], float],
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Estimate:
    """`statistic` of all groups together, with an interval that draws whole groups.

    point ± t_{k-1} · √(k/(k-1)) · sd over `draws` of k groups drawn with replacement. For the mean
    of equal groups this is the t-interval of their means, but for the drawing. Percentiles of so
    few groups would be too short (Cameron, Gelbach, Miller, Rev. Econ. Stat. 90, 2008). The draws
    are the same every time. No interval with one group; needs one at least, none of them empty.
    """
    kept = [np.asarray(group, dtype=np.float64).reshape(-1) for group in groups]
    k = len(kept)
    point = float(statistic(np.concatenate(kept)))
    if k == 1:
        return Estimate(point, None, None, 1)
    picks = np.random.default_rng(0).integers(k, size=(draws, k))
    found = [float(statistic(np.concatenate([kept[i] for i in pick]))) for pick in picks]
    half = t_quantile((1 + confidence) / 2, k - 1) * math.sqrt(k / (k - 1)) * float(np.std(found))
    return Estimate(point, point - half, point + half, k)


def described(scores: Sequence[ArrayLike]) -> list[str]:
    """Pooled scores in words, a line each: how many, mean, std, share beyond the 99 % quantile.

    What is not finite is left out, and seeds with nothing else.
    """
    given = [np.asarray(group, dtype=np.float64).reshape(-1) for group in scores]
    groups = [group[np.isfinite(group)] for group in given if np.isfinite(group).any()]
    total, seeds = sum(len(group) for group in groups), len(groups)
    lines = [f"n = {total}" + (f" of {seeds} seeds" if seeds > 1 else "")]
    if total < 2:
        return lines

    def told(word: str, statistic: Callable[[Scores], float], form: str) -> str:
        found = clustered_bootstrap(groups, statistic)
        arm = "" if found.hi is None else f" ± {found.hi - found.mean:.3f}"
        return f"{word} {found.mean:{form}}{arm}"

    return [
        *lines,
        told("mean", lambda scores: float(scores.mean()), "+.3f"),
        told("std", lambda scores: float(scores.std(ddof=1)), ".3f"),
        told("beyond 2.33", lambda scores: float((scores > THRESHOLD_1PCT).mean()), ".3f"),
    ]
