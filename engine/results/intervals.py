"""Intervals of a row's mean and of its gap. The targets of a seed are one cluster.

Where a seed gives several values (targets), the means of the seeds are what Student's interval is
made of. A rate of zeros and ones keeps at least the length that its single trials have, Wilson's or
Newcombe's: seeds that agree by chance are not certain.
"""

from __future__ import annotations

from engine.results.evidence import Values, by_seed
from engine.results.statistics import Estimate, success_difference, success_rate, t_interval


def spread(values: Values, rate: bool = False) -> Estimate:
    """The mean of `values` (one at least) with a 95 % interval. `rate`: they are zeros and ones."""
    seeds = [value for (value,) in by_seed(values)]
    own = [values[trial] for trial in sorted(values)]
    if not rate:
        return _about(own, seeds)
    wilson = success_rate(own)
    return wilson if len(seeds) == len(own) else _longer(wilson, t_interval(seeds), 0.0)


def difference(left: Values, right: Values, rate: bool = False) -> Estimate:
    """The mean of left - right over the trials both have (one at least), with a 95 % interval."""
    shared = sorted(left.keys() & right.keys())
    seeds = [one - other for one, other in by_seed(left, right)]
    one, other = [left[trial] for trial in shared], [right[trial] for trial in shared]
    if not rate:
        return _about([a - b for a, b in zip(one, other, strict=True)], seeds)
    newcombe = success_difference(one, other)
    return newcombe if len(seeds) == len(shared) else _longer(newcombe, t_interval(seeds), -1.0)


def _about(values: list[float], seeds: list[float]) -> Estimate:
    """The mean of all values, with the arm of the seeds' interval."""
    pooled = t_interval(values)
    if len(seeds) == len(values):
        return pooled
    found = t_interval(seeds)
    if found.lo is None or found.hi is None:
        return Estimate(pooled.mean, None, None, pooled.n)
    shift = pooled.mean - found.mean  # where seeds have unequally many
    return Estimate(pooled.mean, found.lo + shift, found.hi + shift, pooled.n)


def _longer(trials: Estimate, seeds: Estimate, least: float) -> Estimate:
    """Of a rate, or a difference of rates (at least `least`): what either interval holds."""
    if seeds.lo is None or seeds.hi is None or trials.lo is None or trials.hi is None:
        return Estimate(trials.mean, None, None, trials.n)
    lo, hi = min(trials.lo, seeds.lo), max(trials.hi, seeds.hi)
    return Estimate(trials.mean, max(least, lo), min(1.0, hi), trials.n)
