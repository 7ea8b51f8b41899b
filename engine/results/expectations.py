"""What verdicts a plan may expect: its judged families, what is known or assumed of each, and the
chances that `engine.results.power` gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.results.compare import utility_margin
from engine.results.like_runs import Families, Family, Likeness, Measured, Past, families, likeness
from engine.results.power import ENOUGH, MOST, TRUTHS, Chances, Outlook, chances
from engine.results.tidy import AuditLike, Audits
from engine.results.utility import UTILITY_AUDIT, UTILITY_METRIC
from engine.spec.component import Metric, poisoned_count
from engine.spec.planned import Plan

# Assumed where no like run tells. A quarter of this effect is the margin, so that being within the
# margin and leaving less than a quarter are the same claim.
EFFECT = 4.0  # margins: how far the model before unlearning lies from the null
GAP = 0.5  # margins: sd of one seed's gap between two models without poison
ACCURACY_SD = 0.01  # of one seed's gap of test accuracy

Place = tuple[str, str, str]  # setting, attack, audit


@dataclass(frozen=True, slots=True)
class Expectation:
    """The chances of one row of families that look alike before anything is computed.

    `stored` and `assumed` go from what (effect, gap_sd, none_sd, accuracy_sd) to where it comes from;
    what is exact is in neither.
    """

    places: tuple[Place, ...]
    metric: str
    seeds: int
    outlook: Outlook
    stored: dict[str, Measured] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)

    def chances(self) -> dict[str, Chances]:
        """Truth → its chances."""
        return {truth: chances(self.outlook, left, self.seeds) for truth, left in TRUTHS.items()}

    @property
    def caveat(self) -> str:
        """Why a word cannot come out whatever the number of seeds; "" where all can."""
        if self.outlook.null == "retrain" and not self.outlook.retrain:
            return "no `retrain`: every row is inconclusive"
        if self.outlook.margin is None:
            return "the metric has no margin: never removed"
        if not self.outlook.none:
            return "no `none`: never removed"
        if not self.outlook.retrain or self.outlook.accuracy_sd is None:
            lacks = "`retrain`" if not self.outlook.retrain else f"audit {UTILITY_AUDIT}"
            return f"no {lacks}: accuracy cannot be compared, never removed"
        return ""

    def to_json(self) -> dict[str, Any]:
        names = ("setting", "attack", "audit")
        return {
            "families": [dict(zip(names, place, strict=True)) for place in self.places],
            "metric": self.metric,
            "seeds": self.seeds,
            "truths": {truth: asdict(found) for truth, found in self.chances().items()},
            "aim": ENOUGH,
            "most_seeds": MOST,
            "caveat": self.caveat,
            "inputs": asdict(self.outlook),
            "stored": {name: asdict(found) for name, found in self.stored.items()},
            "assumed": self.assumed,
        }


def expectations(plan: Plan, audits: Audits, past: Iterable[Past] = ()) -> list[Expectation]:
    """One for each kind of judged family, in the plan's order; families whose rows have the same
    chances, for they are known or assumed to be alike, share one. `past` are finished runs, newest
    first."""
    found: dict[tuple[Any, ...], Expectation] = {}
    oracles = {(s.setting, s.attack, s.method, s.variant) for s in plan.searches
               if s.objective == "oracle"}  # fmt: skip
    runs = [(run, families(run.plan)) for run in past]
    all_families = families(plan)
    for place, family in all_families.items():
        audit = audits.get(place[2])
        if audit is None or not audit.primary or not family.of_role("unlearn"):
            continue
        accuracy = all_families.get((*place[:2], UTILITY_AUDIT))
        one = _expectation(place, family, accuracy, audit, oracles, runs)
        one = replace(one, outlook=replace(one.outlook, utility_margin=utility_margin(audits)))
        told = (one.metric, one.seeds, one.outlook, *one.assumed, *one.stored.values())
        if told in found:
            one = replace(found[told], places=(*found[told].places, place))
        found[told] = one
    return list(found.values())


def _expectation(
    place: Place,
    family: Family,
    accuracy: Family | None,
    audit: AuditLike,
    oracles: set[tuple[str, str, str, str]],
    past: Sequence[tuple[Past, Families]],
) -> Expectation:
    metric = audit.metrics[audit.primary]
    exact = metric.null == "standard-normal"
    known = likeness(family, audit.primary, exact, past) if past else Likeness()
    of_accuracy = place[2] == UTILITY_AUDIT
    stored: dict[str, Measured] = {}
    assumed: dict[str, str] = {}

    def given(name: str, measured: Measured | None, otherwise: float, why: str) -> float:
        if measured is not None:
            stored[name] = measured
            return measured.value
        assumed[name] = why
        return otherwise

    margin = metric.margin if metric.margin is not None else 0.05
    gap_sd = 0.0
    if not exact:
        gap_sd = given("gap_sd", known.gap_sd, GAP * margin, "half the margin")
    effect = given("effect", known.effect, EFFECT * margin, f"{EFFECT:g} margins")
    rows = _scored(family, known) if exact else 1
    if known.none_sd is not None:
        stored["none_sd"] = known.none_sd
        none_sd = known.none_sd.value
        if exact:  # what is beyond the sampling of rows
            none_sd = math.sqrt(max(none_sd**2 - 1 / rows, 0.0))
    else:
        none_sd = 0.0 if exact else gap_sd
    accuracy_sd: float | None = None
    if not of_accuracy and accuracy is not None:
        of_it = likeness(accuracy, UTILITY_METRIC, False, past) if past else Likeness()
        accuracy_sd = given("accuracy_sd", of_it.gap_sd, ACCURACY_SD, "")
    elif of_accuracy:
        accuracy_sd = gap_sd
    return Expectation(
        places=(place,),
        metric=audit.primary,
        seeds=len({cell.seed for cell in family.cells}),
        outlook=Outlook(
            null=metric.null,
            margin=metric.margin,
            effect=effect,
            gap_sd=gap_sd,
            none_sd=none_sd,
            accuracy_sd=accuracy_sd,
            rows=rows,
            resolution=0.0 if exact else _resolution(family, metric, known),
            tests=_count(family, oracles, ("retrain",)),
            models=max(1, _count(family, oracles, ("retrain", "none"))),
            none=bool(family.of_role("none")),
            retrain=bool(family.of_role("retrain")),
            fresh=bool(family.of_role("retrain-fresh")),
            of_accuracy=of_accuracy,
        ),
        stored=stored,
        assumed=assumed,
    )


def _count(
    family: Family, oracles: set[tuple[str, str, str, str]], without: tuple[str, ...]
) -> int:
    """Rows of a family but for some roles and oracles."""
    rows = {
        (cell.method, cell.variant, cell.budget)
        for cell in family.cells
        if cell.role not in without
        and (cell.setting, cell.attack, cell.method, cell.variant) not in oracles
    }
    return len(rows)


def _training_rows(family: Family) -> tuple[int, int]:
    """(training rows of a model, test rows), as far as planning knows; 0 where it does not."""
    inputs, stages = family.audit.inputs, family.plan.stages
    report = family.plan.reports.get(inputs["data"], {})
    left = int(report.get("train", {}).get("rows", 0))
    split = stages[inputs["split"]].config
    left -= round(split.get("pretraining", 0.0) * left)
    left -= round(split.get("validation", 0.0) * left)
    return left, int(report.get("test", {}).get("rows", 0))


def _scored(family: Family, known: Likeness) -> int:
    """Poisoned rows that a seed scores."""
    if known.count is not None:
        return round(known.count.value)
    stages = family.plan.stages
    craft = stages.get(family.audit.inputs.get("craft", ""))
    select = stages.get(craft.inputs.get("select", "")) if craft is not None else None
    if select is None:
        return 100
    return max(1, poisoned_count(select.config["rule"], _training_rows(family)[0]))


def _resolution(family: Family, metric: Metric, known: Likeness) -> float:
    """1/rows where rows are counted, of which planning knows the test rows only; else 0."""
    if known.count is not None:
        return 1 / known.count.value
    rows = _training_rows(family)[1] if metric.share_of is not None else 0
    return 1 / rows if rows else 0.0
