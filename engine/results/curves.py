"""What a figure shows, before anybody draws it: the same numbers for the terminal and for paper.

A `BudgetPanel` is one metric of one (setting, attack, audit) against the budget: a curve for each
method and variant, with retraining as a band and no unlearning as a line. The band is where the
mean of another retraining over as many seeds falls 95 % of the time: what a perfect method shows. A
`ScorePanel` is the scores of one model, pooled over seeds. A `LossPanel` is one training, or one
method's unlearning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.results.compare import Row
from engine.results.evidence import Trial, by_seed
from engine.results.statistics import replication_band
from engine.results.utility import UTILITY_AUDIT


@dataclass(frozen=True, slots=True)
class Level:
    """A mean over seeds with its 95 % t-interval; without one where there is a single seed."""

    mean: float
    lo: float | None = None
    hi: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True)
class Curve:
    """One method and variant: a level at each budget, ascending."""

    label: str
    budgets: tuple[float, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class BudgetPanel:
    setting: str
    attack: str
    audit: str
    metric: str
    curves: tuple[Curve, ...]
    retrain: Level | None
    none: Level | None

    @property
    def title(self) -> str:
        where = " ".join(part for part in (self.attack, self.setting) if part)
        return f"{where}: {self.audit} {self.metric}"


@dataclass(frozen=True, slots=True)
class ScorePanel:
    """Scores that are N(0, 1) where the poison is forgotten."""

    title: str
    seeds: tuple[tuple[float, ...], ...]  # of each seed

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(score for scores in self.seeds for score in scores)


@dataclass(frozen=True, slots=True)
class Trace:
    """One seed's loss: (step, value) pairs in order."""

    label: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LossPanel:
    title: str
    traces: tuple[Trace, ...] = field(default=())


def role_of(method: str) -> str:
    """The method's role, as in the plan; what is no longer registered counts as unlearning."""
    from engine.spec.component import Method
    from engine.spec.registry import registered

    cls = registered("method").get(method)
    return cls.role if cls is not None and issubclass(cls, Method) else "unlearn"


def curve_label(method: str, variant: str) -> str:
    return f"{method} {variant}" if variant else method


def budget_panels(rows: Iterable[Row], metric: str | None = None) -> list[BudgetPanel]:
    """A panel for each primary metric (or for `metric` instead), judged audits before utility.

    Only families in which something varies with the budget give one.
    """
    families: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["mean"] is not None and (row["metric"] == metric if metric else row["primary"]):
            families[row["setting"], row["attack"], row["audit"], row["metric"]].append(row)
    panels = [_panel(*place, found) for place, found in families.items()]
    shown = [panel for panel in panels if panel.curves]
    return sorted(
        shown, key=lambda panel: (panel.setting, panel.attack, panel.audit == UTILITY_AUDIT)
    )


def _panel(setting: str, attack: str, audit: str, metric: str, rows: list[Row]) -> BudgetPanel:
    curves: dict[str, list[tuple[float, Level]]] = defaultdict(list)
    flat: dict[str, Level] = {}
    for row in rows:
        if row["budget"] is not None:
            label = curve_label(row["method"], row["variant"])
            curves[label].append((row["budget"], level(row)))
        else:
            role = role_of(row["method"])
            flat.setdefault(role, retrain_band(row) if role == "retrain" else level(row))
    return BudgetPanel(
        setting,
        attack,
        audit,
        metric,
        tuple(_curve(label, points) for label, points in curves.items()),
        retrain=flat.get("retrain"),
        none=flat.get("none"),
    )


def _curve(label: str, points: list[tuple[float, Level]]) -> Curve:
    ordered = sorted(points, key=lambda point: point[0])
    return Curve(label, tuple(x for x, _ in ordered), tuple(found for _, found in ordered))


def level(row: Row) -> Level:
    """The mean and interval of a row that has a mean."""
    return Level(float(row["mean"]), row["lo"], row["hi"], int(row["n"]))


def retrain_band(row: Row) -> Level:
    """Retraining's mean, and where the mean of another one over as many seeds would fall."""
    found: dict[Trial, float] = {
        Trial(seed, unit): value
        for unit, (seed, value) in enumerate(zip(row["seeds"], row["values"], strict=True))
        if value is not None
    }
    seeds = [value for (value,) in by_seed(found)]  # targets of a seed are one cluster
    band = replication_band(seeds, len(seeds))
    return Level(band.mean, band.lo, band.hi, band.n)


def error_arms(levels: Sequence[Level]) -> tuple[list[float], list[float]]:
    """Lengths of the arms below and above each mean; 0 where there is no interval."""
    below = [0.0 if found.lo is None else found.mean - found.lo for found in levels]
    above = [0.0 if found.hi is None else found.hi - found.mean for found in levels]
    return below, above


def pooled_trace(label: str, parts: Iterable[tuple[float, float]]) -> Trace:
    """Points of several segments as one trace; of a step told twice, the later word."""
    points = dict(sorted(parts, key=lambda point: point[0]))
    return Trace(label, tuple(points), tuple(points.values()))


def mean_trace(label: str, traces: Sequence[Trace]) -> Trace:
    """Mean over the traces where all have begun and none has ended, at every step one of them
    tells, straight lines between their points."""
    import numpy as np

    told = [trace for trace in traces if trace.steps]
    if not told:
        return Trace(label, (), ())
    first, last = max(t.steps[0] for t in told), min(t.steps[-1] for t in told)
    steps = sorted({step for t in told for step in t.steps if first <= step <= last})
    lines = [np.interp(steps, trace.steps, trace.values) for trace in told]
    return Trace(label, tuple(steps), tuple(float(v) for v in np.mean(lines, axis=0)))
