"""Intervals, tests and sample sizes. Nothing here knows what is being measured.

Sums are exact (`math.fsum`), so the order of seeds never changes a digit. `scipy.special` is
imported on first use: it takes 0.2 s, and most commands need no quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

NORMAL = NormalDist()
MOST_SEEDS = 1000  # sample sizes beyond this are reported as None: nobody trains that often


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `n` values with its interval; `lo` and `hi` are None when n = 1."""

    mean: float
    lo: float | None
    hi: float | None
    n: int


# --- means ---------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation, with n - 1. Needs two values."""
    if min(values) == max(values):
        return 0.0  # rounding in the mean must not turn equal values into a tiny spread
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Student's interval: mean ± t_{(1+confidence)/2, n-1} · sd / √n. Needs at least one value."""
    n, centre = len(values), mean(values)
    if n == 1:
        return Estimate(centre, None, None, 1)
    half = t_quantile((1 + confidence) / 2, n - 1) * standard_deviation(values) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def paired_difference(
    left: Sequence[float], right: Sequence[float], confidence: float = 0.95
) -> Estimate:
    """`t_interval` of left - right, pair by pair."""
    return t_interval([a - b for a, b in zip(left, right, strict=True)], confidence)


def replication_band(values: Sequence[float], n: int, confidence: float = 0.95) -> Estimate:
    """Where the mean of `n` new values of the same law falls: mean ± t · sd · √(1/n₀ + 1/n).

    Wider than the interval of the mean, which says where the law's own mean is.
    """
    own, centre = len(values), mean(values)
    if own == 1:
        return Estimate(centre, None, None, 1)
    quantile = t_quantile((1 + confidence) / 2, own - 1)
    half = quantile * standard_deviation(values) * math.sqrt(1 / own + 1 / n)
    return Estimate(centre, centre - half, centre + half, own)


