"""Measurements in, comparison rows out: the one table behind every view, export and verdict.

A row is one metric of one audit of one (setting, attack, method, variant, budget), over seeds.
Rows are plain JSON; whatever is undefined is None. An attack may have several poisons a seed, each
aimed at a target of its own: then a row pools (seed, unit) pairs, and "seed" below means such a pair.

    values       aligned with `seeds`, None where a seed gave none; `n` counts the others
    units        aligned, too; only where there are several a seed
    beside       True, only for a rate that tables show beside the primary metric
    class        the class's name, only of a metric measured for each class ("class_accuracy.3")
    mean, lo, hi 95 % t-interval over the seeds; of a rate, Wilson's
    gap          mean paired difference to retraining, over the seeds both have; None for
                 retraining itself. `retrain_mean` is retraining's mean over those seeds
    recovery     (none - this) / (none - retrain), means over the seeds all three have: 0 for none,
                 1 for retraining. None when none - retrain is within noise: its 95 % interval
                 contains 0. A single seed has no interval; there the metric's margin stands in.
                 recovery_lo and _hi are Fieller's 95 % interval of that ratio of means
    rate_lo, rate_hi  95 % interval of a share of counted rows, the rows of all seeds together (see
                 engine.results.rates); None for what is no such share. It tells how well the rows
                 pin the share down, and leaves out that seeds differ: that is in lo and hi
    tee, seconds mean own cost of the seeds that finished
    search_tee, search_seconds  the whole search for the method's settings; None where not tuned
    verdict      its word and reason, for the audit's primary metric only; likewise
    p, p_holm    the two-sided test of a difference from the null, and after Holm's correction;
    equivalence_p  the test of equivalence within the margin. All None where nothing was tested
    seeds_to_settle  how many seeds, in all, would make another word of "inconclusive"

Metrics that must not be averaged (p-values) have values, and None for everything computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.results.rates import rate_interval
from engine.results.statistics import (
    Estimate,
    mean,
    paired_difference,
    ratio_interval,
    success_difference,
    success_rate,
    t_interval,
)
from engine.results.tidy import AuditLike, Audits, Measurement, finite, metric_of
from engine.results.verdict import (
    COUNT,
    UTILITY_AUDIT,
    UTILITY_METRIC,
    Candidate,
    Trial,
    Verdict,
    judge,
)
from engine.spec.errors import BadInput

Row = dict[str, Any]
Values = dict[Trial, float]
Model = tuple[str, str, str, str, float | None]  # setting, attack, method, variant, budget

LONGEST_CLASS = 40  # characters of a class's name that people are shown
FEW_SEEDS = 3  # below this a verdict's reason says how few there are
STATUSES = ("ok", "n/a", "failed", "missing")  # where two runs differ on a cell, the earlier holds
TESTED = ("p", "p_holm", "equivalence_p", "seeds_to_settle")  # of a verdict, in its row
ROLES = ("none", "retrain", "retrain-fresh", "retrain-known", "unlearn", "oracle")


class Place(NamedTuple):
    """Where a row's measurements belong, seed and metric aside."""

    setting: str
    attack: str
    method: str
    variant: str
    budget: float | None
    audit: str
    role: str

    @property
    def family(self) -> tuple[str, str, str]:
        return self.setting, self.attack, self.audit

    @property
    def model(self) -> Model:
        return self[:5]

    def order(self) -> tuple[Any, ...]:
        budget = (self.budget is not None, self.budget or 0.0)
        rank = ROLES.index(self.role)
        return self.setting, self.attack, rank, self.method, self.variant, budget, self.audit

    def __str__(self) -> str:
        budget = "" if self.budget is None else f"budget {self.budget:g}"
        words = (self.setting, self.attack, self.method, self.variant, budget, self.audit)
        return " / ".join(word for word in words if word)


@dataclass(slots=True)
class Group:
    """All measurements of one place: metric -> trial -> value, and each trial's outcome."""

    place: Place
    metrics: dict[str, Values] = field(default_factory=dict)
    outcomes: dict[Trial, Measurement] = field(default_factory=dict)  # any one of the trial's
    # metric -> the class it is of; several where runs on other data are compared under one name
    classes: dict[str, list[str]] = field(default_factory=dict)

    def values(self, metric: str) -> Values:
        return self.metrics.get(metric, {})

    def cost(self) -> tuple[float | None, float | None]:
        done = [m for m in self.outcomes.values() if m.status == "ok"]
        if not done:
            return None, None
        return mean([m.tee for m in done]), mean([m.seconds for m in done])

    def search(self) -> dict[str, float | None]:
        """What the search cost; of several runs, of which each may have searched, the most."""
        told: dict[str, float | None] = {}
        for name in ("search_tee", "search_seconds"):
            known = [getattr(m, name) for m in self.outcomes.values()]
            told[name] = max((value for value in known if value is not None), default=None)
        return told


