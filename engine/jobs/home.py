"""The home folder: where results and runs live, and how a file is written there.

    <home>/store/   results of stages, addressed by key (store.py, lease.py)
    <home>/runs/    one folder per run: what was asked, what happened

Every file that someone may read while it is written goes through `write_atomic`: a reader, and a
machine that loses power, see the old content or the new, never a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from engine.jobs.locks import holding
from engine.spec.errors import BadInput
from engine.spec.places import expanded

SMALL = 1 << 16  # bytes hashed in one go; larger files in pieces
PRIVATE = 0o700  # models and data may be confidential, and other people use the same server


def resolve_home(option: str | Path | None = None) -> Path:
    """The home folder: `option`, else $CHELATE_HOME, else the platform's data folder. Raises BadInput
    for `~user` where there is no such user.

    An empty string counts as not given, as is usual for variables of the environment.
    """
    given = option or os.environ.get("CHELATE_HOME")
    if given:
        return expanded(given, "home").absolute()
    import platformdirs

    return platformdirs.user_data_path("chelate")


@dataclass(frozen=True)
class Home:
    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @contextlib.contextmanager
    def plans(self, *, alone: bool = False) -> Iterator[None]:
        """Plans come and go only inside of this; `alone`: nobody else's do.

        Who removes results that no plan needs must know all plans while doing so. Raises BadInput
        as `locks.holding` does: nobody waits for ever.
        """
        make_private(self.root)
        with holding(self.root / "plans.lock", alone=alone):
            yield

    def create(self) -> Home:
        """Makes the folders that are missing and tries what the engine relies on.

        Raises BadInput with the path and the reason: no permission, a file in the way, a disk
        that is full or read-only, a file system without locks or hard links.
        """
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"cannot use {str(self.root)!r} as home folder: its name is not UTF-8, and files of "
                "weights could not be read there. Choose another with --home or CHELATE_HOME."
            ) from None
        try:
            for folder in (self.root, self.store, self.runs):
                make_private(folder)
            _probe(self.store)
        except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
            reason = getattr(problem, "strerror", None) or problem
            place = getattr(problem, "filename", None) or self.root
            raise BadInput(
                f"cannot use {str(self.root)!r} as home folder: {reason} ({place}). "
                "Choose another with --home or CHELATE_HOME."
            ) from problem
        return self


def make_private(folder: Path) -> None:
    """Makes `folder` (and its parents), for its owner only; leaves an existing one as it is."""
    try:
        folder.mkdir(mode=PRIVATE, exist_ok=True)
    except FileNotFoundError:  # mkdir(parents=True) would leave the parents to the umask
        if folder.parent == folder:
            raise
        make_private(folder.parent)
        folder.mkdir(mode=PRIVATE, exist_ok=True)


def _probe(folder: Path) -> None:
    """Writes, locks and links a file: leases need all three, so better fail now than mid-run."""
    probe = folder / f".probe.{secrets.token_hex(8)}"
    linked = probe.with_suffix(".linked")
    try:
        with probe.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(b"probe\n")
        os.link(probe, linked)
    finally:
        for name in (probe, linked):
            name.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Puts `content` at `path` whole or not at all.

    On return it also survives a power cut, if it is to be `durable`. That costs two waits for the
    disk, several milliseconds each: too much for what no result depends on.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """`value` as strict JSON (a NaN raises ValueError) with sorted keys, written atomically."""
    write_atomic(path, json.dumps(value, allow_nan=False, sort_keys=True) + "\n", durable=durable)


def open_plain(path: str | Path) -> FileIO:
    """Opens a regular file; OSError for anything else, as a stranger's store may hold links."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return FileIO(descriptor)


def read_plain(path: str | Path) -> bytes:
    with open_plain(path) as file:
        return file.readall()


def hash_file(path: str | Path, *, durable: bool = False) -> str:
    """sha256 of a plain file; `durable`: once it is on the disk."""
    with open_plain(path) as file:
        if durable:
            os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size <= SMALL:
            return hashlib.sha256(file.readall()).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` (a rename, a new file) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)
