"""Locks on the places of a device, for everybody on a machine: who holds one may run a worker there.

A lock is a flock on one file per place, `chelate.<UUID>.<number>.lock`, in a folder that all users
of the machine share. The descriptor goes to the worker and all it forks, so the kernel frees the
place when the last of them is gone: a killed supervisor's worker, still computing, keeps its place.

What is promised: a worker starts only where fewer than `limit` places of the device are taken, by
whomever. That holds among all who see the same folder: all users of one machine, or of one
container where containers have their own /run. Who may write the folder may also hold locks for
nothing; the files carry no trust, only the name of who is there, as a hint.

Why /run/lock: root's, sticky, so that nobody removes another's file; not swept by age, as /tmp is on
some systems; empty after a reboot. (/dev/shm is emptied when its owner logs out.)
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.jobs.lease import RETRY_DELAYS
from engine.spec.errors import BadInput

FOLDER = "CHELATE_LOCKS"  # another folder, for machines whose administrators want one
_SHARED = ("/run/lock", "/tmp")  # noqa: S108 (root's and sticky: nobody can replace our file)
_NAME = re.compile(r"chelate\.(?P<device>[A-Za-z0-9._-]+)\.(?P<number>\d{1,3})\.lock")


@dataclass(frozen=True, slots=True)
class Taken:
    """A place that somebody holds. What is told of the holder is a hint: anybody can write it."""

    number: int
    user: str
    pid: int
    since: float  # epoch seconds


class SlotLock:
    """One place, held until `release`, or until all who inherited the descriptor are gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.tell(os.getpid())

    def tell(self, pid: int) -> None:
        """Say who holds the place. Its time is when a worker last came: memory settles after it."""
        told = {"v": 1, "user": _user(), "pid": pid, "t": time.time()}
        with suppress(OSError):  # a full disk
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps(told).encode() + b"\n", 0)

    def refresh(self) -> None:
        """Keep those off who sweep old files; the modification time stays what it says."""
        with suppress(OSError):
            os.utime(self.descriptor, ns=(time.time_ns(), os.fstat(self.descriptor).st_mtime_ns))

    def release(self) -> None:
        os.close(self.descriptor)


def folder() -> Path:
    """Where the locks are: $CHELATE_LOCKS, else the machine's. Raises BadInput if there is none."""
    given = os.environ.get(FOLDER)
    if given:
        if not Path(given).is_dir():
            raise BadInput(f"{FOLDER}={given}: must be a folder that all users of the GPUs share.")
        return Path(given)
    for name in _SHARED:
        with suppress(OSError):
            found = Path(name).stat()
            if stat.S_ISDIR(found.st_mode) and found.st_mode & 0o1777 == 0o1777:
                return Path(name)
    raise BadInput(f"no folder for locks on GPUs: set {FOLDER} to one that all users share.")


def take(where: Path, device: str, number: int, limit: int) -> SlotLock | None:
    """The lock on a place, or None while somebody has it or `limit` places of the device are taken."""
    path = where / f"chelate.{_plain(device)}.{number}.lock"
    descriptor = _open(path)
    if descriptor is None:
        return None
    # Lock first, then count: two who take different places at once both see each other.
    if _lock(descriptor, path) and len(taken(where, device)) <= limit:
        return SlotLock(descriptor)
    os.close(descriptor)
    return None


def taken(where: Path, device: str) -> list[Taken]:
    """The places of a device that are held, our own included."""
    found = []
    for path in sorted(where.glob(f"chelate.{_plain(device)}.*.lock")):
        match = _NAME.fullmatch(path.name)
        if match is None or match["device"] != _plain(device):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # somebody's private file: we cannot use that place
            found.append(Taken(int(match["number"]), "", 0, 0.0))
            continue
        try:
            if not _is_held(descriptor):
                continue
            found.append(_holder(descriptor, int(match["number"])))
        finally:
            os.close(descriptor)
    return found


def _open(path: Path) -> int | None:
    """A descriptor of the lock file, made if need be; None if it is not ours to use."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for _ in range(3):
        try:
            # Without O_CREAT: fs.protected_regular forbids that on another user's file.
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(descriptor, 0o666)  # whatever the umask
            except FileExistsError:
                continue
            except OSError as problem:
                raise BadInput(
                    f"cannot lock places on GPUs in {path.parent}: {problem.strerror}; set "
                    f"{FOLDER} to a folder that all users share."
                ) from problem
        except OSError:
            return None
        found = os.fstat(descriptor)
        # Only what can be nothing but a lock is written to: no link to somebody's document.
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_size <= 4096:
            return descriptor
        os.close(descriptor)
        return None
    return None


def _lock(descriptor: int, path: Path) -> bool:
    for delay in RETRY_DELAYS:  # an onlooker's probe holds the lock for microseconds
        time.sleep(delay)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        try:  # swept between our open and our flock: the next one would lock another file
            return os.path.samestat(os.fstat(descriptor), path.stat())
        except OSError:
            return False
    return False


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _holder(descriptor: int, number: int) -> Taken:
    since = os.fstat(descriptor).st_mtime
    try:
        told = json.loads(os.pread(descriptor, 4096, 0))
        return Taken(number, str(told["user"])[:64], int(told["pid"]), since)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Taken(number, "", 0, since)


def _plain(device: str) -> str:
    """A UUID as part of a file's name; older MIG UUIDs have slashes."""
    return re.sub(r"[^A-Za-z0-9-]", "_", device)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return str(os.getuid())
