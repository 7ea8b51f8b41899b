"""Acting on runs from anywhere: stop, go on, delete, bring back. All through files and signals.

A deleted run lies in <home>/trash/<id>.<epoch ms>/ for UNDO seconds and longer, until somebody
sweeps. Its results are in the store and stay there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from engine.jobs.home import Home, make_private
from engine.jobs.lease import Identity, is_alive, process_identity
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

UNDO = 15.0  # seconds in which a deletion can be undone for certain
_TRASHED = re.compile(r"(?P<id>.+)\.(?P<ms>\d{10,})")


def supervisor_of(run: Run) -> Identity:
    """The living supervisor of a run. Raises BadInput if there is none, or none on this machine."""
    if not run.supervised():
        raise BadInput(f"run {run.id} is not running.")
    try:
        identity = Identity.parse(run._json("supervisor.json"))
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"run {run.id}: supervisor.json does not say who supervises it.") from None
    if identity[:2] != process_identity()[:2]:
        raise BadInput(f"run {run.id} is supervised on {identity.host}: stop it there.")
    if not is_alive(identity):
        raise BadInput(f"run {run.id}: its supervisor is just ending.")
    return identity


def stop(run: Run, kill: bool = False) -> int | None:
    """Ask a run to stop at the next step of its stages, or kill its supervisor (then the stages
    under way still end) or its jobs. Returns the supervisor's pid, None on a cluster. Raises
    BadInput."""
    if run.supervised() and not run.supervised_here():
        from engine.jobs.backends import slurm

        slurm.stop(run, kill)
        return None
    identity = supervisor_of(run)
    try:
        os.kill(identity.pid, signal.SIGKILL if kill else signal.SIGTERM)
    except ProcessLookupError:
        raise BadInput(f"run {run.id} has just ended.") from None
    except PermissionError:
        raise BadInput(f"run {run.id} belongs to another user (pid {identity.pid}).") from None
    return identity.pid


def resume(run: Run) -> subprocess.Popen[bytes] | None:
    """Start a supervisor, or jobs on the cluster (then None), which go on from the store. Raises
    BadInput if that cannot work here: it is going on, files cannot be read, or the device is not
    there."""
    from engine.jobs.backends.dispatch import start
    from engine.jobs.devices import Resources

    if run.supervised():
        raise BadInput(f"run {run.id} is running.")
    compute = run.experiment.compute
    kind = str(run.facts.get("device") or "cpu")
    # The plan's keys are those of a kind of device; the preset may have been overruled.
    wanted = compute.device if compute.device.startswith(kind) else kind
    return start(run, compute, Resources.of(compute, wanted))


def delete(run: Run) -> Path:
    """Move a run into the trash and return where to. Raises BadInput if it is running."""
    if run.supervised():
        raise BadInput(f"run {run.id} is running: stop it first.")
    trash = run.home.root / "trash"
    make_private(trash)
    target = trash / f"{run.id}.{time.time_ns() // 1_000_000}"
    try:
        run.folder.rename(target)
    except OSError as error:
        raise BadInput(f"run {run.id} cannot be deleted: {error.strerror}.") from None
    return target


def restore(home: Home, trashed: Path) -> Run:
    """Bring a run back from the trash. Raises BadInput if it is gone or its place is taken."""
    match = _TRASHED.fullmatch(trashed.name)
    if match is None:
        raise BadInput(f"{trashed.name} is not in the trash.")
    run = Run(home, match["id"])
    if run.folder.exists():
        raise BadInput(f"run {run.id} exists again.")
    try:
        trashed.rename(run.folder)
    except OSError:
        raise BadInput(f"run {run.id} is no longer in the trash.") from None
    return run


def sweep_trash(home: Home, older: float = UNDO) -> int:
    """Remove for good what was deleted more than `older` seconds ago; returns how many."""
    removed = 0
    with contextlib.suppress(OSError):
        for path in (home.root / "trash").iterdir():
            match = _TRASHED.fullmatch(path.name)
            if match is not None and time.time() - int(match["ms"]) / 1000 > older:
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
    return removed
