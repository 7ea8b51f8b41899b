"""Run stages and whole plans in this process: a plain folder instead of a store, no workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.lab.context import NotApplicable, Stopped
from engine.spec.experiment import Experiment
from engine.spec.plan import make_plan
from engine.spec.planned import Cell, Plan, Stage
from engine.spec.presets import validate


class LocalContext:
    """`engine.lab.context.Context` over `root`/<stage key>/; keeps every report for looking at.

    Without a stage it is a context for calling `fit` or `unlearn` by hand. `stop_after` makes it
    raise Stopped at that many questions; `always_due` makes every probe and report happen.
    """

    device = "cpu"

    def __init__(
        self,
        folder: Path,
        stage: Stage | None = None,
        shared: dict[str, Any] | None = None,
        *,
        stop_after: int | None = None,
        always_due: bool = False,
    ) -> None:
        self.root = folder
        self.stage = stage
        self.folder = folder / stage.key if stage else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept: dict[str, Any] = {} if shared is None else shared
        self.stop_after = stop_after
        self.always_due = always_due
        self.asked = 0
        self.metrics: list[tuple[str, int, float]] = []
        self.probes: list[tuple[str, int, dict[str, Any]]] = []
        self.steps: list[tuple[int, int]] = []
        self.warnings: list[str] = []

    def key(self, role: str) -> str | None:
        if self.stage is None:
            return None
        if role == "previous":
            done = [k for k in self.stage.after if (self.root / k / DONE).exists()]
            return done[-1] if done else None
        return self.stage.inputs.get(role)

    def file(self, role: str, name: str) -> Path:
        key = self.key(role)
        if key is None:
            raise KeyError(role)
        return self.root / key / name

    def shared(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics.append((name, step, value))

    def probe(self, name: str, step: int, data: dict[str, Any]) -> None:
        self.probes.append((name, step, data))

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def due(self, what: str, seconds: float) -> bool:
        return self.always_due

    def raise_if_stopped(self) -> None:
        self.asked += 1
        if self.stop_after is not None and self.asked > self.stop_after:
            raise Stopped

    def checkpoint(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        self.raise_if_stopped()

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        return None


DONE = "done.json"
NA = "na.json"


@dataclass
class Run:
    """A plan and where its artifacts lie; `tee` and `na` by stage key."""

    plan: Plan
    root: Path
    tee: dict[str, float] = field(default_factory=dict)
    na: dict[str, str] = field(default_factory=dict)

    def stages(self, kind: str) -> list[Stage]:
        return [stage for stage in self.plan.stages.values() if stage.kind == kind]

    def cells(self, **wanted: Any) -> list[Cell]:
        """The cells whose fields equal `wanted`."""
        return [
            cell
            for cell in self.plan.cells
            if all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def metrics(self, **wanted: Any) -> dict[str, float | None]:
        """The measurements of the one cell that fits."""
        (cell,) = self.cells(**wanted)
        told = json.loads((self.root / cell.key / "measurements.json").read_text())
        return told["metrics"]

    def model_stage(self, **wanted: Any) -> Stage:
        """The stage that made the model of the one cell that fits."""
        (cell,) = self.cells(**wanted)
        return self.plan.stages[self.plan.stages[cell.key].inputs["model"]]


def run_stage(
    stage: Stage, folder: Path, shared: dict[str, Any] | None = None, **options: Any
) -> tuple[float, LocalContext]:
    """Compute one stage into `folder`/<key>; returns its TEE and what it reported."""
    from engine.lab.stages import RUN

    context = LocalContext(folder, stage, shared, **options)
    tee = RUN[stage.kind](stage.config, context)
    (context.folder / DONE).write_text(json.dumps({"tee": tee}))
    return tee, context


def run_plan(experiment: Experiment, folder: Path) -> Run:
    """Compute every stage of an experiment, one after the other, on the CPU.

    Stages that `folder` already holds are not computed again. A stage without a result is n/a, and
    so are those that read it.
    """
    run = Run(make_plan(experiment, "cpu"), folder)
    shared: dict[str, Any] = {}
    for stage in run.plan.stages.values():
        done, na = folder / stage.key / DONE, folder / stage.key / NA
        missing = [run.na[key] for key in stage.inputs.values() if key in run.na]
        if done.exists():
            run.tee[stage.key] = json.loads(done.read_text())["tee"]
        elif na.exists():
            run.na[stage.key] = json.loads(na.read_text())
        elif missing:
            run.na[stage.key] = missing[0]
        else:
            try:
                run.tee[stage.key], _ = run_stage(stage, folder, shared)
            except NotApplicable as why:
                run.na[stage.key] = str(why)
                na.write_text(json.dumps(str(why)))
    return run


def small_experiment(**changes: Any) -> Experiment:
    """A valid experiment of seconds: 400 digits, a narrow network, one seed; `changes` by key."""
    raw: dict[str, Any] = {
        "seeds": [0],
        "budgets": [0.1, 0.2],
        "data": {"name": "mnist5k", "limit_train": 400, "limit_test": 100},
        "model": {"name": "mlp", "width": 16},
        "train": {"epochs": 10, "batch_size": 32, "lr": 0.05},
        "attacks": [{"name": "gaussian", "share": 0.1, "noise_std": 0.31}],
        "methods": [{"name": "none"}, {"name": "retrain"}],
        "audits": [{"name": "accuracy"}, {"name": "gaussian", "null_draws": 64}],
    }
    return validate(raw | changes, where="test")
