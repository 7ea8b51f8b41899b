"""The jobs of a cluster by their files: states, what onlookers see, what goes into a batch script."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import TINY, called, environment

from chelate.pin import program
from engine.jobs import control, runs
from engine.jobs.backends import dispatch, slurm
from engine.jobs.backends.jobs import (
    SILENCE,
    Others,
    Start,
    Submission,
    begin_start,
    begin_submission,
    submissions,
)
from engine.jobs.devices import Resources
from engine.jobs.events import EventWriter
from engine.jobs.follow import RunTail
from engine.jobs.home import Home, write_json
from engine.jobs.lease import Lease
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.spec import presets
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from engine.spec.slurm import Slurm

ON_SLURM = TINY.split("[[methods]]")[0] + (
    '[[methods]]\nname = "none"\n[compute]\nbackend = "slurm"\ndevice = "cpu"\n'
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    experiment = presets.validate(tomllib.loads(ON_SLURM), "tiny")
    plan = make_plan(experiment, "cpu")
    return runs.create(Home(tmp_path).create(), "a %b", experiment, plan, "cpu", "tiny.toml")


def submitted(run: Run) -> Submission:
    made = begin_submission(run.folder)
    write_json(made.folder / "submitted.json", {"v": 1, "job": "7", "array": 2, "t": 0.0})
    return made


def begun(made: Submission, job: str, restart: str = "0", age: float = 0.0) -> Start:
    start = begin_start(made, job, restart)
    (start.folder / "beat").touch()
    before = (start.folder / "beat").stat().st_mtime - age
    os.utime(start.folder / "beat", (before, before))
    return start


# --- states --------------------------------------------------------------------------------------


def test_states_come_from_the_jobs_files(run: Run) -> None:
    assert run.state() == "queued"
    assert not run.supervised()
    made = submitted(run)
    assert run.state() == "queued"
    assert run.supervised()  # in Slurm's queue: nobody may delete it or start it again
    first = begun(made, "7_0")
    assert run.state() == "running"
    first.end("requeued", "")
    assert run.state() == "queued"
    again = begun(made, "7_0", "1")
    assert run.state() == "running"
    second = begun(made, "7_1")
    second.end("idle", "")
    again.end("done", "")
    assert run.state() == "done"
    assert not run.supervised()
    begun(submitted(run), "8_0", age=SILENCE + 5)  # a later submission, of which one is lost
    assert run.state() == "lost"
    write_json(run.folder / "session.json", {"outcome": "stopped"})  # the last word
    assert run.state() == "stopped"


def test_a_submission_whose_jobs_never_began_can_be_stopped(run: Run) -> None:
    submitted(run)
    Order.STOP.give(run.folder)
    assert run.state() == "stopped"


def test_what_failed_in_one_job_is_told(run: Run) -> None:
    made = submitted(run)
    begun(made, "7_0").end("failed", "no GPU")
    assert made.state(stop=False) == ("failed", "no GPU")
    begun(made, "7_1").end("done", "")
    assert made.state(stop=False) == ("done", "")


def test_nonsense_in_the_files_is_no_crash(run: Run) -> None:
    made = submitted(run)
    (run.folder / "slurm" / "notes").mkdir()
    for content in ("", "[]", "{", '{"outcome": []}'):
        (made.folder / "submitted.json").write_text(content)
        start = begin_start(made, "7_0", "x")
        (start.folder / "session.json").write_text(content)
        assert run.state() in ("running", "lost", "queued")


def test_two_starts_of_one_job_at_once_write_to_different_folders(run: Run) -> None:
    """Slurm is known to do that after a crash of its own."""
    made = submitted(run)
    one, other = begin_start(made, "7_0", "0"), begin_start(made, "7_0", "0")
    assert one.folder != other.folder
    assert made.latest() == {"7_0": other}


# --- looking on ----------------------------------------------------------------------------------


def tell(start: Start, kind: str, **data: Any) -> None:
    with EventWriter(start.events, "", 0) as events:
        events.emit(kind, **data)


def test_onlookers_see_all_jobs_in_order(run: Run) -> None:
    made = submitted(run)
    first, second = begun(made, "7_0"), begun(made, "7_1")
    tail = RunTail(run)
    for number in range(6):
        tell((first, second)[number % 2], "phase", number=number)
    assert [event["data"]["number"] for event in tail.read()] == list(range(6))
    assert tail.read() == []
    tell(second, "phase", number=6)
    assert [event["data"]["number"] for event in tail.read()] == [6]
    assert not tail.behind


def test_a_job_learns_what_the_others_ended(run: Run) -> None:
    made = submitted(run)
    mine, other = begun(made, "7_0"), begun(made, "7_1")
    others = Others(made, mine)
    tell(mine, "end", key="a", outcome="done")
    tell(other, "start", key="b")
    tell(other, "end", key="b", outcome="failed")
    assert [end["key"] for end in others.ended()] == ["b"]
    assert others.ended() == []


# --- what is handed to Slurm ---------------------------------------------------------------------


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that writes down its arguments and takes the job as number 7, which then waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$@" > {tmp_path}/asked\necho "7;cluster"\n'
    )
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    queue_says(tmp_path / "asked", "7_0|PENDING|(Priority)")
    return tmp_path / "asked"


def queue_says(sbatch: Path, *lines: str, stderr: str = "", code: int = 0) -> None:
    """What squeue answers from now on."""
    squeue = sbatch.parent / "bin" / "squeue"
    told = "".join(f"echo '{line}'\n" for line in lines)
    squeue.write_text(f"#!/bin/sh\n{told}echo '{stderr}' >&2\nexit {code}\n")
    squeue.chmod(0o755)


def test_everything_goes_to_sbatch_as_asked(run: Run, sbatch: Path) -> None:
    asked = Slurm(
        partition="gpu", account="lab", qos="high", time="2-00:00:00", gpus=2, memory="16G",
        array_size=4, notice=90, extra=("#SBATCH --constraint=a100",),
    )  # fmt: skip
    made = slurm.submit(run, asked, Resources("cuda", threads=3, slots_per_device=2))
    *words, script = sbatch.read_text().split("\0")[:-1]
    for word in (
        "--partition=gpu", "--account=lab", "--qos=high", "--time=2-00:00:00", "--gres=gpu:2",
        "--mem=16G", "--array=0-3", "--signal=B:TERM@90", "--requeue", "--cpus-per-task=12",
    ):  # fmt: skip
        assert word in words
    first, line, deaf, command, _ = Path(script).read_text().split("\n")
    assert (first, line) == ("#!/bin/sh", "#SBATCH --constraint=a100")
    assert deaf == "trap '' TERM"
    told = shlex.split(command)
    assert told[0] == "exec"
    assert told[told.index("--home") + 1] == str(run.home.root)
    share = json.loads(told[told.index("--resources") + 1])
    assert (share["device"], share["workers"], share["threads"]) == ("cuda", 4, 3)
    assert made.facts()["job"] == "7"
    [start] = RunTail(run).read()
    assert (start["data"]["slots"], start["data"]["job"]) == (16, "7")
    compute = run.experiment.compute
    assert dispatch.start(run, compute, Resources("cpu")) is None  # it is in the queue already
    assert [one.folder for one in submissions(run.folder)] == [made.folder]


def test_a_home_with_awkward_characters_is_quoted(sbatch: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "it's 100% $(touch gone); `x`").create()
    experiment = presets.validate(tomllib.loads(ON_SLURM), "tiny")
    run = runs.create(home, "tiny", experiment, make_plan(experiment, "cpu"), "cpu", "-")
    slurm.submit(run, Slurm(), Resources("cpu"))
    *words, script = sbatch.read_text().split("\0")[:-1]
    [output] = [word for word in words if word.startswith("--output=")]
    assert "100%% $" in output
    told = shlex.split(Path(script).read_text().split("\n")[2])
    assert told[told.index("--home") + 1] == str(home.root)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("partition", "a b"), ("partition", "--wrap=x"), ("account", "x\n#SBATCH"), ("qos", ""),
        ("time", "soon"), ("memory", "16 G"), ("array_size", 0), ("gpus", -1),
        ("extra", ["#SBATCH --x\n rm -rf /"]), ("extra", ["echo hello"]), ("extra", ["#SBATCH"]),
        ("extra", ["#SBATCH --a\r--b"]), ("colour", "red"),
    ],
)  # fmt: skip
def test_what_slurm_is_asked_is_checked(key: str, value: Any) -> None:
    raw = tomllib.loads(ON_SLURM)
    raw["compute"]["slurm"] = {key: value}
    with pytest.raises(BadInput, match=rf"compute\.slurm\.{key}"):
        presets.validate(raw, "tiny")


def test_which_devices_a_job_gets() -> None:
    cpu, cuda = Resources("cpu"), Resources("auto", slots_per_device=2)
    assert slurm.resources_of(Slurm(), cpu) == ("cpu", 0, replace(cpu, workers=1))
    kind, gpus, share = slurm.resources_of(Slurm(gpus=2), cuda)
    assert (kind, gpus, share.workers) == ("cuda", 2, 4)
    assert slurm.resources_of(Slurm(gpus=0), cuda)[0] == "cpu"
    assert slurm.resources_of(Slurm(gpus=1), cpu)[:2] == ("cpu", 1)  # placed by GPUs
    with pytest.raises(BadInput, match="gpus = 0"):
        slurm.resources_of(Slurm(gpus=0), Resources("cuda"))
    with pytest.raises(BadInput, match="for Slurm to say"):
        slurm.resources_of(Slurm(), Resources("cuda:1"))


def test_without_slurm_there_is_one_clear_error(tmp_path: Path) -> None:
    preset = tmp_path / "tiny.toml"
    preset.write_text(ON_SLURM)
    empty = tmp_path / "bin"
    empty.mkdir()
    done = called("run", preset, "--home", tmp_path / "home", PATH=str(empty))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no `sbatch` here" in done.stderr
    assert not list(tmp_path.glob("home/runs/*/slurm/*"))


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "CANCELLED", ""])
def test_only_a_job_that_nobody_cancelled_queues_itself_again(
    state: str, sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm would start a cancelled one again, behind the back of who cancelled it."""
    folder = sbatch.parent / "bin"
    (folder / "squeue").write_text(f"#!/bin/sh\necho {state}\n")
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {sbatch.parent}/requeued\n')
    for name in ("squeue", "scontrol"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    if state == "RUNNING":
        slurm.requeue()
        assert (sbatch.parent / "requeued").read_text() == "requeue 12\n"
    else:
        with pytest.raises(BadInput, match="cancelled"):
            slurm.requeue()
        assert not (sbatch.parent / "requeued").exists()


def test_why_a_run_waits_is_in_slurms_words(run: Run, sbatch: Path) -> None:
    submitted(run)
    queue_says(
        sbatch, "7_0|PENDING|(Priority)", "7_1|PENDING|(Priority)", "7_2|PENDING|(\033[2JResources)"
    )
    assert dispatch.look_again(run) == "waits in Slurm's queue: Priority (2), Resources (1)"
    assert run.state() == "queued"


def test_jobs_that_slurm_has_lost_are_lost_until_one_begins(run: Run, sbatch: Path) -> None:
    """A controller that crashes can forget that it was asked to start a job again."""
    made = submitted(run)
    begun(made, "7_0").end("requeued", "Slurm wanted the node back")
    queue_says(sbatch, stderr="slurm_load_jobs error: Connection refused", code=1)
    assert dispatch.look_again(run) == ""
    assert run.state() == "queued"  # who does not answer has not forgotten
    queue_says(sbatch, "7_0|COMPLETING|node1")
    assert dispatch.look_again(run) == ""
    assert run.state() == "queued"
    queue_says(sbatch, stderr="slurm_load_jobs error: Invalid job id specified", code=1)
    assert dispatch.look_again(run) == ""
    assert run.state() == "lost"
    assert "Slurm no longer knows its jobs" in run.reason()
    assert not run.supervised()
    late = begun(made, "7_0", "1")  # Slurm starts a job at least once
    assert run.state() == "running"
    late.end("done", "")
    assert run.state() == "done"


def test_nobody_waits_long_for_a_slurm_that_does_not_answer(
    run: Run, sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that ends, and who looks at a run, can do without its answer."""
    made = submitted(run)
    for name in ("squeue", "scancel"):
        (sbatch.parent / "bin" / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (sbatch.parent / "bin" / name).chmod(0o755)
    monkeypatch.setattr(slurm, "HASTE", 0.2)
    began = time.monotonic()
    assert dispatch.look_again(run) == ""
    with pytest.raises(BadInput, match="no answer within"):
        slurm.cancel_waiting(made)
    assert time.monotonic() - began < 10
    assert run.state() == "queued"


def test_what_slurm_has_lost_can_be_resumed_at_once(run: Run, sbatch: Path) -> None:
    made = submitted(run)
    with pytest.raises(BadInput, match="is running"):
        control.resume(run)
    queue_says(sbatch)
    assert control.resume(run) is None
    assert submissions(run.folder)[-1] != made
    assert run.state() == "queued"


# --- a job at work, without Slurm ----------------------------------------------------------------


def job(run: Run, number: int, idle: float) -> subprocess.Popen[bytes]:
    """The real program of a job; nobody pre-empts it, so it needs nothing of Slurm."""
    words = [
        *program("engine.jobs.backends.slurm_job"), "--home", str(run.home.root),
        "--run", run.id, "--submission", "1", "--idle", str(idle),
        "--resources", json.dumps({"device": "cpu", "workers": 1}),
    ]  # fmt: skip
    return subprocess.Popen(words, env=environment(SLURM_JOB_ID=str(number)))


@pytest.mark.slow
def test_two_jobs_share_a_run(run: Run) -> None:
    made = submitted(run)
    jobs = [job(run, number, 600) for number in (1, 2)]
    assert [one.wait(120) for one in jobs] == [0, 0]
    assert run.state() == "done"
    assert {start.session()["outcome"] for start in made.starts()} == {"done"}
    ends = [event["data"] for event in RunTail(run).read() if event["kind"] == "end"]
    done = [end["key"] for end in ends if end["outcome"] != "cached"]
    assert len(done) == len(set(done)) == len(run.plan.stages)


def test_a_job_that_others_keep_from_working_gives_its_node_back(run: Run) -> None:
    made = submitted(run)
    first = next(iter(run.plan.stages))
    with Lease.acquire(run.store.leases, first):
        for stage in run.plan.stages.values():  # whatever else could be done
            if not stage.inputs and stage.key != first:
                raise AssertionError("this test knows one first stage only")
        assert job(run, 1, 0.5).wait(120) == 0
    [start] = made.starts()
    assert start.session()["outcome"] == "idle"
    assert not run.store.has(first)
