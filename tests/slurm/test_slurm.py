"""Runs on a real Slurm: the same rows as on this machine, also when Slurm takes nodes away or dies."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cluster
import pytest
from harness import (
    TINY,
    Computed,
    chelate,
    computed,
    exits,
    hashes,
    processes,
    session_folder,
    strict_json,
    unhealthy,
    until,
    untimed,
)

from engine.jobs import control
from engine.jobs.backends import slurm
from engine.jobs.backends.jobs import submissions
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run

# Fake GPUs place jobs and cannot compute: each job asks for one, and computes on the CPU.
SLURM = {
    "compute.backend": "'slurm'", "compute.device": "'cpu'", "compute.slurm.gpus": "1",
    "compute.slurm.array_size": "2", "compute.slurm.time": "'10'",
}  # fmt: skip
SETTINGS = [word for key, value in SLURM.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """On this machine, without Slurm."""
    text = Path(__file__).parents[2].joinpath("presets/quickstart.toml").read_text()
    return computed(session_folder(tmp_path_factory), "quickstart", text)


def submit(preset: Path, home: Path, *words: str) -> Run:
    began = time.monotonic()
    done = chelate("run", preset, "--home", home, "--json", *SETTINGS, *words)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 20  # it submits, and does not wait
    return Run(Home(home), strict_json(done.stdout)["run"])


def events(run: Run) -> list[dict[str, Any]]:
    files = run.folder.glob("slurm/*/jobs/*/events.jsonl")
    return [event for path in files for event in EventTail(path).read()]


def ended(run: Run) -> Counter[str]:
    """How often stages ended, by outcome."""
    told = (event["data"] for event in events(run) if event["kind"] == "end")
    return Counter(data["outcome"] for data in told)


def sessions(run: Run) -> Counter[str]:
    found = run.folder.glob("slurm/*/jobs/*/session.json")
    return Counter(json.loads(path.read_bytes())["outcome"] for path in found)


def as_on_this_machine(run: Run, local: Computed) -> None:
    assert run.state() == "done", sessions(run)
    until(lambda: not cluster.jobs())
    done = chelate("compare", run.id, "--home", run.home.root, "--json")
    assert untimed(strict_json(done.stdout)["rows"]) == untimed(local.document["rows"])
    assert hashes(run.home.root) == hashes(local.home)
    assert not unhealthy(run.home.root)
    assert not processes(run.home.root)
    committed = Counter(end["stage"] for end in exits(run.home.root) if end["outcome"] == "done")
    assert committed.keys() == hashes(local.home).keys()
    assert set(committed.values()) == {1}  # nothing was computed twice


def wait(run: Run, look: Callable[[], Any]) -> None:
    until(lambda: look() or not run.supervised())
    assert look(), (run.state(), sessions(run))


def test_the_quickstart_gives_the_same_rows(quickstart: Computed, tmp_path: Path) -> None:
    run = submit(quickstart.preset, tmp_path / "home")
    assert run.state() in ("queued", "running")
    watching = chelate("watch", run.id, "--home", run.home.root, "--plain")
    assert watching.returncode == 0, watching.stderr
    assert f"run {run.id}: done" in watching.stdout
    as_on_this_machine(run, quickstart)
    workers = {e["data"]["slot"] for e in events(run) if e["kind"] == "start"}
    assert len(workers) == 2  # both jobs had a part in it


@pytest.mark.fault(
    "Slurm: pre-emption and requeue, then SIGKILL of slurmctld while jobs run",
    seen="state running: the jobs go on; requeued",
    happened="the same rows as on one machine, nothing computed twice",
)
def test_the_quickstart_through_a_preemption_and_a_crash_of_slurm(
    quickstart: Computed, tmp_path: Path
) -> None:
    run = submit(quickstart.preset, tmp_path / "home")
    wait(run, lambda: ended(run)["done"] >= 8)
    # Three of four CPUs: one of the two jobs has to go.
    urgent = ["sbatch", "--partition=urgent", "--cpus-per-task=3", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap=sleep 1"], check=True, capture_output=True)
    wait(run, lambda: len(submissions(run.folder)[-1].starts()) == 3)  # it is there again
    assert sessions(run) == {"requeued": 1}
    cluster.kill_controller()
    before = ended(run)["done"]
    wait(run, lambda: ended(run)["done"] > before)  # the jobs do not notice
    cluster.start_controller()
    until(lambda: not run.supervised(), 180)
    as_on_this_machine(run, quickstart)
    assert sessions(run)["requeued"] == 1


LONG = TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n'
LONG = LONG.replace("epochs = 2", "epochs = 300, batch_size = 16").replace("[0, 1]", "[0]")


def is_training(run: Run) -> bool:
    return any(e["data"].get("kind") == "train" and e["kind"] == "start" for e in events(run))


@pytest.mark.fault(
    "Slurm: all jobs cancelled",
    seen="state stopped; resume submits the rest",
    happened="the next submission went on",
)
def test_stopping_and_going_on(tmp_path: Path) -> None:
    preset = tmp_path / "long.toml"
    preset.write_text(LONG)
    run = submit(preset, tmp_path / "home", "--set", "compute.slurm.array_size=6")
    assert len(slurm.queue(submissions(run.folder)[-1])) == 6  # of which four find a place
    wait(run, lambda: is_training(run))
    control.stop(run)
    until(lambda: not cluster.jobs(), 60)
    assert run.state() == "stopped"
    assert set(sessions(run)) <= {"stopped"}
    assert not processes(run.home.root)
    control.resume(run)
    assert run.supervised()
    until(lambda: not run.supervised(), 180)
    assert run.state() == "done"
    assert [s.folder.name for s in submissions(run.folder)] == ["1", "2"]
    assert not unhealthy(run.home.root)


def test_killing_leaves_nothing_behind(tmp_path: Path) -> None:
    preset = tmp_path / "long.toml"
    preset.write_text(LONG)
    run = submit(preset, tmp_path / "home")
    wait(run, lambda: is_training(run))
    control.kill(run)
    until(lambda: not cluster.jobs(), 60)
    until(lambda: not processes(run.home.root), 30)
    assert run.state() == "stopped"


@pytest.mark.fault(
    "Slurm: `scancel` by hand",
    seen="state stopped; resume submits the rest",
    happened="no job queued itself again; the next submission went on",
)
def test_cancelled_by_hand_is_stopped_and_goes_on(tmp_path: Path) -> None:
    """`scancel` without a word to chelate: the job does not queue itself again behind our back."""
    preset = tmp_path / "long.toml"
    preset.write_text(LONG)
    run = submit(preset, tmp_path / "home")
    wait(run, lambda: is_training(run))
    cluster.run("scancel", submissions(run.folder)[-1].facts()["job"])
    until(lambda: not cluster.jobs(), 60)
    until(lambda: not processes(run.home.root), 30)
    assert run.state() == "stopped", sessions(run)
    control.resume(run)
    until(lambda: not run.supervised(), 180)
    assert run.state() == "done"
    assert not unhealthy(run.home.root)


@pytest.mark.fault(
    "Slurm: the node goes down",
    seen="state queued, with Slurm's reason, then running; done",
    happened="Slurm started the jobs again when a node came up; they went on from the store",
)
def test_a_node_that_goes_down_gives_its_jobs_to_the_next(tmp_path: Path) -> None:
    preset = tmp_path / "long.toml"
    preset.write_text(LONG)
    run = submit(preset, tmp_path / "home")
    wait(run, lambda: is_training(run))
    node = cluster.run("sinfo", "--noheader", "--format=%n").split()[0]
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    until(lambda: {state for _, state, _ in cluster.jobs()} == {"PENDING"}, 60)
    until(lambda: not processes(run.home.root), 30)
    # A node that answers comes back by itself sooner or later (ReturnToService); then this fails.
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
    until(lambda: run.state() == "done", 180)
    assert not unhealthy(run.home.root)
    assert any(start.order[0] > 0 for start in submissions(run.folder)[-1].starts())