def compare(measurements: Iterable[Measurement], audits: Audits) -> list[Row]:
    """Rows in a fixed order: by setting, attack, role, method, variant, budget, audit, metric.

    The primary metric comes first. Several runs may be given together: their seeds are united.
    Raises BadInput if two runs give different values for the same thing.
    """
    groups = gather(measurements)
    families: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for group in groups:
        families[group.place.family].append(group)
    utility = {
        group.place.model: group.values(UTILITY_METRIC)
        for group in groups
        if group.place.audit == UTILITY_AUDIT
    }
    verdicts = {
        place: verdict
        for family in families.values()
        for place, verdict in _verdicts(family, utility, audits).items()
    }
    rows: list[Row] = []
    for group in groups:
        audit = audits.get(group.place.audit)
        primary = audit.primary if audit else ""
        others = sorted(group.metrics.keys() - {primary, ""})
        for name in [primary, *others] if primary else others:
            row = _row(group, name, families[group.place.family], audit)
            if name == primary:
                verdict = verdicts[group.place]
                remarks = (verdict.reason, *_remarks(group, row["n"], _called([group])))
                row |= {"primary": True, "verdict": verdict.word, "reason": "; ".join(remarks)}
                row |= {name: getattr(verdict, name) for name in TESTED}
            rows.append(row)
    return rows


def _verdicts(
    family: Sequence[Group], utility: Mapping[Model, Values], audits: Audits
) -> dict[Place, Verdict]:
    """Judge the primary metric of every member of a family; nothing if its audit is unknown or
    only describes."""
    audit = audits.get(family[0].place.audit)
    if audit is None or not audit.primary:
        return {}
    candidates = [
        Candidate(
            role=group.place.role,
            values=group.values(audit.primary),
            companions=group.metrics,
            utility=utility.get(group.place.model, {}),
            absent=_absence(group),
            lost=_lost(group, audit.primary),
        )
        for group in family
    ]
    words = judge(candidates, audit.metrics[audit.primary], _called(family))
    return {group.place: word for group, word in zip(family, words, strict=True)}


def _absence(group: Group) -> str:
    """Why a group has no values, from its worst seed: "needs 3 TEE", "failed: out of memory"."""
    worst = max(group.outcomes.values(), key=lambda m: (STATUSES.index(m.status), m.reason))
    if worst.status == "ok":
        return ""
    return worst.reason if worst.status == "n/a" else f"{worst.status}: {worst.reason}"


def _lost(group: Group, metric: str) -> str:
    """The seeds that ran and gave no value, beside others that did: a method that diverges on some
    seeds and is clean on the rest has not removed the poison."""
    ran = [seed for seed, m in group.outcomes.items() if m.status != "missing"]
    lost = len(ran) - len(group.values(metric))
    return f"{lost} of {len(ran)} seeds gave no value" if 0 < lost < len(ran) else ""


def _called(groups: Sequence[Group]) -> str:
    """What a trial is to the reader: a seed, or one of the targets of a seed."""
    many = any(trial.unit for group in groups for trial in group.outcomes)
    return "target" if many else "seed"


def _remarks(group: Group, n: int, trial: str) -> list[str]:
    """What a reader must know of the seeds behind a verdict."""
    if n == 0:
        return []
    lost = len(group.outcomes) - n
    remarks = []
    if lost:
        why = _absence(group) or "no value"
        remarks.append(f"{lost} of {len(group.outcomes)} {trial}s without a value ({why})")
    if n < FEW_SEEDS:
        remarks.append(f"only {n} {trial}{'s' if n > 1 else ''}")
    return remarks


# --- gathering -----------------------------------------------------------------------------------


def gather(measurements: Iterable[Measurement]) -> list[Group]:
    """Unite runs, drop identical duplicates, and sort. Raises BadInput where runs disagree."""
    cells: dict[tuple[Place, Trial], list[Measurement]] = defaultdict(list)
    for m in measurements:
        place = Place(m.setting, m.attack, m.method, m.variant, m.budget, m.audit, m.role)
        cells[place, Trial(m.seed, m.unit)].append(m)
    groups: dict[Place, Group] = {}
    for (place, trial), told in cells.items():
        best = min((m.status for m in told), key=STATUSES.index)
        found = [m for m in told if m.status == best]
        group = groups.setdefault(place, Group(place))
        group.outcomes[trial] = min(found, key=lambda m: (m.run, m.tee, m.seconds, m.reason))
        for m in found:
            names = group.classes.setdefault(m.metric, [])
            if m.class_name and m.class_name not in names:
                names.append(m.class_name)
        for metric, value in _agreed(found, place).items():
            values = group.metrics.setdefault(metric, {})  # a row even if no seed has a value
            if value is not None:
                values[trial] = value
    _one_reference(groups)
    return sorted(groups.values(), key=lambda group: group.place.order())


