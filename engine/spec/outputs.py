"""Files and folders that a person asks for: whole or not there, and never in the place of another.

Everything that is written where a person says goes through here. A file is written under a name of
its own beside its place, made durable and then renamed; what is in the way stays, unless the person
said otherwise, and what is no plain file (a folder, a link, a device, a pipe) stays whatever they
said. `-` is standard output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from engine.spec.errors import BadInput

FORCE = "--force replaces it"  # what can be done about a file that is there
ANOTHER = "choose another name"
PRIVATE = 0o600
STREAMS = frozenset({"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
_KINDS = (
    (stat.S_ISLNK, "a link; name the file that it leads to"), (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device"), (stat.S_ISCHR, "a device"),
)  # fmt: skip
# What file systems without hard links, or in front of other machines, say to link and fsync.
_CANNOT = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def is_stdout(path: Path) -> bool:
    return str(path) == "-"


def check_output(path: Path, *, force: bool = False, otherwise: str = FORCE) -> None:
    """Whether a new file may be put at `path`, before anything is computed for it. Raises BadInput:
    something is there (a plain file may be, with `force`), or nobody can look. `otherwise`: what the
    person can do about a file that is there."""
    if is_stdout(path):
        return
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise _unwritable(path, error) from None
    if stat.S_ISDIR(mode):
        raise BadInput(f"{path}: is a folder.")
    if not stat.S_ISREG(mode):
        what = next((what for is_one, what in _KINDS if is_one(mode)), "no plain file")
        hint = " `-` is standard output." if str(path) in STREAMS else ""
        raise BadInput(f"{path}: is {what}. Only plain files are written.{hint}")
    if not force:
        raise BadInput(f"{path}: exists; {otherwise}.")


def write_output(
    path: Path,
    content: bytes | str,
    *,
    force: bool = False,
    otherwise: str = FORCE,
) -> None:
    """Put `content` at `path`, whole or not at all, or on standard output. Raises BadInput."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    text = isinstance(content, str)
    with output(path, force=force, otherwise=otherwise, text=text) as file:
        file.write(data)


@contextlib.contextmanager
def output(
    path: Path,
    *,
    force: bool = False,
    otherwise: str = FORCE,
    text: bool = False,
    mode: int = 0o666,
) -> Iterator[IO[bytes]]:
    """A file to write into, which is at `path`, durably, once all is written; on an exception nothing
    is. `text`: a terminal may show it. Raises BadInput as `check_output` does, if it cannot be
    written, and if what it is made from cannot be read."""
    if is_stdout(path):
        if not text and sys.stdout.isatty():
            raise BadInput("-: standard output is a terminal; send it to a file or a pipe.")
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    check_output(path, force=force, otherwise=otherwise)
    draft = path.with_name(_name_of_a_draft())
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            _sync(file.fileno())
        _put(draft, path, force, otherwise)
    except OSError as error:
        raise _unwritable(path, error, draft) from None
    finally:
        # Also where nothing was written: a read-only file system refuses even that.
        with contextlib.suppress(OSError):
            draft.unlink()
    _sync_folder(path.parent)


def check_folder(path: Path) -> None:
    """Whether a new folder may be made at `path`. Raises BadInput."""
    if is_stdout(path) or "-" in path.parts[:1]:
        raise BadInput("-: what is written is a folder; name one.")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    raise BadInput(f"{path} exists already: export to another folder.")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write plain files into, which is at `path` once all is written; on an exception
    nothing is, nor are the parents that were made for it. Raises BadInput if something is there, or
    it cannot be written."""
    check_folder(path)
    missing = [one for one in path.parents if not os.path.lexists(one)]
    draft = path.with_name(_name_of_a_draft())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        for file in draft.iterdir():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                _sync(descriptor)
            finally:
                os.close(descriptor)
        draft.rename(path)  # not over what has come meanwhile, but for an empty folder
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise _unwritable(path, error, draft) from None
        raise
    _sync_folder(path.parent)


def _put(draft: Path, path: Path, force: bool, otherwise: str) -> None:
    """The last step, which nothing can come in between of where the file system has hard links."""
    if not force:
        try:
            os.link(draft, path)
            return
        except FileExistsError:
            check_output(path, otherwise=otherwise)
            raise
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
    check_output(path, force=force, otherwise=otherwise)
    draft.replace(path)


def _name_of_a_draft() -> str:
    """Short whatever the file is called: its own name may be as long as names can be."""
    return f".chelate-{secrets.token_hex(8)}.tmp"


def _unwritable(path: Path, error: OSError | ValueError, draft: Path | None = None) -> BadInput:
    reason = getattr(error, "strerror", None) or error
    source = getattr(error, "filename", None)
    own = {str(path), str(path.parent), str(draft)} | {str(one) for one in path.parents}
    if source is None or str(source) in own or str(source).startswith(f"{draft}/"):
        return BadInput(f"{str(path)!r} cannot be written: {reason}." if "\0" in str(path)
                        else f"{path}: cannot be written: {reason}.")  # fmt: skip
    return BadInput(f"{path}: not written, for {source} cannot be read: {reason}.")


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def _sync_folder(folder: Path) -> None:
    """The file is whole and in its place: that a folder cannot be opened takes nothing from that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
