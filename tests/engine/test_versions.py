"""A plan made with other versions than those here: nothing of it is filed under its keys."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Computed, called, exits, hashes, until
from nursery import Nursery

from console.planning import prepare
from engine.jobs import runs, versions
from engine.jobs.backends import dispatch
from engine.jobs.devices import Resources
from engine.jobs.home import Home
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.jobs.suitability import imported_torch
from engine.spec.keys import package_version
from engine.spec.presets import load

TORCH = package_version("torch")


@pytest.fixture
def run(shared: Computed, tmp_path: Path) -> Run:
    """A run whose audits are still to be computed."""
    found = Run(Home(shared.copy(tmp_path)), shared.run)
    for stage in found.plan.stages.values():
        if stage.kind == "audit":
            shutil.rmtree(found.store.path(stage.key))
    return found


def repinned(run: Run, change: dict[str, Any] | None) -> Run:
    """With other pins where stages have these; None: with none, as plans of before."""
    path = run.folder / "plan.json"
    told = json.loads(path.read_bytes())
    for pins in told["pins"].values():
        pins |= {name: value for name, value in (change or {}).items() if name in pins}
    if change is None:
        del told["pins"]
    path.write_text(json.dumps(told))
    return Run(run.home, run.id)


def resumed(run: Run, code: int = 2) -> str:
    done = called("resume", run.id, "--home", run.home.root)
    assert done.returncode == code, done.stderr
    return done.stderr


def audits_here(run: Run) -> int:
    return sum(s.kind == "audit" and run.store.has(s.key) for s in run.plan.stages.values())


@pytest.mark.parametrize(
    ("pins", "planned", "here"),
    [
        ({"package torch": "99.0"}, "torch 99.0", f"torch {TORCH}"),
        ({"audit gaussian": 1}, "audit gaussian version 1", "audit gaussian version 2"),
        ({"stage audit": 7}, "stage audit version 7", "stage audit version 1"),
    ],
)
def test_resume_says_both_versions_and_what_plans_anew(
    pins: dict[str, Any], planned: str, here: str, run: Run, shared: Computed
) -> None:
    run = repinned(run, pins)
    Order.PAUSE.give(run.folder)
    said = resumed(run)
    assert f"was planned with {planned}, but here is {here}" in said
    assert Order.PAUSE.given(run.folder)  # it stays as it was
    assert audits_here(run) == 0
    assert not run.supervised()
    command = said.split("`")[1]
    assert command == f"chelate run {shared.preset} --home {run.home.root}"
    assert called("plan", *shlex.split(command)[2:]).returncode == 0


@pytest.mark.parametrize(
    ("pins", "told"),
    [
        ({"package torch": "99.0"}, ("torch 99.0", f"torch {TORCH}")),
        ({"audit accuracy": 1, "audit gaussian": 1}, ("version 1", "version 2")),
        ({"threads": 3}, ("threads 3", "threads 1")),
        ({"device": "cuda"}, ("device cuda", "device cpu")),
    ],
)
def test_a_worker_refuses_what_was_planned_for_another(
    pins: dict[str, Any], told: tuple[str, str], run: Run, forked: Nursery
) -> None:
    run = repinned(run, pins)
    compute = run.experiment.compute
    process = dispatch.start(run, compute, Resources.of(compute))
    until(lambda: process is not None and process.poll() is not None)
    assert run.state() == "failed"
    assert audits_here(run) == 0
    reasons = {e["reason"] for e in exits(run.home.root) if e["outcome"] == "failed"}
    assert all(told[0] in reason and told[1] in reason for reason in reasons)
    assert reasons


def test_what_the_store_has_needs_no_version(shared: Computed, tmp_path: Path) -> None:
    run = repinned(Run(Home(shared.copy(tmp_path)), shared.run), {"package torch": "99.0"})
    before = hashes(run.home.root)
    versions.check_versions(run)  # says nothing
    assert called("compare", run.id, "--home", run.home.root).returncode == 0
    assert hashes(run.home.root) == before


def test_a_plan_of_before_is_checked_by_planning_again(run: Run, forked: Nursery) -> None:
    pinned = {key: stage.pins for key, stage in run.plan.stages.items()}
    run = repinned(run, None)
    assert not any(stage.pins for stage in run.plan.stages.values())
    resumed(run, 0)
    until(lambda: not run.supervised())
    again = Run(run.home, run.id)
    assert again.state() == "done"
    assert {key: stage.pins for key, stage in again.plan.stages.items()} == pinned


def test_a_plan_of_before_with_other_keys_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = repinned(run, None)
    monkeypatch.setattr("engine.spec.plan.package_version", lambda name: "99.0")
    monkeypatch.setattr("engine.spec.keys.package_version", lambda name: "99.0")
    assert f"was computed with torch {TORCH} so far, but here is torch 99.0" in resumed(run)
    monkeypatch.undo()
    monkeypatch.setitem(versions.__dict__, "_torch_of_before", lambda run: "")
    monkeypatch.setattr("engine.lab.audits.gaussian.Gaussian.version", 9)
    assert "was planned by another version of chelate or of a package" in resumed(run)
    monkeypatch.setattr(
        "engine.lab.data.mnist5k.Mnist5k.inspect", lambda self: load("none-such.toml")
    )
    assert "its plan does not say with which versions" in resumed(run)


def test_asking_for_a_run_of_before_again_pins_its_plan(shared: Computed, tmp_path: Path) -> None:
    run = repinned(Run(Home(shared.copy(tmp_path)), shared.run), None)
    done = called("run", shared.preset, "--home", run.home.root, "--json")
    assert done.returncode == 0, done.stderr
    [again] = runs.every(run.home)
    assert again.id == run.id
    assert all(stage.pins for stage in again.plan.stages.values())


def test_the_command_asks_for_what_the_run_is(
    run: Run, shared: Computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHELATE_HOME", str(run.home.root))
    assert versions.command_anew(run) == f"chelate run {shared.preset}"
    path = run.folder / "experiment.toml"
    text = path.read_text()
    path.write_text(text.replace("seeds = [0, 1]", "seeds = [1]"))
    assert versions.command_anew(Run(run.home, run.id)).endswith("--seeds 1")
    path.write_text(text.replace("width = 16", "width = 17"))
    assert versions.command_anew(Run(run.home, run.id)) == f"chelate run {path}"
    assert prepare(str(path), None, None, None).name == "tiny"  # not "experiment"
    path.write_text(text.replace('device = "auto"', 'device = "cuda"'))
    assert versions.command_anew(Run(run.home, run.id)) == f"chelate run {path} --device cpu"


def test_torch_is_compared_in_the_words_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    place = distribution("torch").locate_file("torch")
    torch = SimpleNamespace(__version__="", __file__=f"{place}/__init__.py")
    monkeypatch.setitem(sys.modules, "torch", torch)
    for local in ("", "+cpu", "+rocm6"):
        torch.__version__ = TORCH.partition("+")[0] + local
        assert imported_torch() == TORCH
    torch.__version__ = "1.0"  # a build that tells it in two ways
    assert imported_torch() == TORCH
    torch.__file__ = "/elsewhere/torch/__init__.py"
    assert imported_torch() == "1.0"