def _agreed(found: Sequence[Measurement], place: Place) -> dict[str, float | None]:
    """metric -> value of one cell, told by one run or by several alike."""
    told: dict[str, Measurement] = {}
    for m in found:
        first = told.setdefault(m.metric, m)
        if finite(first.value) != finite(m.value):
            runs = f"run {m.run}" if m.run == first.run else f"runs {first.run} and {m.run}"
            raise BadInput(
                f"{runs}: two values of {m.metric} for {place}, {Trial(m.seed, m.unit)}: "
                f"{first.value} and {m.value}. The same names stand for different experiments; "
                "compare them apart."
            )
    return {metric: finite(m.value) for metric, m in told.items()}


def _one_reference(groups: Iterable[Place]) -> None:
    references: dict[tuple[str, str, str], Place] = {}
    for place in groups:
        if place.role == "retrain" and references.setdefault(place.family, place) != place:
            raise BadInput(
                f"two retrainings to compare with: {references[place.family]} and {place}. "
                "Compare their runs apart."
            )


def _of_role(family: Sequence[Group], role: str) -> Group | None:
    return next((group for group in family if group.place.role == role), None)


def shown_metric(row: Row) -> str:
    """A row's metric for people: class_accuracy.3 (cat)."""
    name = "".join(c for c in row.get("class") or "" if c.isprintable())
    if len(name) > LONGEST_CLASS:
        name = f"{name[: LONGEST_CLASS - 1]}…"
    return f"{row['metric']} ({name})" if name else str(row["metric"])


# --- rows ----------------------------------------------------------------------------------------


def _row(group: Group, name: str, family: Sequence[Group], audit: AuditLike | None) -> Row:
    place, values = group.place, group.values(name)
    metric = metric_of(audit, name) if audit else None
    trials = sorted(group.outcomes)
    tee, seconds = group.cost()
    row: Row = {
        "setting": place.setting,
        "attack": place.attack,
        "method": place.method,
        "variant": place.variant,
        "budget": place.budget,
        "audit": place.audit,
        "metric": name,
        "primary": False,
        "n": len(values),
        "seeds": [trial.seed for trial in trials],
        "values": [values.get(trial) for trial in trials],
        "mean": None,
        "lo": None,
        "hi": None,
        "retrain_mean": None,
        "gap": None,
        "gap_lo": None,
        "gap_hi": None,
        "recovery": None,
        "recovery_lo": None,
        "recovery_hi": None,
        "rate_lo": None,
        "rate_hi": None,
        "p": None,
        "p_holm": None,
        "equivalence_p": None,
        "seeds_to_settle": None,
        "verdict": None,
        "reason": None,
        "tee": tee,
        "seconds": seconds,
        **group.search(),
    }
    if any(trial.unit for trial in trials):
        row["units"] = [trial.unit for trial in trials]
    if metric is not None and metric.beside:
        row["beside"] = True
    if group.classes.get(name):
        row["class"] = " or ".join(group.classes[name])
    if not values or (metric is not None and not metric.averaged):
        return row
    rate = metric is not None and metric.rate
    own = success_rate(_in_order(values)) if rate else t_interval(_in_order(values))
    row |= {"mean": own.mean, "lo": own.lo, "hi": own.hi}
    row["rate_lo"], row["rate_hi"] = rate_interval(metric, values, group.values(COUNT))
    retrain, untouched = _of_role(family, "retrain"), _of_role(family, "none")
    if retrain is None:
        return row
    reference = retrain.values(name)
    shared = sorted(values.keys() & reference.keys())
    if shared:
        row["retrain_mean"] = mean([reference[seed] for seed in shared])
        if group is not retrain:
            gap = _difference(values, reference, shared, rate)
            row |= {"gap": gap.mean, "gap_lo": gap.lo, "gap_hi": gap.hi}
    if untouched is not None:
        margin = metric.margin if metric is not None else None
        found = recovery(values, untouched.values(name), reference, margin)
        row["recovery"], row["recovery_lo"], row["recovery_hi"] = found
    return row


def recovery(
    values: Values, none: Values, retrain: Values, margin: float | None
) -> tuple[float | None, float | None, float | None]:
    """The share of the way from no unlearning to retraining, and its interval; see the top of this
    file."""
    shared = sorted(values.keys() & none.keys() & retrain.keys())
    if not shared:
        return None, None, None
    whole = _difference(none, retrain, shared)
    if whole.lo is None or whole.hi is None:
        drowned = margin is None or abs(whole.mean) <= margin
    else:
        drowned = whole.lo <= 0 <= whole.hi
    if drowned:
        return None, None, None
    ratio = finite(_difference(none, values, shared).mean / whole.mean + 0.0)  # never -0.0
    interval = ratio_interval(
        [none[seed] - values[seed] for seed in shared],
        [none[seed] - retrain[seed] for seed in shared],
    )
    lo, hi = interval or (None, None)
    return ratio, lo, hi


def _difference(
    left: Values, right: Values, trials: Sequence[Trial], rate: bool = False
) -> Estimate:
    one, other = [left[trial] for trial in trials], [right[trial] for trial in trials]
    return success_difference(one, other) if rate else paired_difference(one, other)


def _in_order(values: Values) -> list[float]:
    return [values[trial] for trial in sorted(values)]
