"""What finished runs that are like a plan tell of its spreads, before it is computed.

Like is what was measured by the same audit on the same data, split, model and training. Spreads of
models without poison are taken from the same attack where there is enough of that, else from any;
the effect of no unlearning, and how many rows are counted, only from the same attack. Fewer than
FEWEST seeds tell nothing.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from engine.results.evidence import COUNT
from engine.results.statistics import mean, standard_deviation
from engine.spec.planned import Cell, Plan, Stage

FEWEST = 3  # seeds, for a spread to be believed
MOST_VALUES = 600  # measurements read for one family, newest runs first


class Past(Protocol):
    """A run that was computed, as far as it is needed here."""

    @property
    def id(self) -> str: ...

    @property
    def plan(self) -> Plan: ...

    def measurements(self, key: str) -> Mapping[str, float | None]:
        """metric -> value of an audit; empty where there is none that can be read."""
        ...


@dataclass(frozen=True)
class Family:
    """All cells of one (setting, attack, audit) of a plan."""

    plan: Plan
    cells: tuple[Cell, ...]

    @property
    def audit(self) -> Stage:
        return self.plan.stages[self.cells[0].key]

    def of_role(self, *roles: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.role in roles]

    @cached_property
    def ground(self) -> str:
        """Data, split, model and recipe of its models, as one text."""
        audit = self.audit
        model = self.plan.stages[audit.inputs["model"]]
        split = self.plan.stages[audit.inputs["split"]].config
        told = [
            audit.inputs["data"],
            {key: value for key, value in split.items() if key != "seed"},
            model.config.get("model"),
            model.config.get("train"),
        ]
        return _text(told)

    @cached_property
    def measure(self) -> str:
        """The audit's own keys, as one text."""
        return _text(self.audit.config.get("audit"))

    @cached_property
    def attack(self) -> dict[str, str]:
        """The attack's keys, each as text; without those in which its poisons differ, such as
        targets."""
        crafts = {self.plan.stages[cell.key].inputs.get("craft", "") for cell in self.cells}
        told: dict[str, set[str]] = defaultdict(set)
        for key in sorted(crafts & self.plan.stages.keys()):
            config = self.plan.stages[key].config.get("attack")
            for name, value in config.items() if isinstance(config, dict) else ():
                told[name].add(_text(value))
        return {name: values.pop() for name, values in told.items() if len(values) == 1}

    @cached_property
    def targets(self) -> int:
        """How many poisons a seed has, at most."""
        return max(cell.unit for cell in self.cells) + 1


Families = dict[tuple[str, str, str], Family]


def families(plan: Plan) -> Families:
    """(setting, attack, audit) → its family, in the plan's order. Cells whose audit, model or split
    the plan lacks, as one from elsewhere may, are passed over."""
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in plan.cells:
        audit = plan.stages.get(cell.key)
        if audit is None or "data" not in audit.inputs:
            continue
        if all(audit.inputs.get(role) in plan.stages for role in ("model", "split")):
            found[cell.setting, cell.attack, cell.audit].append(cell)
    return {place: Family(plan, tuple(cells)) for place, cells in found.items()}


def _text(value: Any) -> str:
    """One text for one value, whether it was read from JSON (lists) or not (tuples)."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """A number from `seeds` seeds of some runs."""

    value: float
    seeds: int
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """What like runs tell of one family, None where they do not. Of one seed: `gap_sd` between two
    models without poison, `effect` and `none_sd` of no unlearning's distance from the null, `count`
    of rows behind a value."""

    gap_sd: Measured | None = None
    effect: Measured | None = None
    none_sd: Measured | None = None
    count: Measured | None = None


def likeness(
    family: Family, metric: str, exact: bool, past: Iterable[tuple[Past, Families]]
) -> Likeness:
    """Read from `past` runs, the newest first, each with `families` of its plan. `metric` is the
    audit's primary; `exact` where its null is a number and not retraining."""
    same, others = _Gathered(metric), _Gathered(metric)
    for run, found in past:
        for (_, _, name), other in found.items():
            if name != family.cells[0].audit or not _alike(family, other):
                continue
            side = same if other.attack == family.attack else others
            if same.read + others.read < MOST_VALUES:
                side.add(run, other)
    return Likeness(
        gap_sd=same.gap_sd() or others.gap_sd(),
        effect=same.of_none(exact, mean),
        none_sd=same.of_none(exact, standard_deviation),
        count=same.count(),
    )


