"""What the fault tests share: presets, trials, and what must hold after."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from harness import DATA, hashes, objects, unhealthy, until
from nursery import Nursery, is_alive

from engine.jobs import runs
from engine.jobs.devices import Resources
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.spec import presets
from engine.spec.plan import make_plan

SMALL = f"""
seeds = [0]
budgets = [0.25, 0.5]
{DATA}
model = {{ name = "mlp", width = 16 }}
train = {{ epochs = 2 }}
attacks = [{{ name = "gaussian" }}]
audits = [{{ name = "accuracy" }}]
methods = [{{ name = "none" }}, {{ name = "retrain" }}, {{ name = "gd" }}]
"""
# One training of some hundred steps, and next to nothing else.
LONG = SMALL.replace("epochs = 2", "epochs = 60, batch_size = 32")
LONG = LONG.replace(', { name = "retrain" }, { name = "gd" }', "")
LONG += "[compute]\ncheckpoint_seconds = 0.02\nworkers = 1\n"
PRESETS = {"small": SMALL, "long": LONG}


@dataclass
class Trial:
    """A run of a test's own, and its processes."""

    nursery: Nursery
    run: Run
    expected: dict[str, dict[str, str]]
    options: dict[str, Any] = field(default_factory=dict)
    supervisor: psutil.Process | None = None

    @property
    def home(self) -> Path:
        return self.run.home.root

    def start(self, workers: int = 2, env: dict[str, str] | None = None, **options: Any) -> None:
        resources = Resources("cpu", workers=workers)
        pid = self.nursery.supervise(self.run, resources, env or {}, **{**self.options, **options})
        self.supervisor = psutil.Process(pid)

    def workers(self) -> list[psutil.Process]:
        assert self.supervisor is not None
        try:
            return self.supervisor.children()
        except psutil.NoSuchProcess:
            return []

    def await_end(self, seconds: float = 60.0) -> str:
        """How the session ended: what a person is told of the run's state."""
        assert self.supervisor is not None
        until(lambda: not is_alive(self.supervisor), seconds)
        return self.run.state()

    def complete(self) -> None:
        """Run until it is done, as a person would; everything must then be as if undisturbed."""
        for _ in range(4):
            if self.run.state() == "done":
                break
            self.start()
            self.await_end()
        self.as_if_undisturbed()

    def as_if_undisturbed(self) -> None:
        assert self.run.state() == "done", said(self.run)
        until(lambda: not self.nursery.processes(), 15)  # nobody is left behind
        assert hashes(self.home) == self.expected
        assert not unhealthy(self.home)
        computed_once(self.home)
        self.run.store.sweep()
        for folder in ("work/*/o*", "quarantine/*/", "checkpoints/*/"):
            # (A work folder whose maker had no time to name himself goes after an hour.)
            assert not list(self.run.store.root.glob(folder)), folder

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        found = EventTail(self.run.events).read()
        return [event for event in found if kind in ("", event["kind"])]

    def said(self) -> str:
        return said(self.run)

    def under_way(self, kind: str) -> bool:
        """Whether a stage of the kind has begun and not ended."""
        keys = [e["data"]["key"] for e in self.events("start") if e["data"].get("kind") == kind]
        return any(not self.run.store.has(key) for key in keys)


def said(run: Run) -> str:
    """What the run's warnings, failures and last words were."""
    found = EventTail(run.events).read()
    words = [str(e["data"].get("text") or e["data"].get("reason") or "") for e in found]
    return "\n".join([*filter(None, words), str(run.session().get("reason", ""))])


def computed_once(home: Path) -> None:
    """No attempt at a stage began after its result was there, and only one made it.

    Attempts at a stage are counted by its lease, whatever the clock says.
    """
    for key, record in objects(home).items():
        attempts = list(home.glob(f"runs/*/attempts/{key[:16]}.*"))
        numbers = [int(folder.suffix[1:]) for folder in attempts if folder.suffix[1:].isdigit()]
        assert max(numbers) == record["attempt"], record["title"]
        events = [e for folder in attempts for e in EventTail(folder / "events.jsonl").read()]
        done = [event for event in events if event["data"].get("outcome") == "done"]
        assert len(done) <= 1, record["title"]


def create(home: Path, text: str, name: str) -> Run:
    experiment = presets.validate(tomllib.loads(text), name)
    plan = make_plan(experiment, "cpu")
    return runs.create(Home(home).create(), name, experiment, plan, "cpu", f"{name}.toml")
