"""A session of a run on this machine: its supervisor as a process that nobody's terminal can end.

It lives in its own session, so a dropped line or a closed console does not touch it. One at a time: it
holds a lock on the run as long as it lives.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from chelate.pin import program
from engine.jobs.devices import Resources
from engine.jobs.home import Home, write_json
from engine.jobs.lease import process_identity
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.jobs.supervisor import Supervisor, supervise
from engine.spec.errors import BadInput


def start(run: Run, resources: Resources) -> subprocess.Popen[bytes]:
    """Start the run's supervisor in a session of its own; what it prints goes to a file. Raises
    BadInput if it cannot be started, or the run is gone."""
    command = [
        *program("engine.jobs.session"), "--home", str(run.home.root),
        "--run", run.id, "--resources", json.dumps(asdict(resources)),
    ]  # fmt: skip
    try:
        with (run.folder / "supervisor.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    except OSError as error:
        if not run.folder.exists():
            raise BadInput(f"run {run.id} was removed meanwhile.") from None
        limit = " (there may be a limit on processes: `ulimit -u`)" * (error.errno == errno.EAGAIN)
        raise BadInput(
            f"run {run.id}: its supervisor cannot be started: {error.strerror}{limit}."
        ) from None


def session(run: Run, resources: Resources, asked: list[int]) -> bool:
    """Work through a run, then tell how that ended; whether it is over: an order to go on may have
    come at the last moment. `asked`: signals that came while nobody worked."""
    ended = run.folder / "session.json"
    ended.unlink(missing_ok=True)

    def ready(supervisor: Supervisor) -> None:
        listen(supervisor.stop)
        if asked:
            supervisor.stop()

    def tell(outcome: str, reason: str) -> None:
        listen(lambda number, _: asked.append(number))
        Order.STOP.take(run.folder)
        if outcome != "paused":
            Order.PAUSE.take(run.folder)
        write_json(ended, {"v": 1, "outcome": outcome, "reason": reason, "t": time.time()})

    outcome = supervise(run, resources, ready=ready, tell=tell)
    if outcome == "paused":
        return Order.PAUSE.given(run.folder)
    return outcome == "stopped" or not Order.RETRY.given(run.folder)


def listen(handler: Callable[[int, FrameType | None], object]) -> None:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--resources", type=json.loads, required=True)
    options = parser.parse_args()
    run = Run(Home(options.home), options.run)
    asked: list[int] = []  # from here on: who sees that we live may ask us to stop
    listen(lambda number, _: asked.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(run.folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):  # an onlooker's probe holds the lock for microseconds
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.01)
    else:
        return 0  # somebody supervises this run already
    write_json(run.folder / "supervisor.json", {"v": 1, **process_identity()._asdict()})
    while not session(run, Resources(**options.resources), asked):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
