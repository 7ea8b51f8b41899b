"""Slurm by its own commands: submit the jobs of a run, ask about them, stop them, start them again.

Nothing of ours lives on the login node. Every job of the array works through the run's stages as a
supervisor does (slurm_job.py); leases keep two from computing the same one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from chelate.pin import program
from engine.jobs.backends.jobs import WAITS, Submission, begin_submission, submissions
from engine.jobs.devices import Resources
from engine.jobs.events import EventWriter, strip_control
from engine.jobs.home import write_atomic, write_json
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from engine.spec.slurm import Slurm

PATIENCE = 30.0  # seconds for one of Slurm's commands
TRIES = 5  # while its controller does not answer
HASTE = 5.0  # seconds, once, for what somebody waits to see and can do without


@dataclass(frozen=True)
class Queued:
    """One line of squeue."""

    job: str  # as in 12_3
    state: str  # PENDING, RUNNING, COMPLETING …
    reason: str  # or the node it runs on


def resources_of(slurm: Slurm, resources: Resources) -> tuple[str, int, Resources]:
    """(kind of device, GPUs of each job, what each job may use of its node)."""
    cpu = resources.device == "cpu" or (resources.device == "auto" and slurm.gpus == 0)
    gpus = slurm.gpus if slurm.gpus is not None else int(not cpu)
    if not cpu and gpus == 0:
        raise BadInput("compute.slurm.gpus = 0, but the device is cuda: ask for GPUs, or for cpu.")
    if ":" in resources.device:
        raise BadInput(f"device {resources.device!r}: on Slurm, which GPUs is for Slurm to say.")
    kind = "cpu" if cpu else "cuda"
    workers = resources.workers or (1 if cpu else gpus * resources.slots_per_device)
    return kind, gpus, replace(resources, device=kind, workers=workers)


def width(slurm: Slurm, resources: Resources) -> tuple[str, int]:
    """(kind of device, workers at once). Raises BadInput."""
    kind, _, share = resources_of(slurm, resources)
    return kind, slurm.array_size * (share.workers or 1)


def submit(run: Run, slurm: Slurm, resources: Resources) -> Submission:
    """Hand a run to Slurm and return. Raises BadInput if Slurm is not there or does not take it."""
    _, gpus, share = resources_of(slurm, resources)
    made = begin_submission(run.folder)
    script = made.folder / "job.sh"
    write_atomic(script, _script(run, made, slurm, share))
    words = [
        "sbatch", "--parsable", f"--job-name=chelate-{run.id}", f"--array=0-{slurm.array_size - 1}",
        f"--output={str(made.folder).replace('%', '%%')}/%A_%a.out", "--open-mode=append",
        "--requeue", f"--signal=B:TERM@{slurm.notice}", "--nodes=1", "--ntasks=1",
        f"--cpus-per-task={share.threads * (share.workers or 1)}",
    ]  # fmt: skip
    asked = {
        "partition": slurm.partition, "account": slurm.account, "qos": slurm.qos,
        "time": slurm.time, "mem": slurm.memory, "gres": f"gpu:{gpus}" if gpus else None,
    }  # fmt: skip
    words += [f"--{name}={value}" for name, value in asked.items() if value is not None]
    try:
        answer = _ask([*words, str(script)])
        job = re.match(r"\d+", answer)
        if job is None:
            raise BadInput(f"sbatch answered {answer[:200]!r}, which names no job.")
    except BadInput:
        shutil.rmtree(made.folder)  # should Slurm have taken it after all, it finds nothing to do
        raise
    (run.folder / "session.json").unlink(missing_ok=True)
    told = {"v": 1, "job": job[0], "array": slurm.array_size, "t": time.time()}
    write_json(made.folder / "submitted.json", told)
    total = len(run.plan.stages)
    cached = sum(run.store.has(key) for key in run.plan.stages)
    with EventWriter(run.events, "", 0) as events:
        events.emit(
            "start", run=run.id, stages=total, cached=cached, todo=total - cached,
            slots=slurm.array_size * (share.workers or 1), job=job[0],
        )  # fmt: skip
    return made


def _script(run: Run, made: Submission, slurm: Slurm, share: Resources) -> str:
    """The batch script. Everything in it that came from a person is checked or quoted."""
    words = [
        *program("engine.jobs.backends.slurm_job"), "--home", str(run.home.root),
        "--run", run.id, "--submission", made.folder.name, "--idle", str(slurm.idle * 60),
        "--resources", json.dumps(asdict(share)),
    ]  # fmt: skip
    # exec: Slurm's signal must reach Python itself, and until that listens, kill nobody.
    lines = ["#!/bin/sh", *slurm.extra, "trap '' TERM", f"exec {shlex.join(words)}", ""]
    return "\n".join(lines)


def queue(submission: Submission, *, hasty: bool = False) -> list[Queued]:
    """What Slurm says of its jobs that have not ended. Raises BadInput without Slurm."""
    job = submission.facts().get("job")
    if not isinstance(job, str):
        return []
    try:
        answer = _ask(
            ["squeue", "--noheader", "--array", "--format=%i|%T|%R", f"--jobs={job}"], hasty=hasty
        )
    except BadInput as error:
        if "Invalid job id" in str(error):  # all have ended, and Slurm has forgotten them
            return []
        raise
    lines = (line.split("|", 2) for line in answer.splitlines())
    return [Queued(*words) for words in lines if len(words) == 3]


def ask_about(run: Run) -> str:
    """Why a run does not begin or go on, in one line; "" where it does not wait in Slurm's queue.

    Slurm may have lost what our files take for queued: a crash can cost it a requeue. That is written
    down, and from then on the run is lost. Raises BadInput if Slurm does not answer.
    """
    found = submissions(run.folder)
    if run.state() != "queued" or not found or not found[-1].facts():
        return ""
    known = queue(found[-1], hasty=True)
    waiting = [job for job in known if job.state == "PENDING"]
    if waiting:
        reasons = Counter(job.reason.strip("()") for job in waiting)
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"{WAITS}: {strip_control(told)}"
    if not known and run.state() == "queued":  # nor did one begin meanwhile
        found[-1].forget()
    return ""


def stop(run: Run, kill: bool = False) -> None:
    """Ask the jobs of a run to stop at their next step, or have Slurm kill them; what still waits in
    Slurm's queue is cancelled. Raises BadInput."""
    Order.STOP.give(run.folder)
    for submission in submissions(run.folder):
        job = submission.facts().get("job")
        if not isinstance(job, str) or not queue(submission):
            continue
        if kill:
            _ask(["scancel", "--signal=KILL", "--full", job])
            _ask(["scancel", job])
        else:
            _ask(["scancel", "--state=PENDING", job])
            # Its order is in the folder, too: the signal only spares the wait.
            _ask(["scancel", "--state=RUNNING", "--batch", "--signal=TERM", job])


