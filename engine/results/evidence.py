"""What the seeds of one row say: its shift from the null, tested, and shown to be small or not.

The unit is the seed. An attack may have several poisons a seed, each aimed at a target of its own;
they share training data, surrogates and the start, so they are one cluster: values are averaged
within a seed first, over the targets that both sides have, and degrees of freedom are those of seeds.

Two nulls (`Metric.null`): "standard-normal", under which a mean score is exactly N(0, 1/rows), and
"retrain", retraining with the same seeds. Where a second retraining (`retrain-fresh`) is in the
family, the control is the mean of both, and their difference says how much perfect models differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from engine.results import statistics

if TYPE_CHECKING:
    from engine.spec.component import Metric

ALPHA = 0.05  # every test that a word rests on: corrected for residue, each side for equivalence
GATE_ALPHA = 0.01  # checks of the assumptions behind the standard-normal null
SHARE = 0.25  # of no unlearning's effect: what may be left of it where the poison is removed

COUNT = "count"  # companions of a standard-normal primary: scores per seed,
STD = "std_score"  # their sample standard deviation (n - 1) about the seed's own mean,
ZEROS = "zero_gradients"  # and rows that could not be scored

ONE_SEED = "one seed speaks of one model, not of the method"
ROUNDING = 1e-9  # 0.90 - 0.92 is a hair below -0.02


class Trial(NamedTuple):
    """What is repeated: a seed, and which of the attack's poisons under it."""

    seed: int
    unit: int = 0

    def __str__(self) -> str:
        return f"seed {self.seed}" + (f", target {self.unit}" if self.unit else "")


