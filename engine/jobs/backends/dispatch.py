"""Where the work of a run is done: by a supervisor on this machine, or by jobs of a cluster."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from engine.jobs.devices import Resources
from engine.jobs.machines import check_one_kind, renew_claim
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from engine.spec.experiment import Compute


def start(run: Run, compute: Compute, resources: Resources) -> subprocess.Popen[bytes] | None:
    """Have a run computed, what failed in it too; the new supervisor, or None where a cluster does it
    (one that has it in its queue already does not get it twice). One that pauses goes on. Raises
    BadInput."""
    if compute.backend != "slurm":
        resources.slots()  # what is not there is said now, not in a file
    if compute.one_kind:
        check_one_kind(run.plan, run.store, compute, resources)
    Order.PAUSE.take(run.folder)
    look_again(run)
    if not run.supervised():
        renew_claim(run)
        for order in Order:  # given to an earlier session
            order.take(run.folder)
        run.forget_failures()
    if compute.backend == "slurm":
        from engine.jobs.backends.slurm import submit

        if not run.supervised():
            submit(run, compute.slurm, resources)
        return None
    from engine.jobs.session import start as start_here

    return start_here(run, resources)


def look_again(run: Run) -> str:
    """Why a run waits for a cluster, as that cluster says; "" if it does not wait, or nobody answers.
    What the cluster has lost is lost from then on."""
    if run.state() != "queued" or not (run.folder / "slurm").exists():
        return ""
    from engine.jobs.backends.slurm import ask_about

    with contextlib.suppress(BadInput):
        return ask_about(run)
    return ""
