"""Small homes written by hand: runs with plans, events and logs, and nobody who computes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

METHODS = (("none", "none", None), ("retrain", "retrain", None), ("gd", "unlearn", 0.05))


clock = time.time  # a test that needs the same picture every time puts another here


def key_of(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def stage(key: str, kind: str, title: str, inputs: dict[str, str], tee: float) -> dict[str, Any]:
    return {
        "key": key, "kind": kind, "title": title, "config": {}, "inputs": inputs, "after": [],
        "tee": tee,
    }  # fmt: skip


def plan(name: str, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    """A run of no unlearning, retraining and gd, audited once each."""
    stages, cells = [], []
    data = key_of(name, "data")
    stages.append(stage(data, "data", "data toy", {}, 0.0))
    for seed in seeds:
        models: dict[str, str] = {}
        for method, role, budget in METHODS:
            kind = "unlearn" if role == "unlearn" else "train"
            model = key_of(name, method, seed)
            inputs = {"data": data}
            if role == "unlearn":
                inputs["start"] = models["none"]
            title = f"{kind} toy/{method} s{seed}"
            stages.append(stage(model, kind, title, inputs, 1.0 if role == "unlearn" else 20.0))
            models[method] = model
            audit = key_of(name, method, seed, "audit")
            stages.append(stage(audit, "audit", f"audit gaussian of {method} s{seed}",
                                {"model": model, "data": data}, 0.0))  # fmt: skip
            cells.append({
                "setting": "", "attack": "toy", "method": method, "variant": "", "budget": budget,
                "seed": seed, "audit": "gaussian", "role": role, "key": audit, "cost_keys": [model],
            })  # fmt: skip
    return {"v": 1, "stages": stages, "cells": cells}


class WrittenRun:
    """A run's folder. `supervise` holds its lock, as a living supervisor does."""

    def __init__(
        self, home: Path, name: str, *, created: float | None = None, title: str = "A toy run",
        facts: dict[str, Any] | None = None, seeds: tuple[int, ...] = (0, 1), planned: bool = True,
    ) -> None:  # fmt: skip
        self.id = name
        self.folder = home / "runs" / name
        (self.folder / "attempts").mkdir(parents=True)
        self.plan = plan(name, seeds)
        told = {"v": 1, "id": name, "name": name, "title": title, "origin": "toy.toml",
                "created": created if created is not None else time.time(), "device": "cpu",
                "chelate": "0.1.0"}  # fmt: skip
        if planned:
            (self.folder / "plan.json").write_text(json.dumps(self.plan))
            (self.folder / "experiment.toml").write_text("# a toy's\n")
        (self.folder / "run.json").write_text(json.dumps(told | (facts or {})))
        self._seq = 0
        self._lock: int | None = None

    def key(self, method: str, seed: int = 0, *more: str) -> str:
        return key_of(self.id, method, seed, *more)

    def event(self, kind: str, /, **data: Any) -> None:
        """One of the supervisor's."""
        self._write(self.folder / "events.jsonl", "", 0, kind, data)

    def session(self, cached: int = 0) -> None:
        total = len(self.plan["stages"])
        self.event("start", run=self.id, stages=total, slots=1, cached=cached, todo=total - cached)

    def begin(self, method: str, seed: int = 0, attempt: int = 1) -> str:
        key = self.key(method, seed)
        kind = next(s["kind"] for s in self.plan["stages"] if s["key"] == key)
        self.event("start", key=key, attempt=attempt, title=f"{kind} toy/{method} s{seed}",
                   kind=kind, slot="cpu:0")  # fmt: skip
        return key

    def end(self, method: str, seed: int = 0, outcome: str = "done", reason: str = "") -> None:
        key = self.key(method, seed)
        kind = next(s["kind"] for s in self.plan["stages"] if s["key"] == key)
        self.event("end", key=key, title=f"{kind} toy/{method} s{seed}", kind=kind,
                   outcome=outcome, reason=reason, seconds=1.5, tee=1.0)  # fmt: skip

    def attempt(self, key: str, kind: str, /, attempt: int = 1, **data: Any) -> None:
        """An event of the attempt at a stage."""
        folder = self.folder / "attempts" / f"{key[:16]}.{attempt}"
        folder.mkdir(exist_ok=True)
        self._write(folder / "events.jsonl", key, attempt, kind, data)

    def curve(self, key: str, steps: int, value: float = 2.0) -> None:
        for step in range(1, steps + 1):
            self.attempt(key, "metric", name="loss", step=step, value=value / step)

    def probe(self, key: str, step: int, mean: float) -> None:
        counts = [round(100 * 2.718 ** (-((-7.75 + n / 2 - mean) ** 2) / 2)) for n in range(32)]
        self.attempt(key, "probe", name="gaussian", step=step, edges=[-8.0, 8.0, 0.5],
                     counts=counts, count=sum(counts), mean=mean, std=1.0)  # fmt: skip

    def output(self, key: str, text: str, attempt: int = 1) -> None:
        folder = self.folder / "attempts" / f"{key[:16]}.{attempt}"
        folder.mkdir(exist_ok=True)
        (folder / "output.log").write_text(text)

    def ended(self, outcome: str = "done", reason: str = "") -> None:
        told = {"v": 1, "outcome": outcome, "reason": reason, "t": time.time()}
        (self.folder / "session.json").write_text(json.dumps(told))

    def supervise(self) -> None:
        path = self.folder / "supervisor.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, path: Path, stage: str, attempt: int, kind: str, data: dict[str, Any]) -> None:
        event = {"v": 1, "seq": self._seq, "t": clock(), "stage": stage, "attempt": attempt,
                 "kind": kind, "data": data}  # fmt: skip
        self._seq += 1
        with path.open("a") as file:
            file.write(json.dumps(event) + "\n")


def running_run(home: Path, name: str = "toy-1") -> WrittenRun:
    """A run whose gd is under way: two trainings done, a curve of 50 points, three looks."""
    run = WrittenRun(home, name)
    run.supervise()
    run.session()
    for method in ("none", "retrain"):
        key = run.begin(method)
        run.curve(key, 40)
        run.attempt(key, "progress", done=40, total=40)
        run.end(method)
    key = run.begin("gd")
    run.attempt(key, "progress", done=50, total=100)
    run.curve(key, 50)
    for number, mean in enumerate((0.8, 0.5, 0.3)):
        run.probe(key, 10 * (number + 1), mean)
    return run
