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
    diverged     aligned with `seeds`: "step 120" where a seed diverged, else None; only where one did

Metrics that must not be averaged (p-values) have values, and None for everything computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.results.gathering import STATUSES, Group, Model, Place, Values, gather
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

Row = dict[str, Any]
LONGEST_CLASS = 40  # characters of a class's name that people are shown
MOST_TOLD = 8  # trials of a row whose divergence is told one by one
FEW_SEEDS = 3  # below this a verdict's reason says how few there are
TESTED = ("p", "p_holm", "equivalence_p", "seeds_to_settle")  # of a verdict, in its row


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
                remarks += tuple(_lacking(group, families[group.place.family]))
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
            diverged=divergence(group),
        )
        for group in family
    ]
    words = judge(candidates, audit.metrics[audit.primary], _called(family))
    return {group.place: word for group, word in zip(family, words, strict=True)}


def _absence(group: Group) -> str:
    """Why a group has no values: which trials diverged, and of the others why the worst has none:
    "needs 3 TEE", "failed: out of memory"."""
    told, others = divergence(group), _others(group)
    worst = max(others, key=lambda m: (STATUSES.index(m.status), m.reason), default=None)
    why = ""
    if worst is not None and worst.status != "ok":
        why = worst.reason if worst.status == "n/a" else f"{worst.status}: {worst.reason}"
    return "; ".join(text for text in (told, why) if text)


def _others(group: Group) -> list[Measurement]:
    """Of the trials that did not diverge."""
    return [m for m in group.outcomes.values() if m.status != "diverged"]


def _lost(group: Group, metric: str) -> str:
    """The seeds that ran and gave no value, beside others that did: a method that diverges on some
    seeds and is clean on the rest has not removed the poison."""
    ran = [s for s, m in group.outcomes.items() if m.status not in ("missing", "diverged")]
    lost = len(ran) - len(group.values(metric))
    return f"{lost} of {len(ran)} seeds gave no value" if 0 < lost < len(ran) else ""


def divergence(group: Group) -> str:
    """Which trials diverged, and where: "1 of 5 seeds diverged (seed 3, step 120)"; of all of them
    "diverged (seed 0, step 12; seed 1, step 15)". Empty where none did."""
    told = [f"{trial}, {m.diverged}" for trial, m in sorted(group.outcomes.items()) if m.diverged]
    if not told:
        return ""
    shown = "; ".join(told[:MOST_TOLD])
    more = f"; {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    if len(told) == len(group.outcomes):
        return f"diverged ({shown}{more})"
    return f"{len(told)} of {len(group.outcomes)} {_called([group])}s diverged ({shown}{more})"


def _lacking(group: Group, family: Sequence[Group]) -> list[str]:
    """Where the seeds of `group` lack what they are compared with because that one diverged."""
    remarks = []
    for role, name, lacks in (
        ("retrain", "retraining", "no gap there"), ("none", "no unlearning", "no recovery there")
    ):  # fmt: skip
        other = _of_role(family, role)
        if other is None or other is group:
            continue
        ours = {trial for trial, m in group.outcomes.items() if m.status == "ok"}
        told = [
            f"{trial}, {m.diverged}"
            for trial, m in sorted(other.outcomes.items())
            if m.diverged and trial in ours
        ]
        if told:
            more = f"; {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
            remarks.append(f"{name} diverged ({'; '.join(told[:MOST_TOLD])}{more}): {lacks}")
    return remarks


def _called(groups: Sequence[Group]) -> str:
    """What a trial is to the reader: a seed, or one of the targets of a seed."""
    many = any(trial.unit for group in groups for trial in group.outcomes)
    return "target" if many else "seed"


def _remarks(group: Group, n: int, trial: str) -> list[str]:
    """What a reader must know of the seeds behind a verdict."""
    if n == 0:
        return []
    others = {
        Trial(m.seed, m.unit): m for m in _others(group)
    }  # those that diverged are told first
    lost = len(others) - n
    remarks = []
    if lost:
        why = _absence(replace(group, outcomes=others)) or "no value"
        remarks.append(f"{lost} of {len(group.outcomes)} {trial}s without a value ({why})")
    if n < FEW_SEEDS:
        remarks.append(f"only {n} {trial}{'s' if n > 1 else ''}")
    return remarks


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
    if any(m.diverged for m in group.outcomes.values()):
        row["diverged"] = [group.outcomes[trial].diverged or None for trial in trials]
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
