"""What the engine adds to the stages it runs: wall time, time between stages, memory, supervision.

    python benchmarks/engine_overhead.py [--cores 2] [--rounds 3] [--many 35] [--idle 20]

The quickstart by `chelate run`, against the same stages as plain functions (no store, no leases, no
events, nothing made durable) in processes forked after `import torch`, as many as there are workers,
the longest way to the end first; turn by turn, start of Python and import of torch included in both.
Then `--many` seeds of a plan of tiny stages (57 a seed) with one worker: what a stage costs beside
its own work, how the worker's memory grows, and what of a core the supervisor takes; and the last
once more beside a long stage, when it has nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from engine.jobs.events import EventTail
from engine.jobs.schedule import Schedule
from engine.spec.plan import make_plan
from engine.spec.planned import Plan, Stage
from engine.spec.presets import load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
TINY = [
    "data={name='mnist5k',limit_train=300,limit_test=100}",
    "model={name='mlp',width=8}",
    "train={epochs=1,batch_size=32}",
    "budgets=[0.5,0.6,0.7,0.8,0.9]",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=35)
    parser.add_argument("--seeds", type=int, default=5, help="of the quickstart; it has 5")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to look at")
    parser.add_argument("--plain", type=Path)
    options = parser.parse_args()
    if options.plain:
        plain(options.plain, options.cores, options.seeds)
        return
    if options.rounds:
        against_functions(options.cores, options.rounds, options.seeds)
    if options.many:
        many_stages(options.many)
    if options.idle:
        idle(options.idle)


def against_functions(cores: int, rounds: int, seeds: int) -> None:
    numbers = list(range(seeds))
    stages = len(make_plan(load("quickstart", None, numbers), "cpu").stages)
    ours, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            theirs.append(
                timed([__file__, "--plain", folder, "--cores", str(cores), "--seeds", str(seeds)])
            )
        with tempfile.TemporaryDirectory() as folder:
            words = ["run", "quickstart", "--home", folder, "--json"]
            words += ["--seeds", ",".join(map(str, numbers))]
            ours.append(timed(chelate(*words, "--set", f"compute.workers={cores}")))
        print(f"  engine {ours[-1]:.1f} s, functions {theirs[-1]:.1f} s", flush=True)
    ratio = [one / other for one, other in zip(ours, theirs, strict=True)]
    extra = [cores * (a - b) / stages for a, b in zip(ours, theirs, strict=True)]
    print(
        f"quickstart, {stages} stages on {cores} cores: engine / functions "
        f"{statistics.median(ratio):.3f} ({min(ratio):.3f} to {max(ratio):.3f}); "
        f"{1e3 * statistics.median(extra):.0f} ms more a stage and core"
    )


def chelate(*words: str) -> list[str]:
    return ["-P", "-c", "from console.cli import main; main()", *words]


def timed(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


# --- stages as plain functions -------------------------------------------------------------------


def plain(folder: Path, cores: int, seeds: int) -> None:
    import torch

    torch.set_num_threads(1)
    plan = make_plan(load("quickstart", None, list(range(seeds))), "cpu")
    schedule = Schedule(plan)
    schedule.begin({})
    running: dict[Future[str], str] = {}
    with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
        while schedule.has_ready or running:
            while schedule.has_ready and len(running) < cores:
                stage = schedule.first()
                if stage is None:
                    break
                schedule.take()
                running[pool.submit(function, stage, folder)] = stage.key
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                done.result()
                schedule.settle(running.pop(done), "done")


SHARED: dict[str, Any] = {}


def function(stage: Stage, folder: Path) -> str:
    import torch
    from helpers import run_stage

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    run_stage(stage, folder, SHARED)
    return stage.key


# --- thousands of stages -------------------------------------------------------------------------


def many_stages(seeds: int) -> None:
    overrides = [*TINY, "compute.workers=1"]
    plan = make_plan(load("quickstart", overrides, list(range(seeds))), "cpu")
    words = ["run", "quickstart", "--json", "--seeds", ",".join(map(str, range(seeds)))]
    words += [word for override in overrides for word in ("--set", override)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        console = subprocess.Popen(
            [sys.executable, *chelate(*words, "--home", folder)], stdout=subprocess.DEVNULL
        )
        supervising = 0.0
        while console.poll() is None:
            time.sleep(0.5)
            for process in psutil.Process(console.pid).children():
                cpu = process.cpu_times()
                supervising = max(supervising, cpu.user + cpu.system)
        taken = time.perf_counter() - began
        ends = ended(Path(folder))
        own = alone(plan, Path(folder) / "alone")
    span = ends[-1]["t"] - ends[0]["t"] + ends[0]["data"]["seconds"]
    peaks = [end["data"]["peak_bytes"] / 2**20 for end in ends]
    print(
        f"{len(ends)} tiny stages, one worker: {1e3 * span / len(ends):.1f} ms a stage, of which "
        f"{1e3 * own / len(ends):.1f} ms its own work"
    )
    marks = [len(peaks) // 10, len(peaks) // 2, len(peaks) - 1]
    told = ", ".join(f"{peaks[mark]:.0f} MiB after {mark + 1}" for mark in marks)
    print(f"worker's memory at most: {told}")
    print(f"supervisor: {100 * supervising / taken:.1f} % of a core at that pace")


def idle(seconds: float) -> None:
    """What a supervisor takes of a core while one long stage is under way."""
    words = ["run", "quickstart", "--seeds", "0", "--detach", "--json"]
    words += [
        word for key in ("train.epochs=100000", "compute.workers=1") for word in ("--set", key)
    ]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *chelate(*words, "--home", folder)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        [run] = Path(folder).glob("runs/*")
        while not any(event["data"].get("kind") == "train" for event in started(run)):
            time.sleep(0.2)
        supervisor = psutil.Process(json.loads((run / "supervisor.json").read_bytes())["pid"])
        before = supervisor.cpu_times()
        time.sleep(seconds)
        after = supervisor.cpu_times()
        subprocess.run(
            [sys.executable, *chelate("stop", run.name, "--home", folder)], check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    taken = after.user + after.system - before.user - before.system
    print(f"supervisor beside one long stage: {100 * taken / seconds:.2f} % of a core")


def started(run: Path) -> list[dict[str, Any]]:
    return [e for e in EventTail(run / "events.jsonl").read() if e["kind"] == "start"]


def ended(home: Path) -> list[dict[str, Any]]:
    [events] = home.glob("runs/*/events.jsonl")
    return [e for e in EventTail(events).read() if e["kind"] == "end" and "key" in e["data"]]


def alone(plan: Plan, folder: Path) -> float:
    """Seconds of the same stages as functions in this process."""
    import torch
    from helpers import run_stage

    torch.set_num_threads(1)
    shared: dict[str, Any] = {}
    for stage in list(plan.stages.values())[:60]:  # warm
        run_stage(stage, folder / "warm", shared)
    began = time.perf_counter()
    for stage in plan.stages.values():
        run_stage(stage, folder, shared)
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}
    main()
