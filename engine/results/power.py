"""Power: with what chance each word of a verdict comes out, before anything is computed.

One unlearning row is drawn many times under each of three truths (nothing, half, all of what the
model before unlearning shows is left) and judged by the rule of `engine.results.verdict`, written
here once more for arrays of draws. tests/test_power_rule.py holds the two to the same words.

Values are normal, and a seed is one unit (its targets are averaged first). Of one seed, with the
null at 0 and the poison's side up:

    r, f  retraining and retraining from a fresh seed: N(0, σ²) each, so a gap has sd σ √2
    u     no unlearning: N(effect, σ_u²)
    x     the row: left · u + √(1 - left²) · N(0, σ²): what is left varies with what there was

The Gaussian score has its exact null instead: σ² = 1/rows, nothing subtracted. A row is as accurate
as retraining but for chance (where accuracy itself is judged, as low as the poison makes it).

Two things are bounds. Of Hommel's correction only its first step counts, the p-value times the rows
tested: rows that all have residue lend each other more power than that. And a method is taken to
vary over seeds as retraining does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from engine.results.evidence import ALPHA, GATE_ALPHA, SHARE
from engine.results.statistics import NORMAL, t_quantile
from engine.results.utility import UTILITY_MARGIN
from engine.results.verdict import FEWEST_SEEDS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

DRAWS = 2000  # a share of them is within 2.2 points, 95 times of 100
MOST = 50  # seeds: beyond that, "more than 50"
ENOUGH = 0.8  # power that a number of seeds should have
CONTROL = 1.5  # var(x - (r + f)/2) in units of one model's variance

WORDS = ("removed", "residue", "inconclusive", "wrecked", "nothing to remove")
REMOVED, RESIDUE, INCONCLUSIVE, WRECKED, NOTHING = range(len(WORDS))
TRUTHS = {"nothing left": 0.0, "half left": 0.5, "all left": 1.0}
Null = Literal["standard-normal", "retrain"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known, or assumed, of one judged row and its family before anything is computed.

    In the metric's own unit: `effect`, the distance of no unlearning from the null; `margin`;
    `gap_sd`, one seed's gap between two models without poison (standard-normal: unused);
    `none_sd`, one seed's gap of no unlearning (standard-normal: its spread between seeds beside
    that of the score); `resolution`, below which no deviation is taken. `rows` are those scored of
    one seed (standard-normal). `accuracy_sd` is that of one seed's gap of test accuracy, None where
    that is not measured. `tests` rows of the family are tested, `models` for accuracy.

    `none`, `retrain` and `fresh` say which of these rows the plan has; `of_accuracy` that accuracy
    itself is judged; `utility_margin` is the loss of it that wrecks a model.
    """

    null: Null
    margin: float | None
    effect: float
    gap_sd: float
    none_sd: float
    accuracy_sd: float | None
    rows: int = 1
    resolution: float = 0.0
    tests: int = 1
    models: int = 1
    none: bool = True
    retrain: bool = True
    fresh: bool = False
    of_accuracy: bool = False
    utility_margin: float = UTILITY_MARGIN


class Sample(NamedTuple):
    """Draws of a family's values, [draws, seeds] each; None of rows that the plan does not have, and
    of retrainings where the null is exact.

    `loss` is how far test accuracy lies below retraining's, `none_loss` the same of no unlearning
    where accuracy is judged. `sound` [draws]: the scores' own deviation passes its gate.
    """

    x: Array
    none: Array | None
    retrain: Array | None
    fresh: Array | None
    loss: Array | None
    none_loss: Array | None
    sound: Array


@dataclass(frozen=True, slots=True)
class Chances:
    """Of one truth: each word's chance at the plan's seeds, which word is right, and the fewest
    seeds that say it in ENOUGH of all cases; None if MOST do not."""

    left: float
    words: dict[str, float]
    right: str
    seeds: int | None


@lru_cache(maxsize=512)
def chances(outlook: Outlook, left: float, seeds: int) -> Chances:
    """Raises ValueError for fewer than one seed. Deterministic."""
    if seeds < 1:
        raise ValueError(f"seeds = {seeds}: must be 1 or more")
    right = RESIDUE if left else REMOVED
    found = shares(outlook, left, seeds)
    words = dict(zip(WORDS, found, strict=True))
    return Chances(left, words, WORDS[right], seeds_for(outlook, left, right))


@lru_cache(maxsize=4096)
def shares(outlook: Outlook, left: float, seeds: int) -> tuple[float, ...]:
    """The chance of each of WORDS; they add up to 1."""
    import numpy as np

    words = judged(draw(outlook, left, seeds), outlook)
    counts = np.bincount(words, minlength=len(WORDS))
    return tuple(float(count) / DRAWS for count in counts)


