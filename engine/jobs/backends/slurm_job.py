"""One job of a run on Slurm: a supervisor on the node it was given, beside others on other nodes.

It ends when nothing of the run is left to do. When Slurm wants the node back (pre-emption, the time
limit) the stages under way stop at their next step and the job queues itself again; the next start
goes on from the store.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from engine.jobs.backends import slurm
from engine.jobs.backends.jobs import Others, Sign, Start, Submission, begin_start
from engine.jobs.devices import Resources
from engine.jobs.home import Home
from engine.jobs.orders import Order
from engine.jobs.post import Post
from engine.jobs.runs import Run
from engine.jobs.supervisor import Supervisor, supervise
from engine.spec.errors import BadInput

HELD_WAIT = 5.0  # seconds before asking again for a stage that another job computes


def work(run: Run, resources: Resources, start: Start, post: Post) -> str:
    """Compute what there is to compute; returns the outcome, which the start's folder tells, too."""

    def ready(supervisor: Supervisor) -> None:
        signal.signal(signal.SIGTERM, supervisor.stop)
        signal.signal(signal.SIGINT, supervisor.stop)

    def tell(outcome: str, reason: str) -> None:
        if outcome != "stopped" or Order.STOP.given(run.folder):
            start.end(outcome, reason)

    return supervise(run, resources, post, ready=ready, tell=tell)


def again(run: Run, start: Start) -> None:
    """Slurm, not a person, made us stop: queue this job once more."""
    start.end("requeued", "Slurm wanted the node back")
    os.utime(run.folder)
    try:
        slurm.requeue()
    except BadInput as error:
        start.end("stopped", f"Slurm does not start the job again: {error}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--submission", required=True)
    parser.add_argument("--idle", type=float, required=True)
    parser.add_argument("--resources", type=json.loads, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = Run(Home(options.home), options.run)
    submission = Submission(run.folder / "slurm" / options.submission)
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    start = begin_start(submission, job, os.environ.get("SLURM_RESTART_COUNT", "0"))
    os.utime(run.folder)  # who lists runs sees that something changed
    post = Post(
        start.folder, job, socket.gethostname(), HELD_WAIT, options.idle,
        Others(submission, start),
    )  # fmt: skip
    with Sign(start):
        outcome = work(run, Resources(**options.resources), start, post)
        if outcome == "stopped" and not Order.STOP.given(run.folder):
            again(run, start)
        elif outcome in ("done", "failed", "paused"):
            with contextlib.suppress(BadInput):
                slurm.cancel_waiting(submission)
    os.utime(run.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
