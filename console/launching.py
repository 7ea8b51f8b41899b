"""Starting a run from a plan, without looking on."""

from __future__ import annotations

import subprocess

from console.planning import Planned
from engine.jobs import control, runs
from engine.jobs.backends import dispatch
from engine.jobs.home import Home
from engine.jobs.machines import check_one_kind
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.jobs.survey import survey


def created(home: Home, planned: Planned, name: str, origin: str) -> Run:
    """The run of a plan in a home that exists. Raises BadInput where `compute.one_kind` forbids it."""
    check_one_kind(planned.plan, Store(home.store), planned.experiment.compute, planned.resources)
    return runs.create(home, name, planned.experiment, planned.plan, planned.kind, origin)


def begin(
    home: Home, planned: Planned, name: str, origin: str
) -> tuple[Run, subprocess.Popen[bytes] | None]:
    """The run, which is going on, and its new supervisor: None when the store had everything, or a
    cluster has it. Raises BadInput, OSError."""
    run = created(home.create(), planned, name, origin)
    if survey(run.plan, run.store).complete:
        finish(run)
        return run, None
    return run, dispatch.start(run, planned.experiment.compute, planned.resources)


def finish(run: Run) -> None:
    """Of a run that the store has everything of: it is done, whatever became of its sessions."""
    if run.state() not in ("done", "running"):
        control.close(run, "done", "")
