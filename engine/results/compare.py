"""Measurements in, comparison rows out: the one table behind every view, export and verdict.

A row is one metric of one audit of one (setting, attack, method, variant, budget), over seeds.
Rows are plain JSON; whatever is undefined is None. An attack may have several poisons a seed, each
aimed at a target of its own: then a row holds the values of (seed, unit) pairs, and "seed" below
means such a pair. Intervals and tests take the pairs of a seed as one cluster.

    values       aligned with `seeds`, None where a seed gave none; `n` counts the others
    units        aligned, too; only where there are several a seed
    beside       True, only for a rate that tables show beside the primary metric
    class        the class's name, only of a metric measured for each class ("class_accuracy.3")
    mean, lo, hi 95 % t-interval over the seeds; of a rate, Wilson's, or the longer of the two where
                 a seed has several targets
    gap          mean paired difference to retraining, over the seeds both have; None for
                 retraining itself. `retrain_mean` is retraining's mean over those seeds
    recovery     (none - this) / (none - retrain), means over the seeds all three have: 0 for none,
                 1 for retraining. None where no unlearning's effect is not shown: the 95 % interval
                 of none - retrain contains 0, or for a standard-normal null its own test shows
                 nothing. recovery_lo and _hi are Fieller's 95 % interval of that ratio of means
    over_corrected  True where recovery is shown to be above 1
    rate_lo, rate_hi  95 % interval of a share of counted rows, the rows of all seeds together (see
                 engine.results.rates); None for what is no such share. It tells how well the rows
                 pin the share down, and leaves out that seeds differ: that is in lo and hi
    tee, seconds mean own cost of the seeds that finished
    search_tee, search_seconds  the whole search for the method's settings; None where not tuned
    verdict      its word and reason, for the audit's primary metric only; likewise
    qualifier    of the word: "accuracy", "reinforced", "over-corrected", mostly None
    p, p_holm    the two-sided test of a difference from the null, and after Holm's correction;
    equivalence_p  the test of equivalence within the margin. All None where nothing was tested
    test, p_test, p_hommel, equivalence_test  the tests behind the word, and Hommel's correction:
                 they differ from the plain ones where there are two retrainings
    p_relative   that a quarter or more of no unlearning's effect is left
    p_reinforced  of lying above no unlearning, Hommel's correction over the family
    loss, loss_lo, loss_hi, p_wrecked  of test accuracy beside retraining, with its 90 % interval;
                 the test of a loss beyond the margin, corrected over the models of the attack
    margin       the equivalence margin the row was judged by
    seeds_to_settle  how many seeds, in all, would make another word of "inconclusive"
    diverged     aligned with `seeds`: "step 120" where a seed diverged, else None; only where one did

Metrics that must not be averaged (p-values) have values, and None for everything computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.results.effect import recovery, shown_effect
from engine.results.evidence import COUNT, Candidate, References, Trial, examine
from engine.results.gathering import STATUSES, Group, Model, Place, Values, gather
from engine.results.intervals import difference, spread
from engine.results.rates import rate_interval
from engine.results.statistics import mean
from engine.results.tidy import AuditLike, Audits, Measurement, finite, metric_of
from engine.results.utility import UTILITY_AUDIT, UTILITY_MARGIN, UTILITY_METRIC, Loss, losses
from engine.results.verdict import FEWEST_SEEDS, Verdict, judge

if TYPE_CHECKING:
    from engine.spec.component import Metric

Row = dict[str, Any]
LONGEST_CLASS = 40  # characters of a class's name that people are shown
MOST_TOLD = 8  # trials of a row whose divergence is told one by one
# Of a verdict, in its row.
TESTED = (
    "p", "p_holm", "equivalence_p", "test", "p_test", "p_hommel", "equivalence_test", "p_relative",
    "p_reinforced", "p_wrecked", "seeds_to_settle",
)  # fmt: skip
OF_VERDICT = ("verdict", "qualifier", "reason", *TESTED, "loss", "loss_lo", "loss_hi", "margin")


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
    lost = _losses(groups, utility, audits)
    verdicts = {
        place: verdict
        for family in families.values()
        for place, verdict in _verdicts(family, utility, lost, audits).items()
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
                remarks = (verdict.reason, *_remarks(group, name, _called([group])))
                remarks += tuple(_lacking(group, families[group.place.family]))
                row |= {"primary": True, "verdict": verdict.word, "reason": "; ".join(remarks)}
                row |= {"qualifier": verdict.qualifier or None, "margin": _margin(audit, name)}
                row |= {name: getattr(verdict, name) for name in TESTED}
                if (loss := verdict.loss) is not None:
                    row |= {"loss": loss.mean, "loss_lo": loss.lo, "loss_hi": loss.hi}
            rows.append(row)
    return rows


def _margin(audit: AuditLike | None, name: str) -> float | None:
    metric = metric_of(audit, name) if audit is not None else None
    return None if metric is None else metric.margin


def _losses(
    groups: Sequence[Group], utility: Mapping[Model, Values], audits: Audits
) -> dict[Model, Loss | None]:
    """Each model's loss of accuracy, corrected over the models of its attack, whatever the audit."""
    attacks: dict[tuple[str, str], dict[Model, str]] = defaultdict(dict)
    for group in groups:
        if group.place.model in utility:
            roles = attacks[group.place.setting, group.place.attack]
            roles[group.place.model] = group.place.role
    found: dict[Model, Loss | None] = {}
    for roles in attacks.values():
        reference = next((model for model, role in roles.items() if role == "retrain"), None)
        lost = losses(
            [utility[model] for model in roles],
            utility[reference] if reference is not None else None,
            [role not in ("retrain", "none", "oracle") for role in roles.values()],
            utility_margin(audits),
        )
        found |= dict(zip(roles, lost, strict=True))
    return found


