"""Leases: at most one process works on a stage, and a dead one never blocks it.

A lease is a file `leases/<key>.json` naming its holder, and a flock on that very file. The kernel
drops the flock when the last process that inherited it is gone, so on one machine a free flock
means that the holder, and all its children, are dead: no time-outs, no pid reuse, no stale locks.
Across machines flock may mean nothing (NFS), so there a lease lives as long as its heartbeat, the
file's mtime, is younger than TTL; clocks further apart than that cost a second computation, never
a wrong result, because commits are fenced (store.py).

Three decisions keep the races away:
- The file is written and locked under another name and then appears by link (the first time:
  exclusive) or rename (take-over). Whoever sees it sees it whole and locked.
- A take-over puts a new file in place. The old holder, if it does wake up, keeps a descriptor of
  the old one: its heartbeats touch nothing, and `still_ours` tells it so.
- A lease file is never removed, so that `attempt` only grows. Release sets its mtime to 0. It does
  not wait for the disk: after a power cut a number may come again, which only mixes two logs.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.jobs.home import make_private
from engine.spec.errors import BadInput

TTL = 60.0  # seconds without a heartbeat after which another machine's lease is up for grabs
# A `holder` probe or a rival that is about to lose keeps the flock for microseconds.
RETRY_DELAYS = (0.0, 0.002, 0.005, 0.01, 0.02)
RELEASED = 0  # mtime of a lease that was given back

_KEY = re.compile(r"[0-9a-f]{64}")


def is_key(word: str) -> bool:
    return _KEY.fullmatch(word) is not None


def check_key(key: str) -> str:
    """`key` itself; BadInput unless it is 64 hexadecimal digits (so it can climb no path)."""
    if not is_key(key):
        raise BadInput(f"not a stage key: {key!r} (64 hexadecimal digits)")
    return key


class Identity(NamedTuple):
    """One process, told apart from later ones with the same pid and from other machines'."""

    host: str
    boot_id: str
    pid: int
    start_time: int  # clock ticks since boot

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Identity:
        """From a JSON object. Raises ValueError, TypeError, KeyError or OverflowError."""
        host, boot_id = str(raw["host"]), str(raw["boot_id"])
        return cls(host, boot_id, int(raw["pid"]), int(raw["start_time"]))


def process_identity() -> Identity:
    pid = os.getpid()
    return Identity(socket.gethostname(), _boot_id(), pid, start_time(pid) or 0)


def is_alive(identity: Identity) -> bool:
    """False only if that process is surely gone: of another machine's we cannot say."""
    if identity.host != socket.gethostname():
        return True
    if identity.boot_id != _boot_id():
        return False
    return start_time(identity.pid) == identity.start_time


@dataclass(frozen=True)
class Holder:
    """What a lease file says: who holds it, since when (`t`, epoch seconds), which attempt."""

    host: str
    boot_id: str
    pid: int
    start_time: int
    attempt: int
    token: str
    t: float

    @property
    def identity(self) -> Identity:
        return Identity(self.host, self.boot_id, self.pid, self.start_time)

    @property
    def shares_our_kernel(self) -> bool:
        """Then flock decides. The same host with another boot id: it was restarted since."""
        return self.host == socket.gethostname() or self.boot_id == _boot_id()


