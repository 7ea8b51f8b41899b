"""Is the poison out? One word for every row, and the numbers behind it.

    reference     retraining without the poison, which the others are compared with
    residue       a significant shift (two-sided, Holm over the family), not shown to be negligible
    removed       shown to be negligible: equivalent within the metric's margin (TOST over seeds)
    inconclusive  neither shown; or equivalent, but an assumption behind that does not hold
    wrecked       utility more than 2 points below retraining: nothing else is claimed. Where test
                  accuracy itself is judged and the poison has lowered it: below no unlearning, too
    n/a           nothing was measured, perhaps because every seed diverged
    oracle        settings were chosen by looking at the audit: an upper bound, not judged

`removed` is a claim about the method, over poisons and seeds: it needs two seeds at least, a value
from every seed that ran, and an equivalence test that lets seeds differ from one another.
docs/statistics.md has the error rates of each word, and how they were found.

A *family* is every row of one (setting, attack, audit). All its tested rows share Holm's
correction, wrecked ones too: what is corrected for must not depend on what was found. Oracles are
not tested.
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

Word = Literal["residue", "removed", "inconclusive", "wrecked", "n/a", "reference", "oracle"]

ALPHA = 0.05  # Holm-corrected residue; each side of an equivalence test
GATE_ALPHA = 0.01  # checks of the assumptions behind the standard-normal null

UTILITY_AUDIT = "accuracy"
UTILITY_METRIC = "test_accuracy"
UTILITY_MARGIN = 0.02  # of test accuracy; falling further below retraining wrecks a model

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


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row to be judged; each mapping goes from trial to value. A trial is a seed, mostly.

    `values` holds the primary metric, `companions` other metrics of the same audit by name,
    `utility` the model's test accuracy. `absent` says why there are no values, if so; `lost` which
    seeds ran and gave none, beside others that did; `diverged` which of them diverged.
    """

    role: str
    values: Mapping[Trial, float]
    companions: Mapping[str, Mapping[Trial, float]] = field(default_factory=dict)
    utility: Mapping[Trial, float] = field(default_factory=dict)
    absent: str = ""
    lost: str = ""
    diverged: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`p` is two-sided, `p_holm` corrected over the family; None where nothing was tested.

    `seeds_to_settle` estimates how many seeds in all (more than there are) would turn
    "inconclusive" into another word if the shift seen so far is the true one; None when no sensible
    number would.
    """

    word: Word
    reason: str
    p: float | None = None
    p_holm: float | None = None
    equivalence_p: float | None = None
    seeds_to_settle: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the seeds of one row say together about a shift from the null.

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
    power: str = ""
    objection: str = ""


def judge(family: Sequence[Candidate], metric: Metric, trial: str = "seed") -> list[Verdict]:
    """A verdict for each row of a family, in order. `metric` is the audit's primary.

    `trial` is the reader's word for what is repeated.
    """
    reference = next((row for row in family if row.role == "retrain"), None)
    untouched = next((row for row in family if row.role == "none"), None)
    findings = [examine(row, reference, metric) for row in family]
    tested = {
        index: found.p
        for index, (row, found) in enumerate(zip(family, findings, strict=True))
        if row.role not in ("retrain", "oracle") and isinstance(found, Evidence)
    }
    adjusted = dict(zip(tested, statistics.holm(list(tested.values())), strict=True))
    return [
        conclude(
            row,
            found,
            metric,
            reference,
            untouched,
            p_holm=adjusted.get(index, 1.0),
            tests=len(tested),
            trial=trial,
        )
        for index, (row, found) in enumerate(zip(family, findings, strict=True))
    ]


# --- evidence ------------------------------------------------------------------------------------


def examine(row: Candidate, reference: Candidate | None, metric: Metric) -> Evidence | str:
    """Test one row against its null; a string says why it cannot be tested."""
    if metric.null == "standard-normal":
        return against_standard_normal(row, metric)
    return against_retraining(row, reference, metric)


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
    seeds = _shared(row.values, counts)
    if not seeds or len(seeds) < len(row.values):
        return f"every seed needs a positive {COUNT!r} beside its mean: the null is N(0, 1/{COUNT})"
    means, sizes = [row.values[s] for s in seeds], [counts[s] for s in seeds]
    shift, error = statistics.pooled_mean(means, sizes)
    null_sd = error * math.sqrt(len(seeds))
    observed = statistics.standard_deviation(means) if len(seeds) > 1 else 0.0
    equivalence = None
    if metric.margin is not None:
        equivalence = statistics.tost_z(shift, error, metric.margin)
        if len(seeds) > 1:
            equivalence = max(equivalence, statistics.tost_t(means, metric.margin))
    unscored = sum(row.companions.get(ZEROS, {}).get(s, 0.0) for s in seeds)
    told = f", {unscored:.0f} rows had no gradient" if unscored else ""
    return Evidence(
        n=len(seeds),
        shift=shift,
        sd=null_sd,
        known=True,
        spread=max(observed, null_sd),
        p=statistics.z_test(shift, error),
        equivalence_p=equivalence,
        headline=f"z = {shift / error:+.2f}, mean {shift:+.3f}{told}",
        power=f"smallest detectable shift {statistics.detectable_shift(error):.2f}",
        objection="most rows had no gradient to score"
        if unscored > sum(sizes)
        else _gates(means, sizes, [row.companions.get(STD, {}).get(s) for s in seeds]),
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


def against_retraining(
    row: Candidate, reference: Candidate | None, metric: Metric
) -> Evidence | str:
    """Differences to retraining with the same seed. Two seeds at least, or there is no spread.

    A deviation below the measurement's resolution is taken for the resolution: 0 of 20 in every
    seed does not show that a rate is 0.
    """
    seeds = _shared(row.values, reference.values) if reference else []
    if reference is None or not seeds:
        return "no retraining with the same seeds to compare with"
    gaps = [row.values[seed] - reference.values[seed] for seed in seeds]
    if len(gaps) == 1:
        return f"gap {gaps[0]:+.3f}; one seed: no interval"
    step = resolution(row, reference, seeds)
    if step is None:
        return f"gap {gaps[0]:+.3f} in every seed: the values never vary, so nothing can be tested"
    margin = metric.margin
    gap = statistics.mean(gaps)
    spread = max(statistics.standard_deviation(gaps), step)
    return Evidence(
        n=len(gaps),
        shift=gap,
        sd=spread,
        known=False,
        spread=spread,
        p=statistics.t_test(gaps, step),
        equivalence_p=None if margin is None else statistics.tost_t(gaps, margin, step),
        headline=f"gap {gap:+.3f}",
    )


def resolution(row: Candidate, reference: Candidate, seeds: Sequence[Trial]) -> float | None:
    """The step in which values come: 1/count where rows were counted, else the smallest seen.

    None if there is neither, all values being the same.
    """
    counted = [
        side.companions.get(COUNT, {}).get(s, 0.0) for side in (row, reference) for s in seeds
    ]
    if min(counted) > 0:
        return 1 / min(counted)
    values = sorted(side.values[s] for side in (row, reference) for s in seeds)
    steps = [b - a for a, b in pairwise(values) if b - a > ROUNDING]
    return min(steps, default=None)


# --- conclusions ---------------------------------------------------------------------------------


def conclude(
    row: Candidate,
    found: Evidence | str,
    metric: Metric,
    reference: Candidate | None,
    untouched: Candidate | None,
    *,
    p_holm: float,
    tests: int,
    trial: str = "seed",
) -> Verdict:
    """The first of these that applies: n/a, reference, oracle, wrecked, not testable, tested.

    `tests` is how many rows of the family were tested; `untouched` is the row without unlearning.
    Where some seeds diverged, that comes first, and what is said of the others is never *removed*.
    """
    if row.diverged and row.values:
        others = replace(row, diverged="")
        found_out = conclude(
            others, found, metric, reference, untouched, p_holm=p_holm, tests=tests, trial=trial
        )
        word: Word = "inconclusive" if found_out.word == "removed" else found_out.word
        return replace(found_out, word=word, reason=f"{row.diverged}; {found_out.reason}")
    if not row.values:
        return Verdict("n/a", row.absent or "no value")
    if row.role == "retrain":
        return Verdict("reference", _reference_reason(found, metric))
    if row.role == "oracle":
        return Verdict(
            "oracle", "settings chosen by looking at an audit: an upper bound, not judged"
        )
    loss = None if row.role == "none" else utility_loss(row, reference)
    if loss is not None and _lowers(loss) and not _poison_did_it(row, reference, untouched):
        reason = f"test accuracy {100 * loss.mean:.1f} points below retraining{_span(loss)}"
        if isinstance(found, str):
            return Verdict("wrecked", reason)
        return Verdict("wrecked", reason, found.p, p_holm, found.equivalence_p)
    if isinstance(found, str):
        return Verdict("inconclusive", found)
    verdict = _tested(found, p_holm, tests, metric, trial)
    if verdict.word == "removed" and row.lost:
        return replace(verdict, word="inconclusive", reason=f"{verdict.reason}; but {row.lost}")
    if verdict.word != "removed" or row.role == "none":
        return verdict
    return replace(verdict, reason=verdict.reason + _utility_remark(loss, len(row.values)))


def utility_loss(row: Candidate, reference: Candidate | None) -> statistics.Estimate | None:
    """How far test accuracy lies below retraining: mean over shared seeds, None without any."""
    seeds = _shared(row.utility, reference.utility) if reference else []
    if reference is None or not seeds:
        return None
    return statistics.paired_difference(
        [reference.utility[seed] for seed in seeds], [row.utility[seed] for seed in seeds]
    )


def _lowers(loss: statistics.Estimate | None) -> bool:
    """Whether a loss of utility crosses the line."""
    return loss is not None and loss.mean > UTILITY_MARGIN + ROUNDING


def _poison_did_it(
    row: Candidate, reference: Candidate | None, untouched: Candidate | None
) -> bool:
    """Where utility is what is judged: it is as low without unlearning, so that is the residue."""
    if (
        untouched is None
        or row.values != row.utility
        or not _lowers(utility_loss(untouched, reference))
    ):
        return False
    return not _lowers(utility_loss(row, untouched))


def _span(loss: statistics.Estimate) -> str:
    """The interval of a loss of utility, and whether it holds the line that was crossed."""
    if loss.lo is None or loss.hi is None:
        return ""
    near = ", so perhaps not" if loss.lo <= UTILITY_MARGIN else ""
    return f" (95 % {100 * loss.lo:.1f} to {100 * loss.hi:.1f}{near})"


def _utility_remark(loss: statistics.Estimate | None, seeds: int) -> str:
    """What `removed` must admit of the utility that goes with it."""
    if loss is None:
        return "; utility not measured"
    if loss.n < seeds:
        return f"; utility measured in {loss.n} of {seeds} seeds"
    if loss.hi is not None and loss.hi > UTILITY_MARGIN + ROUNDING:
        return f"; test accuracy may be {100 * loss.hi:.1f} points lower (95 %)"
    return ""


def _tested(evidence: Evidence, p_holm: float, tests: int, metric: Metric, trial: str) -> Verdict:
    """Residue, removed or inconclusive.

    `removed` has one way in: an equivalence test that passed, with no objection.
    """
    equivalent = evidence.equivalence_p is not None and evidence.equivalence_p < ALPHA
    shown = [evidence.headline, f"Holm {show_p(p_holm)}", _equivalence(evidence, metric)]
    word: Word = "inconclusive"
    settle = None
    if equivalent and not evidence.objection:
        word = "removed"
        shown = [evidence.headline, shown[2], evidence.power]
    elif not equivalent and p_holm < ALPHA:
        word = "residue"
        shown.append(_side(evidence.shift, metric))
    else:
        shown.append(evidence.power)
        if evidence.objection in ("", ONE_SEED):
            settle = seeds_to_settle(evidence, tests, metric)
            known = f"about {settle} {trial}s" if settle else f"no sensible number of {trial}s"
            shown.append(f"{known} would settle it")
    reason = "; ".join(part for part in (*shown, evidence.objection) if part)
    return Verdict(word, reason, evidence.p, p_holm, evidence.equivalence_p, settle)


def seeds_to_settle(evidence: Evidence, tests: int, metric: Metric) -> int | None:
    """Seeds (in all) that would show either a shift or equivalence, whichever needs fewer.

    80 % power if the shift seen is the true one; a shift must pass Holm's first step, ALPHA/tests.
    At least one more than there are: these had their say.
    """
    shift, sd, known = evidence.shift, evidence.sd, evidence.known
    ways = [statistics.seeds_for_difference(shift, sd, known=known, alpha=ALPHA / tests)]
    if metric.margin is not None:
        ways.append(
            statistics.seeds_for_equivalence(
                shift, evidence.spread, metric.margin, known=False, alpha=ALPHA
            )
        )
    found = min((seeds for seeds in ways if seeds is not None), default=None)
    return None if found is None else max(found, evidence.n + 1)


def show_p(p: float) -> str:
    """A p-value as people write it."""
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _equivalence(evidence: Evidence, metric: Metric) -> str:
    if evidence.equivalence_p is None:
        return "no margin to be equivalent within"
    inside = "within" if evidence.equivalence_p < ALPHA else "not shown to be within"
    return f"{inside} ±{metric.margin:g} (TOST {show_p(evidence.equivalence_p)})"


def _side(shift: float, metric: Metric) -> str:
    if metric.direction is None:
        return ""
    return "" if (shift > 0) == (metric.direction == "up") else "away from the poison's side"


def _reference_reason(found: Evidence | str, metric: Metric) -> str:
    if metric.null == "standard-normal" and isinstance(found, Evidence) and found.p < GATE_ALPHA:
        return f"off the null it should follow ({found.headline}): is the audit leaking?"
    return "retraining from scratch without the poison"


def _shared(left: Mapping[Trial, float], right: Mapping[Trial, float]) -> list[Trial]:
    return sorted(left.keys() & right.keys())