def utility_margin(audits: Audits) -> float:
    """The loss of accuracy that wrecks a model: the margin of test accuracy."""
    margin = _margin(audits.get(UTILITY_AUDIT), UTILITY_METRIC)
    return UTILITY_MARGIN if margin is None else margin


def _verdicts(
    family: Sequence[Group],
    utility: Mapping[Model, Values],
    lost: Mapping[Model, Loss | None],
    audits: Audits,
) -> dict[Place, Verdict]:
    """Judge the primary metric of every member of a family; nothing if its audit is unknown or
    only describes."""
    audit = audits.get(family[0].place.audit)
    if audit is None or not audit.primary:
        return {}
    candidates = [_candidate(group, audit.primary, utility) for group in family]
    found = [lost.get(group.place.model) for group in family]
    words = judge(candidates, audit.metrics[audit.primary], found, utility_margin(audits))
    return {group.place: word for group, word in zip(family, words, strict=True)}


def _candidate(group: Group, primary: str, utility: Mapping[Model, Values]) -> Candidate:
    return Candidate(
        role=group.place.role,
        values=group.values(primary),
        companions=group.metrics,
        utility=utility.get(group.place.model, {}),
        absent=_absence(group),
        lost=_lost(group, primary),
        diverged=divergence(group),
    )


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


def _remarks(group: Group, name: str, trial: str) -> list[str]:
    """What a reader must know of the seeds behind a verdict."""
    n, seeds = len(group.values(name)), len({trial.seed for trial in group.values(name)})
    if n == 0:
        return []
    others = {Trial(m.seed, m.unit): m for m in _others(group)}  # the diverged are told first
    lost = len(others) - n
    remarks = []
    if lost:
        why = _absence(replace(group, outcomes=others)) or "no value"
        remarks.append(f"{lost} of {len(group.outcomes)} {trial}s without a value ({why})")
    if seeds < FEWEST_SEEDS:
        remarks.append(f"only {seeds} seed{'s' if seeds > 1 else ''}")
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
        "over_corrected": False,
        **dict.fromkeys(OF_VERDICT),
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
    own = spread(values, rate)
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
            gap = difference(values, reference, rate)
            row |= {"gap": gap.mean, "gap_lo": gap.lo, "gap_hi": gap.hi}
    if untouched is not None:
        shown = _effect(untouched, name, metric)
        found = recovery(values, untouched.values(name), reference, shown)
        if found is not None:
            row |= {"recovery": finite(found.share), "recovery_lo": found.lo}
            row |= {"recovery_hi": found.hi, "over_corrected": found.over_corrected}
    return row


def _effect(none: Group, name: str, metric: Metric | None) -> bool | None:
    """Whether no unlearning's effect is shown, where that has an exact test; None: ask its interval."""
    if metric is None or metric.null != "standard-normal":
        return None
    row = _candidate(none, name, {})
    return shown_effect(examine(row, References(None, None, row), metric))
