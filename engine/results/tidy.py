"""The tidy table: one line for each number an audit gave, and one for each audit that gave none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from engine.spec.component import Metric
    from engine.spec.plan import Cell

Status = Literal["ok", "n/a", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric of one audit of one model.

    `value` is None when the metric is undefined for this model, and whenever `status` is not "ok";
    `reason` then says why. `tee` (training-epoch equivalents) and `seconds` are the method's own
    cost, the same in every measurement of a model.
    """

    run: str
    setting: str
    attack: str
    method: str
    variant: str
    budget: float | None
    seed: int
    audit: str
    metric: str
    value: float | None
    role: str
    tee: float
    seconds: float
    status: Status
    reason: str
    unit: int = 0  # which of an attack's poisons, where a row pools several


class AuditLike(Protocol):
    """What results need of an audit: an `Audit` class, an instance, or any stand-in."""

    @property
    def metrics(self) -> dict[str, Metric]: ...

    @property
    def primary(self) -> str: ...


Audits = Mapping[str, AuditLike]


class StoreReader(Protocol):
    """Where finished stages are read from."""

    def outcome(self, key: str) -> tuple[Status, str]:
        """How the stage ended, and why if it is not "ok"."""
        ...

    def measurements(self, key: str) -> Mapping[str, float | None]:
        """metric -> value of a finished audit."""
        ...

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        """TEE and seconds spent in these stages together."""
        ...


def tidy(
    run_id: str, cells: Iterable[Cell], store: StoreReader, audits: Audits | None = None
) -> list[Measurement]:
    """Read every cell's outcome. `audits` defaults to the registered ones.

    A cell without numbers gives one measurement of the audit's primary metric, with its status.
    """
    known = registered_audits() if audits is None else audits
    table: list[Measurement] = []
    for cell in cells:
        status, reason = store.outcome(cell.key)
        values = dict(store.measurements(cell.key)) if status == "ok" else {}
        if not values:
            values = {known[cell.audit].primary if cell.audit in known else "": None}
        tee, seconds = store.cost(cell.cost_keys)
        table += [
            Measurement(
                run=run_id,
                setting=cell.setting,
                attack=cell.attack,
                method=cell.method,
                variant=cell.variant,
                budget=cell.budget,
                seed=cell.seed,
                audit=cell.audit,
                metric=metric,
                value=finite(value),
                role=cell.role,
                tee=tee,
                seconds=seconds,
                status=status,
                reason=reason,
                unit=cell.unit,
            )
            for metric, value in values.items()
        ]
    return table


def registered_audits() -> Audits:
    """All audits chelate knows, by name."""
    from engine.spec.component import Audit
    from engine.spec.registry import registered

    return {name: cls for name, cls in registered("audit").items() if issubclass(cls, Audit)}


def finite(value: float | None) -> float | None:
    """`value` as a float, or None for NaN and infinities: JSON has no word for them."""
    return None if value is None or not math.isfinite(value) else float(value)
