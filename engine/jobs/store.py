"""The store: results of stages, addressed by key, each whole or absent. Its folders:

    objects/<key[:2]>/<key>/   artifacts and DONE.json (their hashes, what made them)
    work/<key>.<attempt>…/     a result in the making: owner.json and object/
    leases/                    who works on what (lease.py)
    checkpoints/<key>/         where a stage under way can go on from (checkpoints.py)
    quarantine/                damaged objects on their way out; discarded.jsonl says why

Same key, same result, so nothing is ever overwritten. A result is built in a work folder, made
durable, and moved into place by one rename, which fails if somebody was there first. A process
may therefore be killed at any instruction, two may compute the same key, and a reader needs no
lock. Every artifact is checked against its hash before it is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from engine.jobs.checkpoints import leftover_checkpoints
from engine.jobs.crashpoints import crash_here
from engine.jobs.home import (
    fsync_folder,
    hash_file,
    make_private,
    open_plain,
    read_plain,
    write_json,
)
from engine.jobs.lease import (
    Identity,
    check_key,
    holder,
    is_alive,
    is_key,
    process_identity,
    sweep_leases,
)
from engine.jobs.records import ARTIFACT, DONE, Artifact, Record, read_record
from engine.jobs.stage_warnings import distinct

BARRED = frozenset(
    {errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EMFILE}
)  # of reading: says nothing of what is there
HALF_MADE = 3600.0  # seconds after which a work folder without an owner is a leftover
State = Literal["ok", "absent", "damaged"]

_log = logging.getLogger(__name__)


class Damaged(RuntimeError):
    """An artifact is missing or is not what its stage wrote. Discard the object and recompute."""

    def __init__(self, key: str, name: str) -> None:
        super().__init__(f"artifact {name!r} of stage {key} is damaged or missing")
        self.key = key
        self.name = name


class Store:
    """A store at `root`, which need not exist before the first write.

    An `excerpt`, of an imported run, need not have all artifacts of its objects.
    """

    def __init__(self, root: Path, excerpt: bool = False) -> None:
        self.root = root
        self.excerpt = excerpt

    @property
    def leases(self) -> Path:
        return self.root / "leases"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def path(self, key: str) -> Path:
        """Where the object is or will be. BadInput if `key` is not one."""
        return Path(self._folder(key))

    def _folder(self, key: str) -> str:
        """`path` as text: a survey of a large run makes tens of thousands of them."""
        return f"{self.root}/objects/{check_key(key)[:2]}/{key}"

    def stored(self) -> Iterator[str]:
        """The keys that objects lie at, whole or not, in no order."""
        for path in self.root.glob("objects/??/*"):
            if is_key(path.name) and path.name[:2] == path.parent.name:
                yield path.name

    def has(self, key: str) -> bool:
        """Whether the stage was committed; says nothing of its files' health (see `check`)."""
        return os.path.isfile(f"{self._folder(key)}/{DONE}")  # noqa: PTH113

    def record(self, key: str) -> Record | None:
        """What DONE.json says; None if there is none or it makes no sense."""
        return read_record(self._folder(key), key)

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """The records of those of these stages that have one."""
        found = ((key, self.record(key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def check(self, key: str, deep: bool = False) -> State:
        """Whether the object is there and whole.

        The quick check compares sizes and times, and hashes only files whose time differs (as in
        a copied store); `deep` hashes every file.
        """
        return self.look(key, deep)[0]

    def look(self, key: str, deep: bool = False) -> tuple[State, Record | None]:
        """`check` and, unless it is damaged or absent, what DONE.json says: one reading of it."""
        folder = self._folder(key)
        record = read_record(folder, key)
        if record is None:
            if not os.path.lexists(folder):
                return "absent", None
            record = read_record(folder, key)  # it may have come in between
        if record is None:
            return "damaged", None
        for name, artifact in record.files.items():
            path = f"{folder}/{name}"
            if self.excerpt and not os.path.lexists(path):
                continue
            try:
                if not deep:
                    found = os.lstat(path)
                    if found.st_size != artifact.size:
                        return "damaged", None
                    if found.st_mtime_ns == artifact.mtime_ns:
                        continue
                if hash_file(path) != artifact.sha256:
                    return "damaged", None
            except OSError:
                return "damaged", None
        return "ok", record

    def barred(self, key: str) -> str:
        """Why an object cannot be read though nothing says that it is damaged (it is another user's,
        its file system is gone), in words; "" where that is not so."""
        folder = self._folder(key)
        try:
            for name in os.listdir(folder):  # noqa: PTH208
                os.close(os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        except OSError as problem:
            return (problem.strerror or "") if problem.errno in BARRED else ""
        return ""

    def unlisted(self) -> list[tuple[Path, str]]:
        """Folders that may hold objects and cannot be looked into, and why."""
        found = []
        for folder in (self.root, self.root / "objects", *self.root.glob("objects/??")):
            try:
                os.listdir(folder)  # noqa: PTH208
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as problem:
                found.append((folder, problem.strerror or str(problem)))
        return found

    def verify_file(self, key: str, name: str) -> Path:
        """The path of an artifact whose content was just checked. Raises Damaged."""
        path = self.path(key) / name
        try:
            if hash_file(path) == self._artifact(key, name).sha256:
                return path
        except OSError as problem:
            raise Damaged(key, name) from problem
        raise Damaged(key, name)

    def open_verified(self, key: str, name: str) -> bytes:
        """The content of an artifact; the bytes checked are the bytes returned. Raises Damaged."""
        expected = self._artifact(key, name).sha256
        try:
            content = read_plain(f"{self._folder(key)}/{name}")
        except OSError as problem:
            raise Damaged(key, name) from problem
        if hashlib.sha256(content).hexdigest() != expected:
            raise Damaged(key, name)
        return content

    def _artifact(self, key: str, name: str) -> Artifact:
        record = self.record(key)
        if record is None or name not in record.files:
            raise Damaged(key, name)
        return record.files[name]

    def discard(self, key: str, reason: str) -> bool:
        """Removes an object so that it can be recomputed; False if there was none.

        Only for the holder of the key's lease: anybody else might hit a healthy successor.
        """
        aside = self.set_aside(key)
        if aside is None:
            return False
        _log.warning("discarded %s: %s", key, reason)
        line = json.dumps({"t": time.time(), "key": key, "reason": reason}) + "\n"
        with (self.root / "quarantine" / "discarded.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def set_aside(self, key: str) -> Path | None:
        """Takes an object out of the store, at once and whole; None if there was none.

        It now lies in a folder of its own, the caller's to delete; `sweep` would do it.
        """
        quarantine = self.root / "quarantine"
        make_private(quarantine)
        # A unique folder to move into: n discards of one key never collide.
        aside = Path(tempfile.mkdtemp(prefix=f"{check_key(key)}.", dir=quarantine))
        try:
            self.path(key).rename(aside / "object")
        except FileNotFoundError:
            aside.rmdir()
            return None
        fsync_folder(self.path(key).parent)
        return aside

    def begin(self, key: str, attempt: int) -> Work:
        """A private folder in which to build the result of `key`."""
        folder = self.root / "work"
        make_private(folder)
        prefix = f"{check_key(key)}.{attempt}.{os.getpid()}."
        outer = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))  # mode 0700; pids do recur
        # After a power cut its owner is dead whatever it says.
        write_json(outer / "owner.json", {"v": 1, **process_identity()._asdict()}, durable=False)
        work = Work(self, key, attempt, outer)
        make_private(work.path)
        return work

    def leftovers(self) -> list[Path]:
        """What dead processes left, and checkpoints of stages that are done."""
        found = [path for path in self.root.glob("work/*") if _is_orphan(path, self.leases)]
        for path in self.root.glob("quarantine/*/"):
            # An empty one may be about to receive its object.
            if (path / "object").exists() or _age(path) > HALF_MADE:
                found.append(path)
        return [*found, *leftover_checkpoints(self.checkpoints, done=self.has)]

    def sweep(self) -> int:
        """Removes what dead processes left behind; returns how many leftovers there were.

        Safe at any time: a folder goes only if its owner is surely dead.
        """
        leftovers = self.leftovers()
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        return len(leftovers) + sweep_leases(self.leases)


class Work:
    """A result in the making. Write plain files into `path`, then `commit` or `abandon`.

    As a context manager it abandons what was not committed.
    """

    def __init__(self, store: Store, key: str, attempt: int, outer: Path) -> None:
        self.key = key
        self.attempt = attempt
        self.path = outer / "object"
        self._outer = outer
        self._store = store

    def commit(
        self,
        *,
        kind: str,
        title: str,
        seconds: float,
        tee: float,
        na: str | None = None,
        diverged: int | None = None,
        env: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        warnings: Iterable[str] = (),
        fence: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Publishes the files in `path` as the result of the key, durably.

        False, and the work is dropped, if `fence()` says that the lease is no longer ours or if
        somebody committed first. Raises ValueError for a name or value that may not be in an
        object, OSError if the disk fails; the work folder is then still there.
        """
        crash_here("artifacts written")
        files = {path.name: _seal(path) for path in sorted(self.path.iterdir())}
        record = Record(
            key=self.key,
            kind=kind,
            title=title,
            files=files,
            seconds=seconds,
            tee=tee,
            attempt=self.attempt,
            host=socket.gethostname(),
            created=time.time(),
            na=na,
            env=env or {},
            config=config or {},
            inputs=inputs or {},
            warnings=distinct(warnings),
            diverged=diverged,
        )
        _write_durably(self.path / DONE, {"v": 1, **asdict(record)})
        target = self._store.path(self.key)
        new = [folder for folder in target.parents[:3] if not folder.exists()]
        make_private(target.parent.parent)
        make_private(target.parent)
        crash_here("DONE written")
        # The fence comes last: it narrows the window, and the rename closes it.
        committed = fence() and _rename_if_absent(self.path, target)
        if committed:
            crash_here("renamed")
            # Of the files, each fsync above took the name along (ext4, xfs, btrfs). Where it does
            # not, a power cut leaves a damaged object, which is noticed and computed again.
            for folder in (target.parent, *(folder.parent for folder in new)):
                fsync_folder(folder)
        self.abandon()
        return committed

    def abandon(self) -> None:
        """Removes the work folder; harmless after a commit."""
        shutil.rmtree(self._outer, ignore_errors=True)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()


def _seal(path: Path) -> Artifact:
    """Makes a file durable and measures it. ValueError if it may not be part of an object."""
    if not ARTIFACT.fullmatch(path.name) or path.name == DONE:
        raise ValueError(f"artifact name {path.name!r}: use letters, digits and . _ + = @ -")
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"artifact {path.name!r} is not a plain file")
    with open_plain(path) as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = os.fstat(file.fileno())
    return Artifact(digest, found.st_size, found.st_mtime_ns)


def _write_durably(path: Path, value: Any) -> None:
    """A new file that nobody looks at yet."""
    with path.open("x") as file:
        file.write(json.dumps(value, allow_nan=False, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _rename_if_absent(source: Path, target: Path) -> bool:
    """Moves a folder; False if `target` is there (rename refuses a folder that is not empty)."""
    try:
        source.rename(target)
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _is_orphan(work: Path, leases: Path) -> bool:
    try:
        owner = Identity.parse(json.loads((work / "owner.json").read_bytes()))
        key = check_key(work.name.partition(".")[0])
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        # Killed between making the folder and naming its owner; or not yet that far.
        return _age(work) > HALF_MADE
    if owner.host == socket.gethostname():
        return not is_alive(owner)
    # We cannot look at another machine's processes, but without a lease it may not commit.
    return _age(work) > HALF_MADE and holder(leases, key) is None


def _age(folder: Path) -> float:
    """Seconds since something was last made or removed in `folder`; 0 if it is gone."""
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
