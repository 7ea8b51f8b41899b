"""What an experiment would cost, and what the store already has of it.

Times come from what the store's own stages took: seconds per TEE of trainings and unlearnings of
the same model on the same data; mean seconds of other stages. Trainings the like of which the store
does not have are told from the plan's own estimate, which is an assumption.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from console.estimating import duration
from console.expecting import LikeRuns, expected, summary_line
from console.planning import Planned, audits_of, expand
from engine.jobs.home import Home
from engine.jobs.records import DONE
from engine.jobs.store import Store
from engine.jobs.survey import survey
from engine.results import margins
from engine.spec.planned import Stage
from engine.spec.presets import validate

MOST = 4000  # records read for the times; a store may hold many more
METERED = ("train", "unlearn", "trial")


@dataclass(slots=True)
class Pace:
    """Seconds and what they bought (TEE, or a count of stages), summed."""

    seconds: float = 0.0
    amount: float = 0.0

    @property
    def each(self) -> float | None:
        return self.seconds / self.amount if self.amount > 0 else None


@dataclass(slots=True)
class Rates:
    """Paces by how alike stages are: the same model and data first, then the same kind of thing."""

    paces: dict[tuple[str, ...], Pace] = field(default_factory=lambda: defaultdict(Pace))

    @staticmethod
    def read(store: Store) -> Rates:
        """From what is stored; records that make no sense are passed over."""
        rates = Rates()
        for path in islice((store.root / "objects").glob(f"??/*/{DONE}"), MOST):
            record = store.record(path.parent.name)
            if record is not None and record.na is None and record.seconds > 0:
                amount = record.tee if record.kind in METERED else 1.0
                for sign in _signs(record.kind, record.config, record.inputs):
                    pace = rates.paces[sign]
                    pace.seconds += record.seconds
                    pace.amount += amount
        return rates

    def seconds(self, stage: Stage) -> float | None:
        """What a stage would take; None if nothing like it was ever stored."""
        amount = stage.tee if stage.kind in METERED else 1.0
        for sign in _signs(stage.kind, stage.config, stage.inputs):
            each = self.paces[sign].each if sign in self.paces else None
            if each is not None:
                return each * amount
        return None


def _signs(kind: str, config: Any, inputs: Any) -> Iterable[tuple[str, ...]]:
    """What makes stages alike, the closest first. Unlearning is paced like training."""
    model = config.get("model")
    what = json.dumps(model, sort_keys=True)
    data = str(inputs.get("data", ""))
    if kind in METERED:
        yield "tee", what, data
        return
    audit = config.get("audit") or config.get("attack") or {}
    name = str(audit.get("name")) if isinstance(audit, dict) else ""
    yield kind, name, what, data
    yield kind, name
    yield (kind,)


@dataclass(frozen=True, slots=True)
class Appraisal:
    """`tee` counts all stages, `tee_todo` those the store has not. `seconds` is the wall-clock
    estimate on all workers; None where `unknown` (a share of the stages) is all of them, and
    `assumed` where nothing stored resembles a training that is to do."""

    planned: Planned
    stages: int
    stored: int
    cells: int
    tee: float
    tee_todo: float
    seconds: float | None
    unknown: float  # share of the stages to do of which nobody knows
    assumed: bool = False
    remarks: tuple[str, ...] = ()
    power: str = ""  # what verdicts to expect, a line; "" where nothing is judged

    @property
    def todo(self) -> int:
        return self.stages - self.stored


def appraise(
    raw: dict[str, Any],
    name: str,
    home: Home,
    rates: Rates,
    where: str,
    like: LikeRuns | None = None,
) -> Appraisal:
    """Plan the experiment and look it up in the store and in `like` runs of the home. May take a
    moment. Raises BadInput."""
    experiment = validate(raw, where)
    planned = expand(experiment, name, Path(where), experiment.compute.device)
    plan = planned.plan
    found = survey(plan, Store(home.store))
    stored = {stage.key: rates.seconds(stage) for stage in found.missing}
    assumed = {
        stage.key: estimate.seconds(stage.tee, planned.kind)
        for estimate in plan.estimates
        for stage in found.missing
        if stage.key in estimate.keys and stage.kind in METERED and stored[stage.key] is None
    }
    times = [assumed.get(key, seconds) for key, seconds in stored.items()]
    known = [seconds for seconds in times if seconds is not None]
    remarks = [remark.rstrip(".") for remark in plan.remarks]
    if not any(method.role == "retrain" for method in experiment.methods):
        remarks.append("no retrain among the methods: gaps and recoveries will be undefined")
    if len(experiment.seeds) < 3:
        remarks.append("fewer than 3 seeds: intervals will be wide or missing")
    remarks += margins.lines(audits_of(experiment))
    return Appraisal(
        planned,
        stages=len(plan.stages),
        stored=len(plan.stages) - len(found.missing),
        cells=len(plan.cells),
        tee=plan.tee,
        tee_todo=sum(stage.tee for stage in found.missing),
        seconds=sum(known) / planned.width if known or not times else None,
        unknown=1 - len(known) / len(times) if times else 0.0,
        assumed=bool(assumed),
        remarks=tuple(remarks),
        power=summary_line(expected(plan, like or LikeRuns(home), audits_of(experiment))),
    )


def told(found: Appraisal) -> str:
    """One line: stages, what is stored, TEE, time."""
    if not found.todo:
        return f"{found.stages} stages, all in the store: 0 TEE to do, results at once"
    time = "time unknown"
    if found.seconds is not None:
        more = "+" if found.unknown > 0.05 else ""
        sure = " (assumed)" if found.assumed else ""
        time = f"about {duration(found.seconds)}{more}{sure}"
    planned = found.planned
    return (
        f"{found.stages} stages, {found.stored} stored, {found.todo} to do: "
        f"{found.tee_todo:.4g} of {found.tee:.4g} TEE, {time} on {planned.width} × {planned.kind}"
    )
