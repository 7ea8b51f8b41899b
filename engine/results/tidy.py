"""The tidy table: one line for each number an audit gave, and one for each audit that gave none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from engine.spec.planned import shown

if TYPE_CHECKING:
    from engine.spec.component import Metric
    from engine.spec.planned import Cell, Search, Stage

Status = Literal["ok", "n/a", "diverged", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric of one audit of one model.

    `value` is None when the metric is undefined for this model, and whenever `status` is not "ok";
    `reason` then says why, and `diverged` at which step, where it did: "step 120". `tee`
    (training-epoch equivalents) and `seconds` are the method's own cost, the same in every
    measurement of a model. `search_tee` and `search_seconds` are what it cost to choose the method's
    settings; None where nothing was tuned.
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
    search_tee: float | None = None
    search_seconds: float | None = None
    unit: int = 0  # which of an attack's poisons, where a row pools several
    diverged: str = ""
    class_name: str = ""  # of a metric measured for each class; empty where it is not known


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

    def divergence(self, key: str) -> str:
        """Of a stage that ended as "diverged": at which step, and of what if not of its own model."""
        ...

    def measurements(self, key: str) -> Mapping[str, float | None]:
        """metric -> value of a finished audit."""
        ...

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        """TEE and seconds spent in these stages together."""
        ...

    def told(self, key: str, name: str) -> dict[str, Any] | None:
        """A JSON artifact of a stage; None if the stage has left none."""
        ...


def tidy(
    run_id: str,
    cells: Iterable[Cell],
    store: StoreReader,
    audits: Audits | None = None,
    searches: Iterable[Search] = (),
    stages: Mapping[str, Stage] | None = None,
) -> list[Measurement]:
    """Read every cell's outcome. `audits` defaults to the registered ones; `stages` are the plan's,
    which know the names of the classes.

    A cell without numbers gives one measurement of the audit's primary metric, with its status.
    The variant of a tuned cell ends in what was chosen. A cell chosen by looking at the audit has
    the role "oracle".
    """
    known = registered_audits() if audits is None else audits
    found = {(s.setting, s.attack, s.method, s.variant): s for s in searches}
    variants = shown_variants(found.values(), store)
    table: list[Measurement] = []
    for cell in cells:
        row = (cell.setting, cell.attack, cell.method, cell.variant)
        search = found.get(row) if cell.role == "unlearn" else None
        search_tee, search_seconds = (None, None) if search is None else store.cost(search.keys)
        status, reason = store.outcome(cell.key)
        values = dict(store.measurements(cell.key)) if status == "ok" else {}
        if not values:
            values = {known[cell.audit].primary if cell.audit in known else "": None}
        names = class_names(stages or {}, cell.key) if values else ()
        tee, seconds = store.cost(cell.cost_keys)
        table += [
            Measurement(
                run=run_id,
                setting=cell.setting,
                attack=cell.attack,
                method=cell.method,
                variant=variants.get(row, cell.variant),
                budget=cell.budget,
                seed=cell.seed,
                audit=cell.audit,
                metric=metric,
                value=finite(value),
                role="oracle" if search and search.objective == "oracle" else cell.role,
                tee=tee,
                seconds=seconds,
                status=status,
                reason=reason,
                search_tee=search_tee,
                search_seconds=search_seconds,
                unit=cell.unit,
                diverged=store.divergence(cell.key) if status == "diverged" else "",
                class_name=_class_name(known.get(cell.audit), metric, names),
            )
            for metric, value in values.items()
        ]
    return table


def shown_variants(
    searches: Iterable[Search], store: StoreReader
) -> dict[tuple[str, str, str, str], str]:
    """(setting, attack, method, variant) of tuned cells → the variant with what was chosen."""
    names = {}
    for search in searches:
        chosen = (store.told(search.choice, "choice.json") or {}).get("config", {})
        place = (search.setting, search.attack, search.method, search.variant)
        names[place] = f"{search.variant} {shown(chosen)}".strip()
    return names


def registered_audits() -> Audits:
    """All audits chelate knows, by name."""
    from engine.spec.component import Audit
    from engine.spec.registry import registered

    return {name: cls for name, cls in registered("audit").items() if issubclass(cls, Audit)}


def metric_of(audit: AuditLike, name: str) -> Metric | None:
    """How a measured metric is read; "class_accuracy.3" is one of the family "class_accuracy"."""
    return audit.metrics.get(name) or audit.metrics.get(name.partition(".")[0])


def class_names(stages: Mapping[str, Stage], key: str) -> Sequence[str]:
    """Names of the classes of the data that stage `key` reads; () where the plan does not tell."""
    stage = stages.get(key)
    data = stages.get(stage.inputs.get("data", "")) if stage is not None else None
    found = data.config.get("classes") if data is not None else None
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        return ()
    return found


def _class_name(audit: AuditLike | None, metric: str, names: Sequence[str]) -> str:
    """ "cat" for "class_accuracy.3", where the audit declares "class_accuracy"; else ""."""
    family, _, number = metric.rpartition(".")
    if audit is None or metric in audit.metrics or family not in audit.metrics:
        return ""
    # Only as the index is written: "tpr.01" is no class 1.
    if not number.isdecimal() or number != str(int(number)) or int(number) >= len(names):
        return ""
    return names[int(number)]


def finite(value: float | None) -> float | None:
    """`value` as a float, or None for NaN and infinities: JSON has no word for them."""
    return None if value is None or not math.isfinite(value) else float(value)
