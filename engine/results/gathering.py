"""Measurements gathered into the rows they belong to, of one run or of several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.results.evidence import Trial
from engine.results.statistics import mean
from engine.results.tidy import Measurement, finite
from engine.spec.errors import BadInput

Values = dict[Trial, float]
Model = tuple[str, str, str, str, float | None]  # setting, attack, method, variant, budget

# Of an outcome, best first: where two runs differ on a cell, the earlier holds.
STATUSES = ("ok", "n/a", "diverged", "failed", "missing")
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
