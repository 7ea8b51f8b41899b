"""Which poisoned rows a model still knows, at a stated false discovery rate, and whether the same
rows are found again under other seeds. Only numbers; nothing here knows of runs.

A row's score is exactly N(0, 1) if the model is independent of that row's noise, and training on
the noise raises it. Its p-value is the upper tail: a score far below 0 is no poison left over but
the mark of a method that went beyond forgetting, and is counted apart (`below`).

One **family** is all scored rows of all seeds of one method, variant and budget, so the rate holds
for the rows that are listed together. (One family for each seed would give a clean method a chance
of 10 % at every seed, and five seeds a list that is all false in 41 runs of 100.) Where the null
holds, rows are independent of each other and of all rows that are no nulls: Benjamini and
Hochberg's rate is then exact, 10 % times the share of nulls.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.jobs.row_scores import RowScores
from engine.results.statistics import NORMAL

FDR = 0.10  # false discovery rate of a list of rows
CONFIRMED = 0.05  # a row's own p-value of the rank test, below which it confirms the score

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Model:
    """The model of one seed (and, of an attack with several poisons a seed, of one unit)."""

    seed: int
    unit: int
    of: RowScores


@dataclass(frozen=True)
class FoundAgain:
    """Of the rows scored under two seeds or more, those detected under two or more.

    `chance` is the number expected, `lo` to `hi` hold 95 % of its distribution, and `p` is the
    probability of `found` or more, if under each seed any of its rows were as likely to be detected
    as any other.
    """

    rows: int
    found: int
    chance: float
    lo: int
    hi: int
    p: float


@dataclass(frozen=True)
class ScoredRow:
    """One row under one seed. `p`, `q`: one-sided, and corrected (detected: q is at most FDR)."""

    row: int | None
    seed: int
    unit: int
    score: float
    p: float
    q: float
    detected: bool
    rank: int | None = None
    draws: int | None = None
    rank_p: float | None = None


@dataclass(frozen=True)
class DetectedRow:
    """One row of the training data under all seeds: those that poisoned (and scored) it, those under
    which it was detected, and of these the one where its score is largest. `row` is None where it is
    not known which it is; then each score stands alone."""

    row: int | None
    poisoned: tuple[int, ...]
    detected: tuple[int, ...]
    best: ScoredRow


@dataclass(frozen=True, eq=False)
class Detection:
    """What was found in the models of one method, variant and budget.

    rows: scored rows of all seeds (a row poisoned under two counts twice). left_out: poisoned rows
    without a score. detected: at FDR, on the poison's side. below: the same on the other side.
    confirmed: of those detected, how many the rank test puts below CONFIRMED; None where the ranks
    are not known row by row. rank_z: all ranks pooled, in standard errors of their exact null.
    again: None with one seed, and where rows are not known; `again_not` says why.
    """

    models: Sequence[Model]
    rows: int
    left_out: int
    detected: int
    below: int
    confirmed: int | None
    rank_z: float | None
    rank_p: float | None
    again: FoundAgain | None
    again_not: str
    p: Floats
    q: Floats

    @property
    def share(self) -> float | None:
        return self.detected / self.rows if self.rows else None

    @property
    def lost(self) -> list[str]:
        """Why rows cannot be named, where they cannot; a sentence each."""
        return list(dict.fromkeys(model.of.lost for model in self.models if model.of.lost))

    def scored(self) -> list[ScoredRow]:
        """Every scored row under every seed, in the order of the models."""
        found, at = [], 0
        for model in self.models:
            for place, score in enumerate(model.of.scores.tolist()):
                rank = None if model.of.ranks is None else int(model.of.ranks[place])
                q = float(self.q[at])
                found.append(
                    ScoredRow(
                        row=None if model.of.rows is None else int(model.of.rows[place]),
                        seed=model.seed, unit=model.unit, score=score, p=float(self.p[at]), q=q,
                        detected=q <= FDR, rank=rank, draws=None if rank is None else model.of.draws,
                        rank_p=None if rank is None else float(rank_p_values(rank, model.of.draws)),
                    )
                )  # fmt: skip
                at += 1
        return found

    def detected_rows(self) -> list[DetectedRow]:
        """The rows detected, those of most seeds first, then the surest."""
        groups: dict[Any, list[ScoredRow]] = defaultdict(list)
        for number, one in enumerate(self.scored()):
            groups[("?", number) if one.row is None else one.row].append(one)
        found = []
        for group in groups.values():
            hits = [one for one in group if one.detected]
            if hits:
                seeds = tuple(sorted(one.seed for one in hits))
                best = max(hits, key=lambda one: (one.score, -one.seed))
                poisoned = tuple(sorted(one.seed for one in group))
                found.append(DetectedRow(best.row, poisoned, seeds, best))
        return sorted(found, key=lambda row: (-len(row.detected), -row.best.score))


def detect(models: Sequence[Model]) -> Detection:
    """Benjamini and Hochberg over all rows of all `models`, and what is found again."""
    models = sorted(models, key=lambda model: (model.seed, model.unit))
    scores = np.concatenate([model.of.scores for model in models]) if models else np.empty(0)
    p = p_values(scores)
    q = q_values(p)
    detected = q <= FDR
    ends = np.cumsum([len(model.of.scores) for model in models], dtype=np.int64)
    by_model = np.split(detected, ends[:-1])
    confirmed: int | None = None
    if models and all(model.of.ranks is not None for model in models):
        sure = [rank_p_values(model.of.ranks, model.of.draws) <= CONFIRMED for model in models
                if model.of.ranks is not None]  # fmt: skip
        confirmed = int((np.concatenate(sure) & detected).sum())
    rank_z = pooled_rank_z(models)
    reason = _again_not(models)
    again = None
    if not reason:
        told = [(model.of.rows, hits) for model, hits in zip(models, by_model, strict=True)
                if model.of.rows is not None]  # fmt: skip
        again = found_again(told)
        reason = "" if again else "no row was poisoned under two seeds"
    return Detection(
        models=models,
        rows=len(scores),
        left_out=sum(max(0, model.of.poisoned - len(model.of.scores)) for model in models),
        detected=int(detected.sum()),
        below=int((q_values(p_values(-scores)) <= FDR).sum()),
        confirmed=confirmed,
        rank_z=rank_z,
        rank_p=None if rank_z is None else NORMAL.cdf(-rank_z),
        again=again,
        again_not=reason,
        p=p,
        q=q,
    )


def _again_not(models: Sequence[Model]) -> str:
    """Why it cannot be told which rows are found again; empty where it can."""
    if len({model.seed for model in models}) < 2:
        return "one seed"
    if any(model.of.rows is None for model in models):
        return "which rows were scored is not known under every seed"
    if len({model.of.data for model in models}) > 1:
        return "the runs count the rows of different data"
    if len({model.seed for model in models}) < len(models):
        return "several poisons a seed"
    return ""


def p_values(scores: ArrayLike) -> Floats:
    """Upper tails of N(0, 1), shaped like `scores`."""
    from scipy.special import ndtr

    return np.asarray(ndtr(-np.asarray(scores, dtype=np.float64)), dtype=np.float64)


def rank_p_values(ranks: ArrayLike, draws: int) -> Floats:
    """(draws - rank + 1) / (draws + 1), exact: ranks are uniform on 0 … draws under the null."""
    return (draws - np.asarray(ranks, dtype=np.float64) + 1) / (draws + 1)


def q_values(p: ArrayLike) -> Floats:
    """P-values [N] adjusted by Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): what is at most
    α is a list whose expected share of false discoveries is at most α. The order is kept."""
    values = np.asarray(p, dtype=np.float64)
    count = len(values)
    order = np.argsort(values, kind="stable")
    steps = values[order] * count / np.arange(1, count + 1)
    found = np.empty(count)
    found[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return np.minimum(found, 1.0)


def pooled_rank_z(models: Sequence[Model]) -> float | None:
    """Sum of all ranks minus its mean under the null, over its standard deviation there; positive is
    the poison's side. None without ranks in one of the models."""
    shift, variance = 0.0, 0.0
    for model in models:
        if model.of.every_rank is None or not len(model.of.every_rank):
            return None
        shift += float((model.of.every_rank - model.of.draws / 2).sum())
        variance += len(model.of.every_rank) * model.of.draws * (model.of.draws + 2) / 12
    return shift / variance**0.5 if variance else None


