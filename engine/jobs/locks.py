"""Locks of files that somebody else may hold: waited for a while, then told who it is.

Who holds one stands in it, a line for each process that has taken it; which of them have it still,
the kernel says. Another machine's can only be guessed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.spec.errors import BadInput

PATIENCE = 15.0  # seconds until who waits gives up: what these locks are held for takes less
QUIET = 1.0  # seconds before it says that it waits
POLL = 0.02
LARGEST = 1 << 14  # bytes of lines; then they begin anew

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """By whom a lock is held, as far as can be found out. `since` in epoch seconds, 0 if unknown."""

    pid: int
    host: str  # "" for this machine
    since: float
    who: str = ""  # "of ann (`chelate gc`)"
    stopped: bool = False

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since)) if self.since else ""
        how = ", which is stopped" if self.stopped else ""
        return f"process {self.pid}{where}{self.who}{how}{f', since {since}' if since else ''}"

    @property
    def anonymous(self) -> str:
        """The same without whose it is: for what may be passed on."""
        return str(replace(self, who=""))

    @property
    def remedy(self) -> str:
        if self.host:
            return f"look for it on {self.host}"
        if self.stopped:
            return f"`kill -CONT {self.pid}` lets it go on, `kill -KILL {self.pid}` ends it"
        return f"wait for it, or end it: `kill {self.pid}`"


@contextlib.contextmanager
def holding(path: Path, *, alone: bool) -> Iterator[None]:
    """Hold the lock of a file, with others who do not want it `alone`. Raises BadInput if it cannot
    be opened, and after PATIENCE, naming who has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadInput(f"{path}: cannot be opened: {error.strerror}.") from None
    try:
        _take(descriptor, path, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, mode: int) -> None:
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise BadInput(f"{path}: cannot be locked: {error.strerror}.") from None
        waited = time.monotonic() - began
        if waited > PATIENCE:
            held = holders(descriptor)
            who = "; ".join(map(str, held)) or "somebody, perhaps on another machine"
            remedy = (
                "; ".join(one.remedy for one in held) or "see who uses this home, and try again"
            )
            raise BadInput(f"{path} is held by {who}. Gave up after {PATIENCE:g} s: {remedy}.")
        if waited > QUIET and not told:
            told = True
            who = "; ".join(map(str, holders(descriptor))) or "somebody"
            _log.warning("chelate: waiting for %s, held by %s …", path, who)
        time.sleep(POLL)


def _sign(descriptor: int) -> None:
    """Say who holds it. What cannot be said is not needed."""
    line = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "t": time.time()}) + "\n"
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_size > LARGEST:
            os.ftruncate(descriptor, 0)
        os.write(descriptor, line.encode())


def holders(descriptor: int) -> list[Held]:
    """Who else holds the lock of an open file: those of this machine, else the last one of another
    that took it."""
    signed = _signed(descriptor)
    inode = os.fstat(descriptor).st_ino
    here = [_described(pid, signed) for pid in sorted(_pids(inode) - {os.getpid()})]
    if here:
        return here
    elsewhere = [(pid, host, t) for (pid, host), t in signed.items() if host]
    return [Held(*max(elsewhere, key=lambda one: one[2]))] if elsewhere else []


def _signed(descriptor: int) -> dict[tuple[int, str], float]:
    """(pid, host, "" for this one) → when it took the lock last."""
    found = {}
    here = socket.gethostname()
    for line in os.pread(descriptor, 2 * LARGEST, 0).splitlines():
        try:
            told = json.loads(line)
            host = "" if told["host"] == here else str(told["host"])[:100]
            found[int(told["pid"]), host] = float(told["t"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    return found


def _pids(inode: int) -> set[int]:
    """Processes with a flock on a file of this number, as Linux lists them."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            found.add(int(words[4]))
    return found


def described(pid: int, host: str, since: float) -> Held:
    """A process that holds something since a time, epoch seconds, as far as can be seen from here."""
    if host != socket.gethostname():
        return Held(pid, host, since)
    return _described(pid, {(pid, ""): since})


def _described(pid: int, signed: dict[tuple[int, str], float]) -> Held:
    import psutil

    from engine.jobs.events import strip_control

    since, who, stopped = signed.get((pid, ""), 0.0), "", False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        words = [Path(word).name or word for word in process.cmdline()[:4]]
        who = strip_control(f" of {process.username()} (`{' '.join(words)[:60]}`)")
        stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        since = max(since, process.create_time())  # an older line is of another of this number
    return Held(pid, "", since, who, stopped)
