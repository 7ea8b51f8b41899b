"""A home with a finished run whose numbers are made up: nothing is computed, torch is not needed."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
from safetensors.numpy import save_file

from console.planning import expand
from engine.jobs import runs
from engine.jobs.events import EventWriter
from engine.jobs.home import Home, write_json
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.spec.planned import Cell, Plan, Stage
from engine.spec.presets import validate

PRESET = {
    "title": "Staged <b>&</b> made up",
    "seeds": [0, 1, 2],
    "budgets": [0.25, 0.5],
    "data": {"name": "mnist5k", "limit_train": 300, "limit_test": 100},
    "model": {"name": "mlp", "width": 16},
    "train": {"epochs": 2},
    "attacks": [{"name": "gaussian"}, {"name": "badnets", "share": 0.05}],
    "methods": [
        {"name": "none"},
        {"name": "retrain"},
        {"name": "gd"},
        {"name": "ngd", "grid": {"grad_noise_std": [0.1, 0.3]}},
    ],
    "audits": [{"name": "accuracy"}, {"name": "gaussian"}, {"name": "attack-success"}],
}
SHIFT = {"none": 0.7, "retrain": 0.0, "gd": 0.7, "ngd": 0.3}
POISONED = 40  # scores of each seed


@dataclass(frozen=True)
class Staged:
    home: Home
    run: Run


def staged(folder: Path) -> Staged:
    """A copy of the home that the test may change."""
    root = folder / "home"
    shutil.copytree(_made(), root)
    home = Home(root)
    return Staged(home, runs.find(home, "staged"))


def judged_by(there: Staged, verdicts: dict[str, dict[str, float]]) -> Run:
    """The same preset with other margins: a run of its own, which the store has everything of."""
    planned = expand(validate(PRESET | {"verdicts": verdicts}, "wide"), "wide", Path("-"), "cpu")
    run = runs.create(there.home, "wide", planned.experiment, planned.plan, "cpu", "-")
    write_json(run.folder / "session.json", {"outcome": "done"})
    return run


@cache
def _made() -> Path:
    home = Home(Path(tempfile.mkdtemp(prefix="chelate-staged-"))).create()
    planned = expand(validate(PRESET, "staged"), "staged", Path("staged.toml"), "cpu")
    run = runs.create(home, "staged", planned.experiment, planned.plan, "cpu", "staged.toml")
    cells = {cell.key: cell for cell in planned.plan.cells}
    with patch("os.fsync"):
        for stage in planned.plan.stages.values():
            _commit(run.store, stage, cells.get(stage.key))
    _losses(run, planned.plan)
    write_json(run.folder / "session.json", {"outcome": "done"})
    return home.root


def _commit(store: Store, stage: Stage, cell: Cell | None) -> None:
    with store.begin(stage.key, 1) as work:
        if cell is not None:
            metrics, scores = _measured(cell)
            write_json(work.path / "measurements.json", {"audit": cell.audit, "metrics": metrics})
            if scores is not None:
                save_file({"scores": scores}, work.path / "scores.safetensors")
                write_json(
                    work.path / "score_rows.json", {"rows": poisoned(cell.seed), "scored": None}
                )
        tee = stage.tee or (1.0 if stage.kind in ("train", "unlearn") else 0.0)
        work.commit(
            kind=stage.kind, title=stage.title, seconds=0.5, tee=tee,
            env={"torch": "2.9.9", "device": "cpu"}, config=stage.config, inputs=stage.inputs,
        )  # fmt: skip


def poisoned(seed: int) -> list[int]:
    """The rows poisoned under a seed: half of them under the next one, too."""
    return list(range(seed * POISONED // 2, seed * POISONED // 2 + POISONED))


def _measured(cell: Cell) -> tuple[dict[str, float], np.ndarray | None]:
    seed = f"{cell.attack} {cell.method} {cell.variant} {cell.budget} {cell.seed}"
    chance = random.Random(seed)
    shift = SHIFT[cell.method] * (1 - (cell.budget or 0) * (cell.method == "ngd"))
    if cell.audit == "accuracy":
        return {"test_accuracy": 0.9 - 0.01 * chance.random()}, None
    if cell.audit == "attack-success":
        return {"asr": min(1.0, 0.05 + shift + 0.01 * chance.random())}, None
    noise = np.random.default_rng(zlib.crc32(seed.encode()))
    scores = noise.standard_normal(POISONED) + shift
    told = {
        "mean_score": float(scores.mean()), "std_score": float(scores.std(ddof=1)),
        "z": float(scores.mean() * POISONED**0.5), "count": float(POISONED),
    }  # fmt: skip
    return told, scores


def _losses(run: Run, plan: Plan) -> None:
    for stage in plan.stages.values():
        if stage.kind in ("train", "unlearn"):
            folder = run.folder / "attempts" / f"{stage.key[:16]}.1"
            folder.mkdir(parents=True)
            with EventWriter(folder / "events.jsonl", stage.key, 1, rate=1e6) as writer:
                for step in range(0, 40, 4):
                    writer.emit("metric", name="loss", step=step, value=2.0 / (1 + step))
            told = {"stage": stage.key, "attempt": 1, "outcome": "done"}
            (folder / "exit.json").write_text(json.dumps(told))
