"""Deleted runs: they lie in <home>/trash/<id>.<epoch ms>/ for UNDO seconds and longer, until somebody
sweeps. Results are in the store and stay there; only an imported run's go with it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from engine.jobs.home import Home, make_private
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

UNDO = 15.0  # seconds in which a deletion can be undone for certain
_TRASHED = re.compile(r"(?P<id>.+)\.(?P<ms>\d{10,})")


def delete(run: Run) -> Path:
    """Move a run into the trash and return where to. Raises BadInput if it is running, is gone, or
    cannot be moved."""
    target = run.home.trash / f"{run.id}.{time.time_ns() // 1_000_000}"
    with run.home.plans(alone=True):  # not while somebody writes it
        if run.supervised():
            raise BadInput(f"run {run.id} is running: stop it first.")
        try:
            make_private(run.home.trash)
            run.folder.rename(target)
        except FileNotFoundError:
            raise BadInput(f"run {run.id} is gone already.") from None
        except OSError as error:
            raise BadInput(f"run {run.id} cannot be deleted: {error.strerror}.") from None
    return target


def restore(home: Home, trashed: Path) -> Run:
    """Bring a run back from the trash. Raises BadInput if it is gone or its place is taken."""
    match = _TRASHED.fullmatch(trashed.name)
    if match is None:
        raise BadInput(f"{trashed.name} is not in the trash.")
    run = Run(home, match["id"])
    with home.plans():
        if run.folder.exists():
            raise BadInput(f"run {run.id} exists again.")
        try:
            trashed.rename(run.folder)
        except OSError:
            raise BadInput(f"run {run.id} is no longer in the trash.") from None
    return run


def deleted(home: Home) -> Iterator[tuple[Path, float]]:
    """(folder, seconds since it was deleted) of every run in the trash."""
    with contextlib.suppress(OSError):
        for path in home.trash.iterdir():
            match = _TRASHED.fullmatch(path.name)
            if match is not None:
                yield path, time.time() - int(match["ms"]) / 1000


def sweep(home: Home, older: float = UNDO) -> int:
    """Remove for good what was deleted more than `older` seconds ago; returns how many."""
    gone = [path for path, age in deleted(home) if age > older]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return len(gone)