def seeds_for(outlook: Outlook, left: float, word: int) -> int | None:
    """The fewest seeds, up to MOST, that give the word in ENOUGH of all cases."""

    def enough(seeds: int) -> bool:
        return shares(outlook, left, seeds)[word] >= ENOUGH

    least = 1 if word == RESIDUE and outlook.null == "standard-normal" else FEWEST_SEEDS
    return fewest(enough, least, MOST)


def fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from `least` to `most` that is enough, where more is never less."""
    high = least
    while not enough(high):
        if high >= most:
            return None
        least, high = high + 1, min(2 * high, most)
    while least < high:
        middle = (least + high) // 2
        least, high = (least, middle) if enough(middle) else (middle + 1, high)
    return high


# --- draws ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _normals(seeds: int) -> Array:
    """The same standard normal numbers for every question, [values, seeds, draws]: more seeds only
    add to those before, and two outlooks differ by what they say, not by chance."""
    import numpy as np

    return np.random.default_rng(17).standard_normal((7, seeds, DRAWS))


def draw(outlook: Outlook, left: float, seeds: int) -> Sample:
    """DRAWS families under one truth; of the first 4 MOST seeds, as more than that change little."""
    numbers = _normals(MOST if seeds <= MOST else min(seeds, 4 * MOST))
    e, r, f, u, spread, a, gate = (part.T for part in numbers[:, :seeds])
    known = outlook.null == "standard-normal"
    sd = 1 / math.sqrt(outlook.rows) if known else outlook.gap_sd / math.sqrt(2)
    # The gap of no unlearning has retraining's own variance in it.
    own = outlook.none_sd if known else math.sqrt(max(outlook.none_sd**2 - sd**2, 0.0))
    untouched = outlook.effect + (sd * u + own * spread if known else own * u)
    x = left * untouched + math.sqrt(1 - left * left) * sd * e
    loss = none_loss = None
    if outlook.retrain and outlook.of_accuracy:
        loss, none_loss = x - sd * r, untouched - sd * r
    elif outlook.retrain and outlook.accuracy_sd is not None:
        loss = outlook.accuracy_sd * a
    fails = NORMAL.inv_cdf(1 - GATE_ALPHA) if known else math.inf
    return Sample(
        x=x,
        none=untouched if outlook.none else None,
        retrain=sd * r if outlook.retrain and not known else None,
        fresh=sd * f if outlook.fresh and outlook.retrain and not known else None,
        loss=loss,
        none_loss=none_loss if outlook.none else None,
        sound=gate[:, 0] < fails,
    )


# --- the rule ------------------------------------------------------------------------------------


class Shift(NamedTuple):
    """Whether a row's shift is shown, and its being within the margin; [draws] each."""

    shown: Array
    equivalent: Array
    sound: Array  # no objection to its being equivalent


def judged(sample: Sample, outlook: Outlook) -> Array:
    """The place in WORDS of every draw's verdict, [draws]."""
    import numpy as np

    draws, n = sample.x.shape
    enough = n >= FEWEST_SEEDS
    no = np.zeros(draws, dtype=bool)
    words = np.full(draws, INCONCLUSIVE)

    found = _shift(sample.x, sample, outlook)
    # What was within the margin may be all there was, where no test can compare it with that.
    negligible, perhaps = no, found.equivalent
    if sample.none is not None and n > 1:
        negligible = found.equivalent & _below_share(sample.x, sample, outlook.resolution)
        perhaps = negligible
    words[found.shown & ~perhaps] = RESIDUE
    if enough and sample.loss is not None:
        kept = _upper_bound(sample.loss) < outlook.utility_margin
        words[negligible & found.sound & kept] = REMOVED
    if outlook.null == "retrain" and not enough:
        words[:] = INCONCLUSIVE
    if enough and sample.none is not None:
        of_none = _shift(sample.none, sample, outlook)
        words[of_none.equivalent & of_none.sound] = NOTHING
    if enough and sample.loss is not None:
        words[_wrecked(sample, outlook)] = WRECKED
    return words


def _shift(row: Array, sample: Sample, outlook: Outlook) -> Shift:
    if outlook.null == "standard-normal":
        return _from_normal(row, sample, outlook)
    return _from_retraining(row, sample, outlook)


