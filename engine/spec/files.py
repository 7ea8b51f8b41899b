"""Files that a person or a preset names are read here: plain ones, of a bounded size, in time.

What a path leads to may be a FIFO, a device, a socket or a folder, at which reading hangs, never ends
or fails in its own way; a file may be larger than memory; a network's file system may not answer.
Each is found before, or while, it is read, and told in one message. Links are followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from io import BytesIO, FileIO
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from engine.spec.bounds import FILE, STALL, Bound
from engine.spec.errors import BadInput

T = TypeVar("T")
CHUNK = 1 << 24  # bytes
KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def content_of(path: Path, where: str, bound: Bound = FILE) -> bytes:
    """The bytes of a plain file. Raises BadInput that begins with `where`: for what is no plain file,
    is larger than `bound` or cannot be read, and for one that gives no byte for a minute."""
    return _in_time(lambda beat: _read(path, where, bound, beat), where)


def content_at_once(path: str | Path, where: str, bound: Bound = FILE) -> bytes:
    """The same for one of thousands of files, without the watch on the time (which costs a thread
    each). Raises BadInput."""
    return _read(path, where, bound, lambda: None)


def sha256_of(path: Path, where: str, bound: Bound) -> str:
    """Of a plain file that need not fit into memory. Raises BadInput as `content_of` does."""

    def read(beat: Callable[[], None]) -> str:
        digest = hashlib.sha256()
        with opened(path, where, bound) as file:
            while chunk := _some(file, CHUNK, where):
                digest.update(chunk)
                beat()
        return digest.hexdigest()

    return _in_time(read, where)


def head_of(path: Path, where: str, size: int, bound: Bound = FILE) -> bytes:
    """The first `size` bytes. Raises BadInput as `content_of` does."""

    def read(beat: Callable[[], None]) -> bytes:
        with opened(path, where, bound) as file:
            return _some(file, size, where)

    return _in_time(read, where)


def opened(path: str | Path, where: str, bound: Bound) -> FileIO:
    """A plain file, open for reading. Raises BadInput.

    What it is is asked before it is opened, for to open a device can do something; and once more of
    what was opened, for it may have been exchanged between the two.
    """
    try:
        _check(os.stat(path), where, bound)  # noqa: PTH116  # a Path costs as much as the call
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror}.") from None
    except ValueError as error:  # a NUL in the path, a name that cannot be encoded
        raise BadInput(f"{where}: {error}.") from None
    try:
        _check(os.fstat(descriptor), where, bound)
        return FileIO(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _check(found: os.stat_result, where: str, bound: Bound) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = next((told for is_one, told in KINDS if is_one(found.st_mode)), "something else")
        raise BadInput(f"{where}: is {what}; a plain file is needed.")
    bound.check(found.st_size, f"{where}: has")


def _read(path: str | Path, where: str, bound: Bound, beat: Callable[[], None]) -> bytes:
    """A file may grow, and those of /proc say that they have no bytes: what is read is counted."""
    content = BytesIO()
    with opened(path, where, bound) as file:
        size = min(CHUNK, os.fstat(file.fileno()).st_size + 1)
        while chunk := _some(file, max(size, 4096), where):
            content.write(chunk)
            bound.check(content.tell(), f"{where}: has at least")
            beat()
    return content.getvalue()


def _some(file: FileIO, size: int, where: str) -> bytes:
    try:
        found = file.read(size)
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror}.") from None
    if found is None:  # what would have to be waited for, such as /proc/kmsg
        raise BadInput(f"{where}: has nothing to read yet; a plain file is needed.")
    return found


def _in_time(work: Callable[[Callable[[], None]], T], where: str) -> T:
    """`work` in a thread of its own, given up once it has not called what it is given for too long:
    nothing ends a thread that waits for a file system, but nobody has to wait with it."""
    outcome: list[Any] = []
    beats = [0]

    def beat() -> None:
        beats[0] += 1

    def run() -> None:
        try:
            outcome.extend((True, work(beat)))
        except BaseException as error:
            outcome.extend((False, error))

    seconds = STALL.limit
    thread = Thread(target=run, name="file", daemon=True)
    thread.start()
    seen = -1
    while thread.is_alive() and seen != beats[0]:
        seen = beats[0]
        thread.join(seconds)
    if thread.is_alive():
        raise BadInput(
            f"{where}: no answer from its file system for {seconds} seconds "
            f"({STALL.variable} is for how long to wait)."
        )
    good, value = outcome
    if not good:
        raise value
    return value  # type: ignore[no-any-return]
