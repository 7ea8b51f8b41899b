"""`resume`, `stop`, `pause`, `retry`, `rm`: telling a run what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from console.output import complain, say, say_json
from engine.jobs import control, runs, trash
from engine.jobs.home import Home, resolve_home
from engine.jobs.runs import Run
from engine.jobs.survey import survey
from engine.spec.errors import BadInput


def found(run_id: str, home: Path | None) -> Run:
    return runs.find(Home(resolve_home(home)), run_id)


def resume_run(run_id: str, home: Path | None, as_json: bool) -> None:
    run = found(run_id, home)
    if run.imported is None and run.state() == "done" and survey(run.plan, run.store).complete:
        _tell(run, "done: there is nothing left to do", as_json)
        return
    process = control.resume(run)
    make_sure(run, process)
    _tell(run, "goes on", as_json)


def stop_run(run_id: str, home: Path | None, grace: float | None, as_json: bool) -> None:
    run = found(run_id, home)
    if not as_json and run.supervised():
        complain(f"chelate: stopping {run.id} …")
    _tell(run, control.stop(run, control.GRACE if grace is None else grace), as_json)


def pause_run(run_id: str, home: Path | None, as_json: bool) -> None:
    run = found(run_id, home)
    control.pause(run)
    _tell(run, "pausing: what is under way ends first, nothing new begins", as_json)


def retry_run(run_id: str, home: Path | None, as_json: bool) -> None:
    run = found(run_id, home)
    count, process = control.retry(run)
    make_sure(run, process)
    _tell(run, f"{count} failed stage{'s' * (count > 1)} to be computed again", as_json)


def remove_run(run_id: str, home: Path | None, yes: bool) -> None:
    """Raises BadInput where nobody can be asked and nobody said yes."""
    run = found(run_id, home)
    if control.workers_left(run):
        raise BadInput(f"run {run.id}: its workers are still at it: `chelate stop {run.id}` first.")
    own = run.imported is not None
    goes = "its results go with it" if own else "its results stay in the store until `chelate gc`"
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise BadInput(f"rm {run.id}: there is no terminal to ask on; --yes removes it.")
        sys.stderr.write(
            f"Remove run {run.id} ({run.state()}): plan, events and logs; {goes}? [y/N] "
        )
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise BadInput(f"{run.id} stays.")
    trash.delete(run)
    say(f"run {run.id} removed; {goes}.")


def make_sure(run: Run, process: subprocess.Popen[bytes] | None) -> None:
    """Raises BadInput if the supervisor that was just started did not get as far as its run."""
    if process is not None and not control.started(run, process):
        raise BadInput(
            f"run {run.id}: its supervisor did not start; see {run.folder / 'supervisor.log'}."
        )


def _tell(run: Run, how: str, as_json: bool) -> None:
    if as_json:
        say_json({"run": run.id, "status": run.state(), "reason": run.reason(), "told": how})
    else:
        say(f"run {run.id}: {how}")
