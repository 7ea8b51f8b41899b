"""Shares of counted rows, and what their rows say of them beside the spread over seeds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, TypeVar

from engine.results.statistics import clopper_pearson, wilson

if TYPE_CHECKING:
    from engine.spec.component import Metric

ROUNDING = 1e-6  # of a row
T = TypeVar("T", bound=Hashable)


def rate_interval(
    metric: Metric | None, values: Mapping[T, float], counts: Mapping[T, float]
) -> tuple[float | None, float | None]:
    """95 % interval of a share (see `Metric.share_of`) of the rows of all seeds together. `values`
    and `counts` (rows) go from seed (or trial) to number.

    (None, None) for other metrics, and where a value is no whole number of rows over the count.
    """
    if metric is None or metric.share_of is None or not values:
        return None, None
    hits, rows = 0, 0
    for seed, value in values.items():
        count = counts.get(seed, 0.0)
        found = value * count
        if count < 1 or abs(found - round(found)) > ROUNDING or not 0 <= value <= 1:
            return None, None
        hits, rows = hits + round(found), rows + round(count)
    interval = clopper_pearson if metric.share_of == "tail" else wilson
    return interval(hits, rows)
