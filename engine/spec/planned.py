"""What a plan consists of: stages to compute and the cells of the table that they fill.

`engine.spec.plan` makes plans; whoever only reads one needs no registry and no pydantic.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """One computation. `after` names stages it goes on from without depending on them for its bytes."""

    key: str
    kind: str
    title: str
    config: dict[str, Any]
    inputs: dict[str, str]
    after: tuple[str, ...] = ()
    tee: float = 0.0


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


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in an order that respects their inputs, and the cells they fill."""

    stages: dict[str, Stage]
    cells: list[Cell]

    @property
    def tee(self) -> float:
        """Compute of all stages, in training-epoch equivalents."""
        return sum(stage.tee for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "v": 1,
            "stages": [asdict(stage) for stage in self.stages.values()],
            "cells": [asdict(cell) for cell in self.cells],
        }

    @staticmethod
    def from_json(told: dict[str, Any]) -> Plan:
        stages = [Stage(**s | {"after": tuple(s["after"])}) for s in told["stages"]]
        cells = [Cell(**c | {"cost_keys": tuple(c["cost_keys"])}) for c in told["cells"]]
        return Plan({stage.key: stage for stage in stages}, cells)
