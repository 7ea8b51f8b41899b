"""A worker that runs thousands of stages is as large at the end as at the start."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import psutil
import pytest
from harness import TINY

from engine.jobs import runs
from engine.jobs.devices import Slot
from engine.jobs.hired import WorkerProcess
from engine.jobs.home import Home
from engine.jobs.placing import Seat
from engine.spec import presets
from engine.spec.plan import make_plan
from engine.spec.planned import Stage

STAGES = 2000
SETTLED = 400  # stages after which caches and allocator have what they need
MOST_GROWTH = 16 << 20  # bytes over the remaining 1,600: 10 kB a stage


def finished(worker: WorkerProcess, stage: Stage) -> str:
    """The outcome of the stage under way."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        messages, alive = worker.read()
        assert alive, "the worker died"
        for message in messages:
            if message.get("ended") == stage.key:
                return str(message["outcome"])
        time.sleep(0.001)
    raise TimeoutError(stage.title)


@pytest.mark.slow
def test_memory_stays_flat_over_two_thousand_stages(tmp_path: Path) -> None:
    seeds = list(range(STAGES // 4 + 1))
    raw = tomllib.loads(TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n')
    experiment = presets.validate(raw | {"seeds": seeds}, "many")
    plan = make_plan(experiment, "cpu")
    run = runs.create(Home(tmp_path).create(), "many", experiment, plan, "cpu", "-")
    stages = [
        s for s in plan.stages.values() if s.kind in ("data", "split", "select", "craft", "train")
    ]
    # Seed by seed, as a plan in the supervisor's order would be: trainings all along.
    stages = stages[:1] + sorted(stages[1:], key=lambda s: int(s.title.rsplit(" s", 1)[1]))
    worker = WorkerProcess(Seat(Slot("cpu:0", "cpu")), run.home.store, 1, tmp_path / "log")
    try:
        process, sizes = psutil.Process(worker.process.pid), []
        for stage in stages[:STAGES]:
            worker.give(run, stage)
            assert finished(worker, stage) == "done"
            sizes.append(process.memory_info().rss)
        assert len(sizes) == STAGES
        assert max(sizes[SETTLED:]) - sizes[SETTLED] < MOST_GROWTH, sizes[::100]
        print(f"RSS in MB after each 200 stages: {[size >> 20 for size in sizes[199::200]]}")
    finally:
        worker.destroy()