def _alike(one: Family, other: Family) -> bool:
    return (one.measure, one.targets, one.ground) == (other.measure, other.targets, other.ground)


@dataclass(slots=True)
class _Gathered:
    """Paired values of like families, by seed: a model that two runs share counts once."""

    metric: str
    read: int = 0
    seen: set[str] = field(default_factory=set)  # models
    # Gaps between models without poison (of mean 0), and of methods to retraining, row by row.
    between: list[tuple[str, float]] = field(default_factory=list)
    rows: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    none: list[tuple[str, float, float | None]] = field(default_factory=list)
    counts: list[tuple[str, float]] = field(default_factory=list)

    def add(self, run: Past, family: Family) -> None:
        retrain = self._values(run, family.of_role("retrain"), self.metric)
        counts = self._values(run, family.of_role("retrain", "none"), COUNT)
        self.counts += [(run.id, count) for count in counts.values() if count > 0]
        for seed, value in self._values(run, family.of_role("none"), self.metric).items():
            if self._new(family, "none", seed):
                self.none.append((run.id, value, retrain.get(seed)))
        fresh = family.of_role("retrain-fresh")
        for seed, value in self._values(run, fresh, self.metric).items():
            if seed in retrain and self._new(family, "retrain-fresh", seed):
                self.between.append((run.id, value - retrain[seed]))
        if fresh:
            return
        named: dict[str, list[Cell]] = defaultdict(list)
        for cell in family.of_role("unlearn"):
            named[_title(cell)].append(cell)
        for name, cells in named.items():
            if self.read >= MOST_VALUES:
                break
            for seed, value in self._values(run, cells, self.metric).items():
                if seed in retrain and self._new(family, name, seed):
                    self.rows[f"{run.id} {name}"].append((run.id, value - retrain[seed]))

    def _new(self, family: Family, name: str, seed: int) -> bool:
        """Whether the models of a row's seed have not been counted: runs share trainings, attacks of
        one run retrainings."""
        cells = [c for c in family.cells if c.seed == seed and _title(c) == name]
        models = {family.plan.stages[cell.key].inputs["model"] for cell in cells}
        mark = " ".join(sorted(models))
        fresh = mark not in self.seen
        self.seen.add(mark)
        return fresh

    def _values(self, run: Past, cells: Sequence[Cell], metric: str) -> dict[int, float]:
        """seed → mean over its targets."""
        by_seed: dict[int, list[float]] = defaultdict(list)
        for cell in cells:
            value = run.measurements(cell.key).get(metric)
            self.read += 1
            if value is not None and math.isfinite(value):
                by_seed[cell.seed].append(value)
        return {seed: mean(values) for seed, values in by_seed.items()}

    # --- told ------------------------------------------------------------------------------------

    def gap_sd(self) -> Measured | None:
        return _spread(self.between, self.rows.values())

    def of_none(
        self, exact: bool, statistic: Callable[[Sequence[float]], float]
    ) -> Measured | None:
        """A statistic of no unlearning's distance from the null over seeds, without its sign."""
        gaps: list[tuple[str, float]] = []
        for run, value, retrain in self.none:
            if exact:
                gaps.append((run, value))
            elif retrain is not None:
                gaps.append((run, value - retrain))
        if len(gaps) < FEWEST:
            return None
        return Measured(abs(statistic([gap for _, gap in gaps])), len(gaps), _runs(gaps))

    def count(self) -> Measured | None:
        if not self.counts:
            return None
        return Measured(min(c for _, c in self.counts), len(self.counts), _runs(self.counts))


def _title(cell: Cell) -> str:
    return cell.role if cell.role != "unlearn" else f"{cell.method} {cell.variant} {cell.budget}"


def _spread(
    between: Sequence[tuple[str, float]], rows: Iterable[Sequence[tuple[str, float]]]
) -> Measured | None:
    """Of gaps between two retrainings, whose mean is 0; else of methods' gaps about their means."""
    if len(between) >= FEWEST:
        square = mean([gap * gap for _, gap in between])
        return Measured(math.sqrt(square), len(between), _runs(between))
    enough = [row for row in rows if len(row) >= FEWEST]
    if not enough:
        return None
    squares = [(len(row) - 1) * standard_deviation([g for _, g in row]) ** 2 for row in enough]
    variance = math.fsum(squares) / sum(len(row) - 1 for row in enough)
    told = [one for row in enough for one in row]
    return Measured(math.sqrt(variance), max(map(len, enough)), _runs(told))


def _runs(told: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one[0]) for one in told))