class Lease:
    """The right to work on `key`. Made by `acquire` only; usable as a context manager.

    The flock belongs to the open file: children that inherit `fileno()` (any fork; Popen with
    pass_fds) keep the lease alive with us. Methods may be called from any thread.
    """

    def __init__(self, path: Path, descriptor: int, record: Holder) -> None:
        self.key = path.stem
        self.attempt = record.attempt
        self.token = record.token
        self._path = path
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()  # a late heartbeat must not touch a reused descriptor

    @classmethod
    def acquire(cls, leases: Path, key: str, *, attempt: int = 1, ttl: float = TTL) -> Lease | None:
        """The lease on `key`, or None while someone else has it.

        `lease.attempt` is one more than the last holder's, and at least `attempt`.
        """
        path = leases / f"{check_key(key)}.json"
        make_private(leases)
        for delay in RETRY_DELAYS:
            if delay:
                time.sleep(delay)
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                lease = cls._publish(path, attempt, replace=False)
                if lease:
                    return lease
                continue  # somebody was faster
            try:  # closing the descriptor below also drops its flock
                last, beat = _read(descriptor)
                if not _try_flock(descriptor, fcntl.LOCK_EX):
                    if last and beat != RELEASED and is_alive(last.identity):
                        return None
                    continue  # a child of a dead holder, or only a passing probe
                if not _is_at(descriptor, path):
                    continue  # taken over between our open and our flock
                if not (last and last.shares_our_kernel) and time.time() - beat <= ttl:
                    return None
                attempt = max(attempt, last.attempt + 1 if last else 1)
                return cls._publish(path, attempt, replace=True)
            finally:
                os.close(descriptor)
        return None

    @classmethod
    def _publish(cls, path: Path, attempt: int, *, replace: bool) -> Lease | None:
        """Puts a lease file of ours at `path`, already locked.

        Unless `replace`, None if there is one already. With it, the caller has the old one locked.
        """
        token = secrets.token_hex(16)
        record = Holder(*process_identity(), attempt=attempt, token=token, t=time.time())
        line = json.dumps({"v": 1, **asdict(record)}, sort_keys=True) + "\n"
        temporary = path.with_name(f".{path.name}.{token}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(descriptor, "w", closefd=False) as file:
                file.write(line)
            (os.rename if replace else os.link)(temporary, path)
            os.set_inheritable(descriptor, True)
        except FileExistsError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return cls(path, descriptor, record)

    def fileno(self) -> int:
        """The locked descriptor. Raises ValueError after release."""
        if self._descriptor is None:
            raise ValueError(f"lease on {self.key} was released")
        return self._descriptor

    def heartbeat(self) -> None:
        """Tells other machines that we live; do it several times per TTL."""
        with self._lock:
            if self._descriptor is not None:
                with suppress(OSError):  # if the lease is lost, `still_ours` is who says so
                    os.utime(self._descriptor)

    def still_ours(self) -> bool:
        """Whether nobody has taken the lease over; the fence that a commit must pass."""
        with self._lock:
            if self._descriptor is None:
                return False
            try:  # by content: a network file system may answer stat from its cache
                there = os.open(self._path, os.O_RDONLY)
            except OSError:
                return False
            try:
                current, _ = _read(there)
            finally:
                os.close(there)
            return current is not None and current.token == self.token

    def release(self) -> None:
        """Gives the lease back, also if children still have the descriptor. May be repeated."""
        with self._lock:
            if self._descriptor is None:
                return
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.utime(descriptor, (RELEASED, RELEASED))  # for other machines
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(leases: Path, key: str, *, ttl: float = TTL) -> Holder | None:
    """Who holds the lease on `key` now; None if nobody alive does."""
    try:
        descriptor = os.open(leases / f"{check_key(key)}.json", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        record, beat = _read(descriptor)
        if record is None or beat == RELEASED:
            return None
        # A shared probe: two onlookers must not take each other for a holder.
        if not _try_flock(descriptor, fcntl.LOCK_SH):
            return record
        fresh = time.time() - beat <= ttl
        return record if fresh and not record.shares_our_kernel else None
    finally:
        os.close(descriptor)


def computed_by(leases: Path, key: str) -> str:
    """Who holds the lease on `key`, in brackets, with what can be done where that process is stopped;
    "" if nobody does. Names no user."""
    from engine.jobs.locks import described

    record = holder(leases, key)
    if record is None:
        return ""
    held = described(record.pid, record.host, record.t)
    return f" ({held.anonymous}{f': {held.remedy}' if held.stopped else ''})"


def sweep_leases(leases: Path) -> int:
    """Removes what processes killed inside `acquire` left behind; returns how many files."""
    removed = 0
    for path in leases.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > TTL:  # else it may be about to be published
                path.unlink()
                removed += 1
    return removed


def _try_flock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> tuple[Holder | None, float]:
    """What the lease file says (None: unreadable) and its last heartbeat, epoch seconds."""
    beat = os.fstat(descriptor).st_mtime
    try:
        raw = json.loads(os.pread(descriptor, 65536, 0))
        record = Holder(
            *Identity.parse(raw),
            attempt=int(raw["attempt"]),
            token=str(raw["token"]),
            t=float(raw["t"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None, beat
    return record, beat


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        import psutil

        return f"boot-{psutil.boot_time():.0f}"


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of `pid`; None if there is no such live process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        import psutil

        try:
            return int(psutil.Process(pid).create_time() * 100)
        except psutil.Error:
            return None
    # The second field, the name, may itself hold spaces and brackets: count from its end.
    state, *fields = stat[stat.rindex(b")") + 1 :].split()
    return None if state in (b"Z", b"X") else int(fields[18])