def cancel_waiting(submission: Submission) -> None:
    """The run has ended: jobs that have not begun would find nothing to do. Raises BadInput."""
    job = submission.facts().get("job")
    if isinstance(job, str):
        _ask(["scancel", "--state=PENDING", job], hasty=True)


def requeue() -> None:
    """Start this very job again later: it was asked to make room, not to give up. Slurm does not do
    that for a job that ends in good order. Raises BadInput, also when somebody cancelled it: Slurm
    would start even that again."""
    job = os.environ["SLURM_JOB_ID"]
    state = _ask(["squeue", "--noheader", "--format=%T", f"--jobs={job}"])
    if state != "RUNNING":  # with a grace before pre-emption or the time limit, it still is
        raise BadInput(f"job {job} was cancelled ({state.lower() or 'unknown to Slurm'})")
    _ask(["scontrol", "requeue", job])


def _ask(words: list[str], *, hasty: bool = False) -> str:
    """What one of Slurm's commands prints. Raises BadInput with its own words."""
    problem = ""
    patience = HASTE if hasty else PATIENCE
    for attempt in range(1 if hasty else TRIES):
        time.sleep(2.0 * (attempt > 0))
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=patience, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise BadInput(
                f'compute.backend = "slurm": there is no `{words[0]}` here. Run this on a login '
                'node of a cluster, or set compute.backend = "local".'
            ) from None
        except subprocess.TimeoutExpired:
            problem = f"no answer within {patience:g} s"
            continue
        if done.returncode == 0:
            return done.stdout.strip()
        problem = " ".join(done.stderr.split())[:500] or f"exit code {done.returncode}"
        if "Unable to contact slurm controller" not in problem:
            break
        if words[0] == "sbatch":  # it may have been taken all the same: not twice
            break
    raise BadInput(f"{words[0]}: {problem}")
