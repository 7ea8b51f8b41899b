"""Steering runs from anywhere: stop, pause, go on, try again. All through files and signals.

A supervisor on this machine is signalled; one elsewhere finds an order in the run's folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from engine.jobs.home import write_json
from engine.jobs.lease import Identity, holder, is_alive, process_identity, start_time
from engine.jobs.orders import Order
from engine.jobs.runs import Run, RunState
from engine.spec.errors import BadInput

GRACE = 25.0  # seconds to stop in: a supervisor gives its workers 15 of them
DYING = 5.0  # seconds for what was killed to be gone
POLL = 0.02


def supervisor_of(run: Run) -> Identity:
    """The living supervisor of a run. Raises BadInput if there is none, or it is just ending."""
    if not run.supervised():
        raise BadInput(f"run {run.id} is not running{_but(run)}.")
    try:
        identity = Identity.parse(run._json("supervisor.json"))
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"run {run.id}: supervisor.json does not say who supervises it.") from None
    if not is_alive(identity):
        raise BadInput(f"run {run.id}: its supervisor is just ending.")
    return identity


def _but(run: Run) -> str:
    if run.imported is not None:
        return f": it was computed on {run.imported['host']} and imported"
    return f": it is {run.state()}"


def _is_here(identity: Identity) -> bool:
    return identity[:2] == process_identity()[:2]


# --- stopping ------------------------------------------------------------------------------------


def who_works(run: Run) -> str:
    """Who supervises a run, in words. Raises BadInput if nobody does."""
    if run.supervised() and not run.supervised_here():
        return "its jobs on the cluster"
    identity = supervisor_of(run)
    return f"pid {identity.pid}" if _is_here(identity) else f"its supervisor on {identity.host}"


def ask_to_stop(run: Run) -> str:
    """Ask a run to stop at the next step of its stages; whom we asked, in words. Raises BadInput."""
    who = who_works(run)
    if not run.supervised_here():
        from engine.jobs.backends import slurm

        slurm.stop(run)
        return who
    identity = supervisor_of(run)
    if _is_here(identity):
        _signal(run, identity.pid, signal.SIGTERM)
    else:
        Order.STOP.give(run.folder)
    return who


def stop(run: Run, grace: float = GRACE) -> str:
    """Ask a run to stop, and after `grace` seconds kill what is left of it; how it ended, in words.

    Of a run whose supervisor is gone, what still computes is stopped. What was not finished goes on
    later from the store and the last checkpoint. Raises BadInput if nothing is under way.
    """
    if not run.supervised():
        return _stop_orphans(run, grace)
    asked = ask_to_stop(run)
    if _until(lambda: not run.supervised(), grace):
        return f"stopped: {run.state()}"
    try:
        kill(run)
    except BadInput:
        if not run.supervised():
            return f"stopped: {run.state()}"  # at the last moment
        return f"asked {asked} to stop, which it has not yet"
    return f"killed: it did not stop within {grace:g} s"


def _stop_orphans(run: Run, grace: float) -> str:
    orphans = workers_of(run)
    if not orphans:
        raise BadInput(f"run {run.id} is not running{_but(run)}.")
    for one in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    polite = _until(lambda: not any(map(is_alive, orphans)), grace)
    _kill_groups(orphans)
    close(run, "stopped", "asked to stop, its supervisor being gone")
    return "stopped" if polite else f"killed: it did not stop within {grace:g} s"


def kill(run: Run) -> None:
    """Kill a run's supervisor and the process groups of its workers, or its jobs, all at once. Raises
    BadInput if it is supervised on another machine, or not at all."""
    if run.supervised() and not run.supervised_here():
        from engine.jobs.backends import slurm

        slurm.stop(run, kill=True)
        close(run, "stopped", "killed by request")
        return
    identity = supervisor_of(run)
    if not _is_here(identity):
        raise BadInput(f"run {run.id} is supervised on {identity.host}: kill it there.")
    # A stopped supervisor hires nobody while we look who works for it.
    _signal(run, identity.pid, signal.SIGSTOP)
    groups = [*_children(identity.pid), *workers_of(run)]
    _signal(run, identity.pid, signal.SIGKILL)
    _kill_groups(groups)
    _until(lambda: not run.supervised(), DYING)
    close(run, "stopped", "killed by request")


def _signal(run: Run, pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise BadInput(f"run {run.id} has just ended.") from None
    except PermissionError:
        raise BadInput(f"run {run.id} belongs to another user (pid {pid}).") from None


def workers_of(run: Run) -> list[Identity]:
    """Who on this machine computes a stage for this run now, its supervisor alive or not.

    An attempt that has not ended is told in the run's folder; the lease of its stage says whose it
    is. Each is the leader of a process group. Nobody is known of a run whose plan cannot be read.
    """
    try:
        keys = {key[:16]: key for key in run.plan.stages}
    except BadInput:
        return []
    found = set()
    for folder in (run.folder / "attempts").glob("*.*"):
        prefix, _, attempt = folder.name.partition(".")
        if prefix not in keys or (folder / "exit.json").exists():
            continue
        held = holder(run.store.leases, keys[prefix])
        if held is not None and str(held.attempt) == attempt and _is_here(held.identity):
            found.add(held.identity)
    return sorted(found)


def workers_left(run: Run) -> bool:
    """Whether somebody still computes for a run without a supervisor."""
    return not run.supervised() and run.imported is None and bool(workers_of(run))


def _children(pid: int) -> list[Identity]:
    """The processes that `pid` has started, also those that have taken no stage yet."""
    import psutil

    here = process_identity()
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            start = start_time(child.pid)
            if start is not None:
                found.append(Identity(here.host, here.boot_id, child.pid, start))
    return found


def _kill_groups(leaders: list[Identity]) -> None:
    for one in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The pid may be somebody else's by now; and a group of its own is what a worker has.
            if is_alive(one) and os.getpgid(one.pid) == one.pid != os.getpgid(0):
                os.killpg(one.pid, signal.SIGKILL)
    _until(lambda: not any(map(is_alive, leaders)), DYING)


def close(run: Run, outcome: RunState, reason: str) -> None:
    """Say how a run ended that no session says it of, unless one lives."""
    lock = os.open(run.folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = {"v": 1, "outcome": outcome, "reason": reason, "t": time.time()}
        write_json(run.folder / "session.json", told)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


# --- pausing and going on ------------------------------------------------------------------------


def pause(run: Run) -> None:
    """Hand out nothing new: what is under way ends, then the supervisor does, and its devices are
    free. Raises BadInput if the run is not running."""
    if not run.supervised():
        raise BadInput(f"run {run.id} is not running{_but(run)}.")
    Order.PAUSE.give(run.folder)


def resume(run: Run) -> subprocess.Popen[bytes] | None:
    """Go on from the store, with what failed, too: the new supervisor, or None if the one that was
    pausing goes on or a cluster does it. Raises BadInput if that cannot work here: it is running, it
    was imported, files cannot be read, the device is not there, or other versions are than those that
    its keys were made with."""
    from engine.jobs.backends import dispatch
    from engine.jobs.devices import Resources
    from engine.jobs.versions import check_versions

    if run.imported is not None:
        raise BadInput(
            f"run {run.id} was computed on {run.imported['host']} and imported. To compute it here: "
            f"`chelate presets save {run.id} mine.toml`, then `chelate run mine.toml`."
        )
    paused = Order.PAUSE.take(run.folder)
    dispatch.look_again(run)
    if _lives(run):
        if paused:
            return None
        raise BadInput(f"run {run.id} is running.")
    try:
        compute = run.experiment.compute
        check_versions(run)
        kind = str(run.facts.get("device") or "cpu")
        # The plan's keys are those of a kind of device; the preset may have been overruled.
        wanted = compute.device if compute.device.startswith(kind) else kind
        return dispatch.start(run, compute, Resources.of(compute, wanted))
    except BadInput:
        if paused:  # it stays what it was
            Order.PAUSE.give(run.folder)
        raise


def retry(run: Run) -> tuple[int, subprocess.Popen[bytes] | None]:
    """Compute what failed again: (how many stages, the new supervisor if there is one). Of a run that
    is going on they come back into its queue. Raises BadInput as `resume` does, and if nothing
    failed."""
    failed = len(failures(run))
    if run.imported is None:
        if not failed:
            raise BadInput(f"run {run.id}: no stage of it has failed.")
        if _lives(run):
            Order.RETRY.give(run.folder)
            # Should it end without having seen that, it is ours to go on.
            if _lives(run) or not Order.RETRY.given(run.folder):
                return failed, None
    return failed, resume(run)


def failures(run: Run) -> list[dict[str, Any]]:
    """exit.json of the stages that have failed and have no result."""
    return [
        told
        for key, told in run.exits().items()
        if told.get("outcome") == "failed" and not run.store.has(key)
    ]


def started(run: Run, process: subprocess.Popen[bytes], patience: float = 20.0) -> bool:
    """Wait until a supervisor that was just started has taken the run; False if it did not."""
    _until(lambda: run.supervised() or process.poll() is not None, patience)
    return run.supervised() or run.session().get("outcome") is not None


def _lives(run: Run) -> bool:
    """Whether a session goes on. One that has said how it ended is waited for: it may go on after
    all, or be gone."""
    ended = run.folder / "session.json"
    _until(lambda: not (run.supervised() and ended.exists()), DYING)
    return run.supervised()


def _until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True