def ratio_interval(
    above: Sequence[float], below: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Fieller's interval of mean(above) / mean(below), pair by pair (Suppl. JRSS 7, 1940).

    The ratios r for which the mean of above - r · below is within t · se of 0: exact for normal
    pairs. None with one pair, and when the interval of mean(below) holds 0: then the set has no end.
    """
    n = len(above)
    if n < 2:
        return None
    a, b = mean(above), mean(below)
    square = t_quantile((1 + confidence) / 2, n - 1) ** 2 / (n * (n - 1))
    aa = a * a - square * math.fsum((x - a) ** 2 for x in above)
    bb = b * b - square * math.fsum((y - b) ** 2 for y in below)
    pairs = zip(above, below, strict=True)
    ab = a * b - square * math.fsum((x - a) * (y - b) for x, y in pairs)
    if bb <= 0:
        return None
    half = math.sqrt(max(0.0, ab * ab - aa * bb))
    return (ab - half) / bb, (ab + half) / bb


def pooled_mean(means: Sequence[float], counts: Sequence[float]) -> tuple[float, float]:
    """Mean over samples of unit variance, given each group's mean and size, and its exact
    standard error: Σ nᵢ mᵢ / Σ nᵢ and 1 / √Σ nᵢ.
    """
    total = math.fsum(counts)
    weighted = math.fsum(count * value for count, value in zip(counts, means, strict=True))
    return weighted / total, 1 / math.sqrt(total)


# --- rates ---------------------------------------------------------------------------------------


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate (JASA 22, 1927). Needs trials > 0."""
    z = NORMAL.inv_cdf((1 + confidence) / 2)
    rate, weight = successes / trials, z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def success_rate(values: Sequence[float]) -> Estimate:
    """Rate of values that are 0 or 1, with Wilson's interval. Needs at least one."""
    lo, hi = wilson(round(math.fsum(values)), len(values))
    return Estimate(mean(values), lo, hi, len(values))


def success_difference(left: Sequence[float], right: Sequence[float]) -> Estimate:
    """Difference of two rates with Newcombe's interval (Stat. Med. 17, 1998, method 10).

    It takes the rates as independent: too long for pairs that agree, and never of length zero, as
    a t-interval is where all pairs differ alike.
    """
    one, other = success_rate(left), success_rate(right)
    assert one.lo is not None and one.hi is not None
    assert other.lo is not None and other.hi is not None
    gap = one.mean - other.mean
    below = math.hypot(one.mean - one.lo, other.hi - other.mean)
    above = math.hypot(one.hi - one.mean, other.mean - other.lo)
    return Estimate(gap, gap - below, gap + above, len(left))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval for a rate (Biometrika 26, 1934), for tails where Wilson's is too short.

    Beta quantiles: lo = B(tail; k, n-k+1), hi = B(1-tail; k+1, n-k). Needs trials > 0.
    """
    from scipy.special import betaincinv

    tail, misses = (1 - confidence) / 2, trials - successes
    lo = 0.0 if successes == 0 else float(betaincinv(successes, misses + 1, tail))
    hi = 1.0 if misses == 0 else float(betaincinv(successes + 1, misses, 1 - tail))
    return lo, hi


# --- tests ---------------------------------------------------------------------------------------


def z_test(estimate: float, standard_error: float) -> float:
    """Two-sided p of mean zero with known standard error: 2 Φ(-|m| / se)."""
    return 2 * normal_cdf(-abs(estimate) / standard_error)


def t_test(values: Sequence[float], least_sd: float = 0.0) -> float:
    """Two-sided p of mean zero; needs two values. Equal values: 0, or 1 if they are all zero.

    `least_sd`: the deviation is taken to be no smaller. Counted things (a rate over 20 rows) often
    come out equal by chance, which does not make them certain.
    """
    centre, error = mean(values), _standard_error(values, least_sd)
    if error == 0:
        return 1.0 if centre == 0 else 0.0
    return 2 * t_cdf(-abs(centre) / error, len(values) - 1)


def tost_z(estimate: float, standard_error: float, margin: float) -> float:
    """Equivalence p within ±margin, known standard error: the larger of two one-sided p.

    TOST (Schuirmann, J. Pharmacokin. Biopharm. 15, 1987): p = Φ((|m| - margin) / se).
    """
    return normal_cdf((abs(estimate) - margin) / standard_error)


def tost_t(values: Sequence[float], margin: float, least_sd: float = 0.0) -> float:
    """Equivalence p of the mean within ±margin, variance estimated; needs two values.

    p = F_{t, n-1}((|m| - margin) / se). Equal values: 0 inside the margin, 1 on it or outside.
    `least_sd` as in `t_test`.
    """
    excess, error = abs(mean(values)) - margin, _standard_error(values, least_sd)
    if error == 0:
        return 0.0 if excess < 0 else 1.0
    return t_cdf(excess / error, len(values) - 1)


def t_above(values: Sequence[float], least: float, least_sd: float = 0.0) -> float:
    """One-sided p that the mean exceeds `least`, F_{t, n-1}((least - m) / se); needs two values.

    Equal values: 0 above it, else 1. `least_sd` as in `t_test`.
    """
    excess, error = mean(values) - least, _standard_error(values, least_sd)
    if error == 0:
        return 0.0 if excess > 0 else 1.0
    return t_cdf(-excess / error, len(values) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Scand. J. Stat. 6, 1979), in the order given.

    With p sorted upwards: adjusted_i = max over j <= i of min(1, (m - j + 1) p_j).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, floor = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def hommel(p_values: Sequence[float]) -> list[float]:
    """Hommel's adjusted p-values (Biometrika 75, 1988), in the order given: Simes' test, closed.

    Never larger than Holm's. Valid where Simes' inequality is: independent tests, and those that
    lean the same way because they share a control (Sarkar, Ann. Stat. 26, 1998). The algorithm is
    Wright's (Biometrics 48, 1992): with p sorted upwards, of every number m of true nulls the
    largest of what Simes' test of the m largest, or of p_i with the m - 1 largest, would need.
    """
    n = len(p_values)
    order = sorted(range(n), key=p_values.__getitem__)
    p = [p_values[index] for index in order]
    least = min((n * p[i] / (i + 1) for i in range(n)), default=0.0)
    adjusted = [max(least, value) for value in p]
    for m in range(n - 1, 1, -1):
        head = n - m + 1  # the others are the m - 1 largest
        tail = min(m * p[head + j] / (j + 2) for j in range(m - 1))
        bounds = [min(m * p[i], tail) for i in range(head)]
        bounds += [bounds[-1]] * (m - 1)
        adjusted = [max(pair) for pair in zip(adjusted, bounds, strict=True)]
    found = [0.0] * n
    for index, value in zip(order, adjusted, strict=True):
        found[index] = min(1.0, value)
    return found


def variance_test(variance: float, dof: float, null: float = 1.0) -> float:
    """Two-sided p of a normal sample's variance: twice the smaller tail of χ²_dof."""
    from scipy.special import chdtr, chdtrc

    statistic = dof * variance / null
    return min(1.0, 2 * float(min(chdtr(dof, statistic), chdtrc(dof, statistic))))


def homogeneity_test(means: Sequence[float], counts: Sequence[float]) -> float:
    """p that groups of unit-variance samples share one mean; needs two groups.

    Cochran's Q = Σ nᵢ (mᵢ - m̄)² against χ² with one degree less than groups (Biometrics 10, 1954).
    """
    from scipy.special import chdtrc

    centre, _ = pooled_mean(means, counts)
    spread = math.fsum(n * (m - centre) ** 2 for m, n in zip(means, counts, strict=True))
    return float(chdtrc(len(means) - 1, spread))


# --- sample sizes --------------------------------------------------------------------------------


def detectable_shift(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true mean a two-sided z-test finds with this power: 2.80 se by default."""
    return standard_error * (NORMAL.inv_cdf(1 - alpha / 2) + NORMAL.inv_cdf(power))


def seeds_for_difference(
    shift: float, sd: float, *, known: bool, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Seeds that would find a true mean of `shift`, when one seed's value has deviation `sd`.

    Smallest n with sd/√n · (q_{1-alpha/2} + q_{power}) <= |shift|; q is normal when the deviation
    is known, else Student's with n - 1. None beyond MOST_SEEDS.
    """
    return _smallest_sample(abs(shift), sd, (1 - alpha / 2, power), known)


def seeds_for_equivalence(
    shift: float, sd: float, margin: float, *, known: bool, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Seeds whose TOST would accept a true mean of `shift` within ±margin.

    Smallest n with sd/√n · (q_{1-alpha} + q_{(1+power)/2}) <= margin - |shift|: exact for a
    shift of 0, a little too many otherwise. None beyond MOST_SEEDS and outside the margin.
    """
    return _smallest_sample(margin - abs(shift), sd, (1 - alpha, (1 + power) / 2), known)


def _smallest_sample(
    room: float, sd: float, levels: tuple[float, float], known: bool
) -> int | None:
    if room <= 0:
        return None
    root = sd / room * sum(NORMAL.inv_cdf(level) for level in levels)
    if root > math.sqrt(MOST_SEEDS):  # before squaring, which may overflow
        return None
    start = root * root
    if known:
        return max(1, math.ceil(start))
    for n in range(max(2, math.ceil(start)), MOST_SEEDS + 1):
        if sd * sum(t_quantile(level, n - 1) for level in levels) <= room * math.sqrt(n):
            return n
    return None


# --- distributions -------------------------------------------------------------------------------


def normal_cdf(x: float) -> float:
    """Φ, accurate far in the lower tail (`NormalDist.cdf` is not)."""
    return math.erfc(-x / math.sqrt(2)) / 2


def t_cdf(x: float, dof: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(dof, x))


def t_quantile(level: float, dof: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(dof, level))


def _standard_error(values: Sequence[float], least_sd: float = 0.0) -> float:
    return max(standard_deviation(values), least_sd) / math.sqrt(len(values))
