"""Runs that nobody looks on at: started and told what to do by the command line, in this process."""

from __future__ import annotations

from pathlib import Path

import psutil
from harness import (
    TINY,
    Command,
    Computed,
    called,
    hashes,
    strict_json,
    unhealthy,
    untimed,
)

from engine.jobs import control
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run

# One training of a second, with checkpoints, and little else.
LONG = TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n'
LONG = LONG.replace("epochs = 2", "epochs = 150, batch_size = 32").replace("[0, 1]", "[0]")
LONG += "[compute]\ncheckpoint_seconds = 0.1\n"

# A method that fails where the script BREAKS was run in the worker.
BROKEN = '[[methods]]\nname = "gd"\nlabel = "wild"\nlr = 0.0123\n'
BREAKS = """
from engine.lab.methods.gd import GD

begin = GD.begin

def breaks(self, task):
    if self.lr == 0.0123:
        raise ZeroDivisionError("a fault of the method")
    begin(self, task)

GD.begin = breaks
"""


def detached(preset: Path, home: Path, *words: str, command: Command = called, **env: str) -> Run:
    done = command("run", preset, "--home", home, "--detach", "--json", *words, **env)
    assert done.returncode == 0, done.stderr
    told = strict_json(done.stdout)
    assert told["home"] == str(home)
    run = Run(Home(home), told["run"])
    assert told["status"] in ("running", "done")
    return run


def commanded(word: str, run: Run, *words: str) -> str:
    done = called(word, run.id, "--home", run.home.root, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def supervisor(run: Run) -> psutil.Process:
    return psutil.Process(control.supervisor_of(run).pid)


def key_of_training(run: Run) -> str:
    [key] = [stage.key for stage in run.plan.stages.values() if stage.kind == "train"]
    return key


def is_training(run: Run) -> bool:
    """Whether the training has taken a step, and not yet its last."""
    events = run.folder.glob(f"attempts/{key_of_training(run)[:16]}.*/events.jsonl")
    steps = [
        e["data"] for path in events for e in EventTail(path).read() if e["kind"] == "progress"
    ]
    return bool(steps) and steps[-1]["done"] < steps[-1]["total"]


def same_as(run: Run, computed: Computed) -> None:
    """Everything is there, as if nothing had happened."""
    assert run.state() == "done"
    assert hashes(run.home.root) == hashes(computed.home)
    assert not unhealthy(run.home.root)
    assert list((run.home.store / "work").iterdir()) == []
    assert not list(run.store.root.glob("checkpoints/*/"))
    done = called("compare", run.id, "--home", run.home.root, "--json")
    assert untimed(strict_json(done.stdout)["rows"]) == untimed(computed.document["rows"])