Values = Mapping[Trial, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row to be judged; each mapping goes from trial to value. A trial is a seed, mostly.

    `values` holds the primary metric, `companions` other metrics of the same audit by name,
    `utility` the model's test accuracy. `absent` says why there are no values, if so; `lost` which
    seeds ran and gave none, beside others that did; `diverged` which of them diverged.
    """

    role: str
    values: Values
    companions: Mapping[str, Values] = field(default_factory=dict)
    utility: Values = field(default_factory=dict)
    absent: str = ""
    lost: str = ""
    diverged: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the seeds of one row say together about a shift from the null.

    `p` and `equivalence_p` are the plain tests: z for a standard-normal null, else paired with
    retraining. `p_test` and `equivalence_test` are those behind the word, which differ where there
    are two retrainings.
    `sd` is the deviation of one seed's value for the test of a shift, `known` if it comes from the
    null and not from the `n` seeds; `spread` the one seen between seeds, for equivalence.
    `objection` names an assumption that does not hold; `headline` is the shift in words.
    """

    n: int
    shift: float
    sd: float
    known: bool
    spread: float
    p: float
    equivalence_p: float | None
    headline: str
    test: Literal["z", "paired", "two-retrainings"]
    p_test: float
    equivalence_test: float | None
    power: str = ""
    objection: str = ""


@dataclass(frozen=True, slots=True)
class References:
    """The rows of a family that others are compared with; None where the plan has none."""

    retrain: Candidate | None
    fresh: Candidate | None
    none: Candidate | None

    @classmethod
    def of(cls, family: Sequence[Candidate]) -> References:
        roles = ("retrain", "retrain-fresh", "none")
        return cls(*(next((row for row in family if row.role == role), None) for role in roles))


# --- seeds ---------------------------------------------------------------------------------------


def by_seed(*sides: Values) -> list[tuple[float, ...]]:
    """The mean of each side within a seed, over the trials that all sides have, by ascending seed."""
    shared = sorted(set(sides[0]).intersection(*sides[1:]))
    seeds: dict[int, list[Trial]] = {}
    for trial in shared:
        seeds.setdefault(seed_of(trial), []).append(trial)
    if len(seeds) == len(shared):  # mostly, and in the hot loop of simulations
        return [tuple([side[trial] for side in sides]) for trial in shared]
    return [
        tuple(statistics.mean([side[trial] for trial in trials]) for side in sides)
        for _, trials in sorted(seeds.items())
    ]


def seed_of(trial: Trial | int) -> int:
    return trial.seed if isinstance(trial, Trial) else trial


def resolution(*sides: Candidate) -> float | None:
    """The step in which a seed's value comes: 1/count where rows were counted, else the smallest
    step seen; over the number of targets where a seed has several. None if all values are the same
    and nothing was counted."""
    shared = sorted(set(sides[0].values).intersection(*(side.values for side in sides[1:])))
    counted = [side.companions.get(COUNT, {}).get(trial, 0.0) for side in sides for trial in shared]
    seeds = [seed_of(trial) for trial in shared]
    distinct = set(seeds)
    units = 1 if len(distinct) == len(seeds) else min(map(seeds.count, distinct))
    if min(counted) > 0:
        return 1 / min(counted) / units
    step = smallest_step(side.values[trial] for side in sides for trial in shared)
    return None if step is None else step / units


def smallest_step(values: object) -> float | None:
    """Between two different values; None where all are the same."""
    ordered = sorted(values)  # type: ignore[call-overload]
    steps = [b - a for a, b in pairwise(ordered) if b - a > ROUNDING]
    return min(steps, default=None)


# --- a shift from the null -----------------------------------------------------------------------


def examine(row: Candidate, references: References, metric: Metric) -> Evidence | str:
    """Test one row against its null; a string says why it cannot be tested."""
    if metric.null == "standard-normal":
        return against_standard_normal(row, metric)
    return against_retraining(row, references, metric)


def against_standard_normal(row: Candidate, metric: Metric) -> Evidence | str:
    """The mean of all scores of all seeds, which the null makes N(0, 1 / number of scores).

    A shift is tested against that exact null. Equivalence is another matter: its null is a shift
    as large as the margin, under which nothing says that seeds agree, and taking 1/count for the
    variance would call such a method removed two to four times too often. So both tests must pass:
    the pooled one, and Student's over the seeds' means.

    Gates guard the claim of equivalence, at GATE_ALPHA and blind to a common shift: the scores'
    variance about their own seed's mean must be 1 (χ²), and the seeds' means must agree (Cochran's
    Q), for +0.5 and -0.5 average to nothing though each shows the poison.
    """
    counts = {s: n for s, n in row.companions.get(COUNT, {}).items() if n > 0}
    trials = sorted(row.values.keys() & counts.keys())
    if not trials or len(trials) < len(row.values):
        return f"every seed needs a positive {COUNT!r} beside its mean: the null is N(0, 1/{COUNT})"
    means, sizes = [row.values[s] for s in trials], [counts[s] for s in trials]
    shift, error = statistics.pooled_mean(means, sizes)
    seeds = [value for (value,) in by_seed(row.values)]
    null_sd = error * math.sqrt(len(seeds))
    observed = statistics.standard_deviation(seeds) if len(seeds) > 1 else 0.0
    equivalence = None
    if metric.margin is not None:
        equivalence = statistics.tost_z(shift, error, metric.margin)
        if len(seeds) > 1:
            equivalence = max(equivalence, statistics.tost_t(seeds, metric.margin))
    unscored = sum(row.companions.get(ZEROS, {}).get(s, 0.0) for s in trials)
    without = f", {unscored:.0f} rows had no gradient" if unscored else ""
    p = statistics.z_test(shift, error)
    return Evidence(
        n=len(seeds),
        shift=shift,
        sd=null_sd,
        known=True,
        spread=max(observed, null_sd),
        p=p,
        equivalence_p=equivalence,
        headline=f"z = {shift / error:+.2f}, mean {shift:+.3f}{without}",
        test="z",
        p_test=p,
        equivalence_test=equivalence,
        power=f"smallest detectable shift {statistics.detectable_shift(error):.2f}",
        objection="most rows had no gradient to score"
        if unscored > sum(sizes)
        else _gates(means, sizes, [row.companions.get(STD, {}).get(s) for s in trials]),
    )


def _gates(means: list[float], sizes: list[float], stds: list[float | None]) -> str:
    spread = [(n - 1, std) for n, std in zip(sizes, stds, strict=True) if std is not None and n > 1]
    if len(spread) < len(means):
        return f"the spread of the scores is unknown ({STD!r} or more than one score needed)"
    dof = math.fsum(n for n, _ in spread)
    variance = math.fsum(n * std * std for n, std in spread) / dof
    if (p := statistics.variance_test(variance, dof)) < GATE_ALPHA:
        return f"the scores' std is {math.sqrt(variance):.3f} instead of 1 ({show_p(p)})"
    if len(means) == 1:
        return ONE_SEED
    if (p := statistics.homogeneity_test(means, sizes)) < GATE_ALPHA:
        return f"the seeds disagree: means {min(means):+.2f} to {max(means):+.2f} ({show_p(p)})"
    return ""


def against_retraining(row: Candidate, references: References, metric: Metric) -> Evidence | str:
    """Differences to retraining with the same seed. Two seeds at least, or there is no spread.

    A deviation below the measurement's resolution is taken for the resolution: 0 of 20 in every
    seed does not show that a rate is 0.
    """
    retrain = references.retrain
    pairs = by_seed(row.values, retrain.values) if retrain is not None else []
    if retrain is None or not pairs:
        return "no retraining with the same seeds to compare with"
    gaps = [own - other for own, other in pairs]
    if len(gaps) == 1:
        return f"gap {gaps[0]:+.3f}; one seed: no interval"
    step = resolution(row, retrain)
    if step is None:
        return f"gap {gaps[0]:+.3f} in every seed: the values never vary, so nothing can be tested"
    gap, margin = statistics.mean(gaps), metric.margin
    spread = max(statistics.standard_deviation(gaps), step)
    p = statistics.t_test(gaps, step)
    equivalence = None if margin is None else statistics.tost_t(gaps, margin, step)
    plain = Evidence(
        n=len(gaps),
        shift=gap,
        sd=spread,
        known=False,
        spread=spread,
        p=p,
        equivalence_p=equivalence,
        headline=f"gap {gap:+.3f}",
        test="paired",
        p_test=p,
        equivalence_test=equivalence,
    )
    fresh = references.fresh
    if fresh is None or row is fresh:
        return plain
    return _with_two_retrainings(plain, row, retrain, fresh, margin)


def _with_two_retrainings(
    plain: Evidence, row: Candidate, retrain: Candidate, fresh: Candidate, margin: float | None
) -> Evidence:
    """The control is the mean of both retrainings, c = (r + f)/2, and their difference, whose mean is
    0 by construction, tells the variance that perfect models have.

    With h = x - c and S² = Σ(r - f)²/2n, T = h̄ / √(1.5 S²/n) is Student's with n degrees of freedom
    if x, r and f are exchangeable: n of them instead of n - 1, and one variance for all rows. A row
    that is no retraining may vary more: where its own variance is above the retrainings', its own
    deviations are taken, n - 1. So the larger variance of the two always, and no residue is said of
    a row whose own interval holds 0.

    Pooling both variances gives 2n - 1 degrees, and holds no level: it is small where a row's own
    came out small by luck (docs/statistics.md has the figures).
    """
    triples = by_seed(row.values, retrain.values, fresh.values)
    n = len(triples)
    if n < plain.n:  # some seed lacks the second one
        return plain
    step = resolution(row, retrain, fresh) or 0.0
    gaps = [x - (r + f) / 2 for x, r, f in triples]
    shift, own = statistics.mean(gaps), statistics.standard_deviation(gaps)
    null = math.fsum((r - f) ** 2 for _, r, f in triples) / (2 * n)
    own_sd = max(own, step)
    found = replace(
        plain,
        shift=shift,
        headline=f"gap {shift:+.3f} to two retrainings",
        p_test=statistics.t_test(gaps, step),
        equivalence_test=None if margin is None else statistics.tost_t(gaps, margin, step),
    )
    if own * own / 1.5 > null:
        return replace(found, sd=own_sd, spread=own_sd)
    sd = max(math.sqrt(1.5 * null), step)
    error = sd / math.sqrt(n)
    return replace(
        found,
        test="two-retrainings",
        sd=sd,
        spread=sd,
        p_test=2 * statistics.t_cdf(-abs(shift) / error, n),
        equivalence_test=None
        if margin is None
        else statistics.t_cdf((abs(shift) - margin) / error, n),
    )


def show_p(p: float) -> str:
    """A p-value as people write it."""
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"