def _from_normal(row: Array, sample: Sample, outlook: Outlook) -> Shift:
    """The z-test of the mean of all scores, both forms of TOST, both gates."""
    from scipy.special import chdtri

    n, centre = row.shape[1], row.mean(axis=1)
    error = 1 / math.sqrt(n * outlook.rows)
    shown = abs(centre) > NORMAL.inv_cdf(1 - ALPHA / (2 * outlook.tests)) * error
    equivalent = shown & False
    sound = sample.sound
    if outlook.margin is not None:
        room = outlook.margin - abs(centre)
        equivalent = room > NORMAL.inv_cdf(1 - ALPHA) * error
        if n > 1:
            equivalent &= room > t_quantile(1 - ALPHA, n - 1) * _error(row)
    if n > 1:
        q = outlook.rows * ((row - centre[:, None]) ** 2).sum(axis=1)
        sound = sound & (q < float(chdtri(n - 1, GATE_ALPHA)))
    return Shift(shown, equivalent, sound)


def _from_retraining(row: Array, sample: Sample, outlook: Outlook) -> Shift:
    """Student's t of paired gaps; beside a second retraining the test against both."""
    import numpy as np

    n = row.shape[1]
    sure = np.ones(len(row), dtype=bool)
    if sample.retrain is None or n == 1:
        return Shift(~sure, ~sure, sure)
    gap = row - _control(sample)
    floor, level = outlook.resolution, 1 - ALPHA / (2 * outlook.tests)
    paired, one_sided = t_quantile(level, n - 1), t_quantile(1 - ALPHA, n - 1)
    alone, sure_of_own = _error(gap, floor), t_quantile(1 - ALPHA / 2, n - 1)
    critical, allowed = paired * alone, one_sided * alone
    if sample.fresh is not None:
        null = ((sample.retrain - sample.fresh) ** 2).sum(axis=1) / (2 * n)
        steady = gap.var(axis=1, ddof=1) <= CONTROL * null
        error = np.maximum(np.sqrt(CONTROL * null), floor) / math.sqrt(n)
        critical = np.where(steady, t_quantile(level, 2 * n - 2) * error, critical)
    shift = abs(gap.mean(axis=1))
    equivalent = ~sure if outlook.margin is None else outlook.margin - shift > allowed
    return Shift((shift > critical) & (shift > sure_of_own * alone), equivalent, sure)


def _below_share(row: Array, sample: Sample, floor: float) -> Array:
    """Whether |gap| is shown to be less than SHARE of that of no unlearning, [draws]: Student's t
    of the paired differences, on both sides. Gaps are to the control of the test of a shift."""
    import numpy as np

    assert sample.none is not None
    control = _control(sample)
    gap, before = row - control, sample.none - control
    allowed = SHARE * np.sign(before.mean(axis=1))[:, None] * before
    critical = t_quantile(1 - ALPHA, row.shape[1] - 1)
    below = np.ones(len(row), dtype=bool)
    for side in (1, -1):
        excess = side * gap - allowed
        below &= excess.mean(axis=1) < -critical * _error(excess, floor)
    return below


def _control(sample: Sample) -> Any:
    """What gaps are measured from: an exact null's 0, retraining, or the mean of both retrainings."""
    if sample.retrain is None:
        return 0.0
    return sample.retrain if sample.fresh is None else (sample.retrain + sample.fresh) / 2


def _wrecked(sample: Sample, outlook: Outlook) -> Array:
    """Whether a loss of accuracy is shown, [draws], and the poison has not done it."""
    assert sample.loss is not None
    margin = outlook.utility_margin
    lost = _exceeds(sample.loss, margin, ALPHA / outlook.models)
    if not outlook.of_accuracy or sample.none_loss is None:
        return lost
    poisoned = sample.none_loss.mean(axis=1) > margin
    by_poison: Array = poisoned & ~_exceeds(sample.loss - sample.none_loss, margin, ALPHA)
    return lost & ~by_poison


def _exceeds(loss: Array, margin: float, alpha: float) -> Array:
    """Whether a loss is shown to be more than the margin: one-sided paired t."""
    critical = t_quantile(1 - alpha, loss.shape[1] - 1)
    above: Array = loss.mean(axis=1) - margin > critical * _error(loss)
    return above


def _upper_bound(loss: Array) -> Array:
    """The one-sided 95 % bound of a loss, [draws]."""
    bound: Array = loss.mean(axis=1) + t_quantile(1 - ALPHA, loss.shape[1] - 1) * _error(loss)
    return bound


def _error(values: Array, floor: float = 0.0) -> Array:
    """The standard error of every draw's mean, its deviation no smaller than `floor`."""
    import numpy as np

    error: Array = np.maximum(values.std(axis=1, ddof=1), floor) / math.sqrt(values.shape[1])
    return error