def found_again(models: Sequence[tuple[Integers, Booleans]]) -> FoundAgain | None:
    """`models`: for each seed its rows (distinct) and which of them were detected. None where no row
    occurs under two seeds.

    Chance holds fixed how many rows each seed detected. A row is then detected under seed s with
    probability (detected / rows) of s, independently over its seeds, and the expectation is exact.
    The distribution is that of independent rows (Poisson binomial). Drawing a fixed number of rows
    makes them compete, so that the true one is, if anything, narrower: `p` errs on the careful side.
    """
    rates = [float(hits.mean()) if len(hits) else 0.0 for _, hits in models]
    seeds: dict[int, list[int]] = defaultdict(list)
    times: Counter[int] = Counter()
    for number, (rows, hits) in enumerate(models):
        for row, hit in zip(rows.tolist(), hits.tolist(), strict=True):
            seeds[row].append(number)
            times[row] += hit
    several = {row: tuple(where) for row, where in seeds.items() if len(where) > 1}
    if not several:
        return None
    found = sum(times[row] > 1 for row in several)
    pmf = np.ones(1)
    chance = 0.0
    for where, count in sorted(Counter(several.values()).items()):
        twice = _twice_or_more([rates[number] for number in where])
        chance += count * twice
        for _ in range(count):
            pmf = np.convolve(pmf, [1 - twice, twice])
    below = np.minimum(np.cumsum(pmf), 1.0)
    lo, hi = (int(np.searchsorted(below, level)) for level in (0.025, 0.975))
    tail = float(min(1.0, pmf[found:].sum())) if found else 1.0
    return FoundAgain(len(several), found, chance, lo, hi, tail)


def _twice_or_more(rates: Sequence[float]) -> float:
    """Probability that two or more of independent events with these `rates` happen."""
    pmf = np.ones(1)
    for rate in rates:
        pmf = np.convolve(pmf, [1 - rate, rate])
    return float(max(0.0, pmf[2:].sum()))
