"""What the stages of a plan cost: how much of it is done, and how long the rest will take.

Every bar, share and time left comes from here. A stage with planned compute weighs its TEE. One without
(an audit, a crafting, the data) weighs what its like took: stages of its kind, audits of its name;
first of this run, then as the store recorded it. Of what was never seen a forward pass over a test set
is assumed, or the time that other stages without planned compute took, whichever is more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median

from engine.spec.planned import Stage

# TEE of a forward pass over a test set: a third of a step's work, on a sixth of the rows (as in MNIST).
PASS = 1 / 18
SAMPLE = 4  # records read of each group: all those of ten thousand stages would take a second
TINY = 1e-9  # units
TEE, EACH = "tee", "each"  # in what the cost of a stage is counted: its TEE, or just stages

Group = tuple[str, str, str]  # kind, name of the audit, TEE or EACH


class Costs:
    """Seconds per unit (TEE, or a stage), by group and all groups together."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, ...], tuple[float, float]] = {}

    def learn(self, stage: Stage, seconds: float) -> None:
        group = group_of(stage)
        for name in (group, (group[2],)):
            spent, units = self._spent.get(name, (0.0, 0.0))
            self._spent[name] = spent + seconds, units + units_of(stage)

    def rate(self, *name: str) -> float | None:
        known = self._spent.get(name)
        return known[0] / known[1] if known is not None else None


class Forecast:
    """The work of a plan's stages, all of it to do at first. `settle` takes a stage off, `reopen` puts
    it back. What it costs to ask does not grow with the number of stages."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self._stages = stages
        self._all: dict[Group, float] = {}  # units
        self._left: dict[Group, float] = {}
        self._here, self._stored = Costs(), Costs()
        for stage in stages.values():
            group = group_of(stage)
            self._all[group] = self._all.get(group, 0.0) + units_of(stage)
        self._left |= self._all

    def settle(self, key: str) -> None:
        self._count(key, -1)

    def reopen(self, key: str) -> None:
        self._count(key, 1)

    def _count(self, key: str, times: int) -> None:
        if key in self._stages:
            stage = self._stages[key]
            left = self._left[group_of(stage)] + times * units_of(stage)
            self._left[group_of(stage)] = (
                left if left > TINY else 0.0
            )  # sums of tenths never end at 0

    def learn(self, key: str, seconds: float) -> None:
        """A stage took so long in this run."""
        if key in self._stages:
            self._here.learn(self._stages[key], seconds)

    def recall(self, keys: Iterable[str], seconds: Callable[[str], float | None]) -> None:
        """Ask what some of these stages took when they were computed, whoever did; None: not known."""
        asked: dict[Group, int] = {}
        for key in keys:
            group = group_of(self._stages[key]) if key in self._stages else None
            if group is None or asked.get(group, 0) >= SAMPLE:
                continue
            asked[group] = asked.get(group, 0) + 1
            if (took := seconds(key)) is not None:
                self._stored.learn(self._stages[key], took)

    # --- what comes out --------------------------------------------------------------------------

    def share(self, under_way: Mapping[str, float]) -> float:
        """How much of all work is done, 0 to 1. `under_way`: stages and their own shares."""
        weights = self._weights()
        total = sum(weights[group] * units for group, units in self._all.items())
        left = self._rest(weights, under_way)
        return min(1.0, max(0.0, 1.0 - left / total)) if total > 0 else 0.0

    def seconds(self, under_way: Mapping[str, float]) -> float | None:
        """That one worker needs for what is left; None before anything can be said."""
        if self._pace() is None and any(
            units > 0 for group, units in self._left.items() if group[2] == TEE
        ):
            return None
        if all(self._seen(group) is None for group in self._all) and self._pace() is None:
            return None
        return self._rest(self._weights(), under_way)

    def _rest(self, weights: Mapping[Group, float], under_way: Mapping[str, float]) -> float:
        left = sum(weights[group] * units for group, units in self._left.items())
        for key, share in under_way.items():
            stage = self._stages.get(key)
            if stage is not None:
                left -= weights[group_of(stage)] * units_of(stage) * share
        return max(0.0, left)

    def _seen(self, group: Group) -> float | None:
        here = self._here.rate(*group)
        return here if here is not None else self._stored.rate(*group)

    def _pace(self) -> float | None:
        """Seconds per TEE."""
        here = self._here.rate(TEE)
        return here if here is not None else self._stored.rate(TEE)

    def _weights(self) -> dict[Group, float]:
        """Of a unit of each group, in seconds; in TEE as long as nobody knows how long one takes."""
        pace = self._pace()
        known = {group: self._seen(group) for group in self._all}
        if pace is None and any(group[2] == TEE for group in self._all):
            return {group: 1.0 if group[2] == TEE else PASS for group in self._all}
        # Where models are small, a stage costs what it costs to begin one: what others took.
        told = [rate for group, rate in known.items() if rate is not None and group[2] == EACH]
        usual = max(PASS * (pace or 0.0), median(told) if told else 0.0) or 1.0
        weights = {}
        for group, rate in known.items():
            other = pace if group[2] == TEE and pace is not None else usual
            weights[group] = max(other if rate is None else rate, TINY)
        return weights


def group_of(stage: Stage) -> Group:
    audit = stage.config.get("audit")
    name = audit.get("name") if isinstance(audit, dict) else None
    return stage.kind, str(name or ""), TEE if stage.tee > 0 else EACH


def units_of(stage: Stage) -> float:
    return stage.tee if stage.tee > 0 else 1.0
