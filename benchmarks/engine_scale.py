"""What a run of ten thousand stages costs to plan and to look at: whole commands, as a person waits.

    python benchmarks/engine_scale.py [--stages 10000] [--rounds 5]

The plan is the quickstart's over as many seeds as it takes. The store and the run's folder are
written by the engine's own code (fsync left out), two thirds of the stages done, with measurements
and models of a few kilobytes; a lock held here says that a supervisor lives. Medians over rounds
of the wall time, with the range, and the mean CPU time, which a busy machine stretches less;
a small Python start says what of it is Python.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engine.jobs import runs
from engine.jobs.events import EventWriter
from engine.jobs.home import Home, write_json
from engine.jobs.runs import Run
from engine.spec.plan import make_plan
from engine.spec.planned import Stage
from engine.spec.presets import load, locate

CHELATE = [sys.executable, "-P", "-c", "from console.cli import main; main()"]
WIDE = {"COLUMNS": "160", "LINES": "45", "TERM": "xterm-256color"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    per_seed = len(make_plan(load("quickstart", None, [0]), "cpu").stages)
    seeds = list(range(round(options.stages / per_seed)))
    with tempfile.TemporaryDirectory() as folder:
        run = written(Home(Path(folder)).create(), seeds)
        print(f"{len(run.plan.stages)} stages, {len(run.plan.cells)} measurements")
        home = ["--home", folder]
        words = ",".join(map(str, seeds))
        report("python -c 'import json'", options.rounds, lambda: whole(["-c", "import json"]))
        for command in (
            ["plan", "quickstart", "--seeds", words, *home],
            ["runs", "show", run.id, *home],
            ["runs", "list", *home],
            ["compare", run.id, *home],
        ):
            told = "chelate " + " ".join(command[:2])
            report(told, options.rounds, lambda command=command: whole([*CHELATE[1:], *command]))
        with supervised(run):
            told = f"/{len(run.plan.stages)} stages".encode()
            command = [*CHELATE, "watch", run.id, *home]
            report("chelate watch, first paint", options.rounds, lambda: painted(command, told))


def report(what: str, rounds: int, seconds: Callable[[], float]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = [seconds() for _ in range(rounds)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / rounds
    told = f"({min(taken):.2f} to {max(taken):.2f}), {cpu:.2f} s of CPU"
    print(f"{what:30} {statistics.median(taken):6.2f} s {told}", flush=True)


def whole(words: list[str]) -> float:
    """Wall time of a Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def painted(command: list[str], text: bytes) -> float:
    """Wall time until a command has written `text` to its terminal."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, os.environ | WIDE)
    seen = b""
    while text not in seen:
        if not select.select([terminal], [], [], 30)[0]:
            raise TimeoutError(seen)
        seen += os.read(terminal, 65536)
    taken = time.perf_counter() - began
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return taken


class supervised:  # noqa: N801
    """Holds a run's lock, as its supervisor does."""

    def __init__(self, run: Run) -> None:
        self.lock = (run.folder / "supervisor.lock").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.lock.close()


def written(home: Home, seeds: list[int]) -> Run:
    """A run two thirds of whose stages are done."""
    experiment = load("quickstart", None, seeds)
    plan = make_plan(experiment, "cpu")
    run = runs.create(home, "large", experiment, plan, "cpu", str(locate("quickstart")))
    stages = list(plan.stages.values())
    with EventWriter(run.events, "", 0, rate=1e9) as events:
        events.emit("start", run=run.id, stages=len(stages), slots=2, cached=0, todo=len(stages))
        for stage in stages[: 2 * len(stages) // 3]:
            computed(run, stage, events)
    return run


def computed(run: Run, stage: Stage, events: EventWriter) -> None:
    told = {"key": stage.key, "title": stage.title, "kind": stage.kind}
    end = {"outcome": "done", "reason": "", "seconds": 1.0, "tee": stage.tee, "peak_bytes": 1}
    events.emit("start", attempt=1, slot="cpu:0", **told)
    with run.store.begin(stage.key, 1) as work:
        if stage.kind == "audit":
            name = stage.config["audit"]["name"]
            values = (
                {"accuracy": 0.9} if name == "accuracy" else {"mean_score": 0.1, "count": 200.0}
            )
            content = json.dumps({"v": 1, "metrics": values})
            (work.path / "measurements.json").write_text(content)
        else:
            (work.path / "model.safetensors").write_bytes(os.urandom(4096))
        work.commit(
            kind=stage.kind, title=stage.title, seconds=1.0, tee=stage.tee, config=stage.config,
            inputs=stage.inputs,
        )  # fmt: skip
    folder = run.folder / "attempts" / f"{stage.key[:16]}.1"
    folder.mkdir(mode=0o700)
    with EventWriter(folder / "events.jsonl", stage.key, 1) as own:
        own.emit("start", title=stage.title)
        own.emit("end", outcome="done")
    facts = {"stage": stage.key, "attempt": 1, "title": stage.title}
    write_json(folder / "exit.json", {"v": 1, "t": 1.0, **facts, **end})
    events.emit("end", **told, **end)


if __name__ == "__main__":
    main()
