"""What a plan is made of: stages, the cells of the table they fill, the searches behind them.

Only the standard library: who only reads plans (the console, live) need not load pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.spec.data_report import DataReport
    from engine.spec.estimate import Estimate

Config = dict[str, Any]
HEAVY = ("craft", "train", "unlearn", "audit", "trial")  # bytes depend on torch, device and threads
ROLES = ("none", "retrain", "retrain-fresh", "retrain-known", "unlearn")  # of a cell
REPORTS, PINS = "reports", "pins"  # the keys of a plan's JSON that name no run


@dataclass(frozen=True, slots=True)
class Stage:
    """One computation. `after` names stages it goes on from without depending on them for its bytes.

    `pins` are versions, device and threads that entered its key (pins.py); empty in plans of before.
    """

    key: str
    kind: str
    title: str
    config: dict[str, Any]
    inputs: dict[str, str]
    after: tuple[str, ...] = ()
    tee: float = 0.0
    pins: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement of the final table: who, at what budget and seed, by which audit stage."""

    setting: str
    attack: str
    method: str
    variant: str
    budget: float | None
    seed: int
    audit: str
    role: str
    key: str
    cost_keys: tuple[str, ...]
    unit: int = 0  # which of the attack's poisons, where one row of the table pools several


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of a method: `keys` are the trial stages, one for each of `seeds`."""

    config: Config
    seeds: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """All trials for one row of the table; `choice` is the stage that picks one.

    `starts` and `references` are the stages that score the models before unlearning and (oracle
    only) retrained, one for each seed.
    """

    setting: str
    attack: str
    method: str
    variant: str
    objective: str
    choice: str
    trials: tuple[Trial, ...]
    starts: tuple[str, ...]
    references: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every stage the search costs."""
        tried = (key for trial in self.trials for key in trial.keys)
        return (*self.starts, *self.references, *tried)

    @staticmethod
    def from_json(told: dict[str, Any]) -> Search:
        trials = tuple(
            Trial(t["config"], tuple(t["seeds"]), tuple(t["keys"])) for t in told["trials"]
        )
        others = {name: tuple(told[name]) for name in ("starts", "references")}
        return Search(**told | others | {"trials": trials})


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in an order that respects their inputs, the cells they fill, and what is tuned."""

    stages: dict[str, Stage]
    cells: list[Cell]
    searches: list[Search] = field(default_factory=list)
    # What it would take, where the models tell; not kept with a run.
    estimates: list[Estimate] = field(default_factory=list, compare=False)
    # What a person should look at before it runs, a sentence each; not kept with a run.
    remarks: list[str] = field(default_factory=list, compare=False)
    # Data stage → what was known of its data before they were read: for people, and no part of what
    # names a run. Runs of before lack it; an imported one's is a stranger's (`data_line.sound`).
    reports: dict[str, DataReport] = field(default_factory=dict, compare=False)

    @property
    def tee(self) -> float:
        """Compute of all stages, in training-epoch equivalents."""
        return sum(stage.tee for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "v": 1,
            "stages": [_without_pins(stage) for stage in self.stages.values()],
            "cells": [_told(cell) for cell in self.cells],
        }
        if self.searches:
            told["searches"] = [asdict(search) for search in self.searches]
        if self.reports:
            told[REPORTS] = self.reports
        if pins := {stage.key: stage.pins for stage in self.stages.values() if stage.pins}:
            told[PINS] = pins
        return told

    @staticmethod
    def from_json(told: dict[str, Any]) -> Plan:
        pins = told.get(PINS)
        pins = pins if isinstance(pins, dict) else {}
        stages = [
            Stage(**s | {"after": tuple(s["after"]), PINS: _pins(pins.get(s["key"]))})
            for s in told["stages"]
        ]
        cells = [Cell(**c | {"cost_keys": tuple(c["cost_keys"])}) for c in told["cells"]]
        searches = [Search.from_json(s) for s in told.get("searches", [])]
        reports = told.get(REPORTS)
        return Plan(
            {stage.key: stage for stage in stages},
            cells,
            searches,
            reports=reports if isinstance(reports, dict) else {},
        )


def shown(config: Mapping[str, Any]) -> str:
    """A setting as a row's variant shows it: lr=0.05,clip=1."""
    return ",".join(f"{key}={value}" for key, value in config.items())


def _without_pins(stage: Stage) -> dict[str, Any]:
    """Pins go beside the stages, where chelates of before pass over them."""
    told = asdict(stage)
    del told[PINS]
    return told


def _pins(told: Any) -> dict[str, str | int]:
    """A stage's pins; none where they cannot be that."""
    if not isinstance(told, dict) or any(type(v) not in (str, int) for v in told.values()):
        return {}
    return told


def _told(cell: Cell) -> dict[str, Any]:
    """Unit 0 goes without saying, so that plans (and names of runs) from before units stay theirs."""
    told = asdict(cell)
    return told if cell.unit else {key: value for key, value in told.items() if key != "unit"}
