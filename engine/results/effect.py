"""What there was to remove: no unlearning's effect, and how much of it a method leaves.

Everything is paired by seed, the targets of a seed averaged (see evidence.by_seed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.results import statistics
from engine.results.evidence import (
    ALPHA,
    SHARE,
    Candidate,
    Evidence,
    References,
    Values,
    by_seed,
    resolution,
)
from engine.results.statistics import mean, paired_difference

if TYPE_CHECKING:
    from engine.spec.component import Metric


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of no unlearning's gap, `none`: `p` that it is a quarter or more in size; None
    with a single seed."""

    none: float
    p: float | None


def remainder(row: Candidate, references: References, metric: Metric) -> Remainder | None:
    """Test |gap of the row| < SHARE · |gap of no unlearning|; None without seeds that both have.

    Two one-sided paired t-tests over seeds, of g - q s g₀ < 0 and -g - q s g₀ < 0, where s is the
    side of no unlearning's mean gap; the larger p. Gaps are to the same control as the row's test:
    0 for a standard-normal null, the mean of both retrainings where there are two.
    """
    none = references.none
    found = None if none is None else _gaps(row, none, references, metric)
    if not found:
        return None
    whole = mean([gap for _, gap in found])
    if len(found) == 1:
        return Remainder(whole, None)
    side = 1.0 if whole >= 0 else -1.0
    assert none is not None
    step = _step(row, none, metric)
    sums = ([sign * own - SHARE * side * gap for own, gap in found] for sign in (1.0, -1.0))
    p = max(statistics.t_above([-value for value in values], 0.0, step) for values in sums)
    return Remainder(whole, p)


def _gaps(
    row: Candidate, none: Candidate, references: References, metric: Metric
) -> list[tuple[float, float]]:
    """Of each seed, the row's gap and no unlearning's."""
    if metric.null == "standard-normal":
        return [(own, other) for own, other in by_seed(row.values, none.values)]
    retrain, fresh = references.retrain, references.fresh
    if retrain is None:
        return []
    plain = [(x - r, n - r) for x, n, r in by_seed(row.values, none.values, retrain.values)]
    if fresh is None or row is fresh:
        return plain
    both = [
        (x - (r + f) / 2, n - (r + f) / 2)
        for x, n, r, f in by_seed(row.values, none.values, retrain.values, fresh.values)
    ]
    return both if len(both) == len(plain) else plain


def above_none(row: Candidate, references: References, metric: Metric, side: float) -> float | None:
    """One-sided p that the row lies further to the poison's `side` (1.0: up, -1.0: down) than no
    unlearning: paired t over seeds. None for no unlearning itself, and with a single seed."""
    none = references.none
    pairs = [] if none is None or row is none else by_seed(row.values, none.values)
    if none is None or len(pairs) < 2:
        return None
    step = _step(row, none, metric)
    return statistics.t_above([side * (own - other) for own, other in pairs], 0.0, step)


def _step(row: Candidate, none: Candidate, metric: Metric) -> float:
    """Scores are not counted: their deviation may be as small as it is."""
    if metric.null == "standard-normal":
        return 0.0
    return resolution(row, none) or 0.0


# --- recovery ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovery:
    """(none - this) / (none - retrain), of means over the seeds all three have: 0 for none, 1 for
    retraining. `lo` and `hi` are Fieller's 95 % interval."""

    share: float
    lo: float | None
    hi: float | None

    @property
    def over_corrected(self) -> bool:
        """Shown to be past retraining."""
        return self.lo is not None and self.lo > 1


def recovery(
    values: Values, none: Values, retrain: Values, shown: bool | None = None
) -> Recovery | None:
    """None where no unlearning's effect is not shown. `shown` says whether it is; by default,
    whether the 95 % interval of none - retrain leaves out 0, which needs two seeds."""
    found = by_seed(values, none, retrain)
    if not found:
        return None
    whole = paired_difference([n for _, n, _ in found], [r for _, _, r in found])
    if shown is None:
        shown = whole.lo is not None and whole.hi is not None and not whole.lo <= 0 <= whole.hi
    if not shown or whole.mean == 0:
        return None
    part = paired_difference([n for _, n, _ in found], [x for x, _, _ in found])
    interval = statistics.ratio_interval([n - x for x, n, _ in found], [n - r for _, n, r in found])
    lo, hi = interval or (None, None)
    return Recovery(part.mean / whole.mean + 0.0, lo, hi)  # never -0.0


def shown_effect(none: Evidence | str | None) -> bool:
    """Whether no unlearning differs from its null: without that there is nothing to recover."""
    return isinstance(none, Evidence) and none.p_test < ALPHA
