"""Starting a run from a plan: for the console, without looking on."""

from __future__ import annotations

from console.planning import Planned
from engine.jobs import runs
from engine.jobs.backends import dispatch
from engine.jobs.home import Home


def launch(home: Home, planned: Planned, name: str, origin: str) -> str:
    """The id of the run, which is going on (or done, when the store had everything). Raises
    BadInput, OSError."""
    run = runs.create(home.create(), name, planned.experiment, planned.plan, planned.kind, origin)
    if not run.supervised():
        dispatch.start(run, planned.experiment.compute, planned.resources)
    return run.id
