"""Standard output and standard error as commands need them: whatever reads them, nothing breaks.

A stream that is not UTF-8 gets ASCII. A reader that went away ends the command quietly, and an output
that cannot be written (a full disk) with one line. What is said on standard error may be lost.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from console.characters import in_ascii, wants_ascii

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WRITE_ERROR = 1
PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell tells of a command that a closed pipe ended
ERRORS = "chelate-terminal"


class OutputLost(Exception):
    """Standard output cannot be written; `number` is the errno. No OSError: nobody who looks after
    files of their own shall take it for one of those."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.number = error.errno

    @property
    def told(self) -> str:
        return f"standard output cannot be written: {self}."

    @property
    def code(self) -> int:
        return PIPE_CLOSED if self.number == errno.EPIPE else WRITE_ERROR


class Bytes(io.BufferedWriter):
    """Standard output itself. Raises OutputLost where writing fails; while somebody works whose work
    does not depend on being looked at, says so once and goes on without."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self.at_work = ""  # what goes on if this is lost, in words
        self.lost: OutputLost | None = None

    def write(self, content: ReadableBuffer) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self._lose(error)
            return super().write(content)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)
            super().flush()

    def _lose(self, error: OSError) -> None:
        lost = OutputLost(error)
        if not self.at_work or self.lost is not None:
            raise lost from None
        self.lost = lost
        let_go_of(self.fileno())
        sys.stderr.write(f"chelate: {lost.told} {self.at_work}\n")


class Output(io.TextIOWrapper):
    """Raises OutputLost where writing fails."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLost(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLost(error) from None


class Complaints(io.TextIOWrapper):
    """Goes on where writing fails: there is nowhere left to say so."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def ending_well(command: Callable[[], object]) -> None:
    """Run a command on streams that cannot break it; exits with its code, or for lost output."""
    prepare()
    try:
        try:
            command()
        except SystemExit as end:
            if not end.code:  # what the command has to say of itself comes first
                _admit_loss()
            raise
        finally:
            sys.stdout.flush()
        _admit_loss()
    except OutputLost as lost:
        let_go_of(1)
        if lost.number != errno.EPIPE:
            sys.stderr.write(f"chelate: {lost.told}\n")
        raise SystemExit(lost.code) from None


@contextlib.contextmanager
def working_on(told: str) -> Iterator[None]:
    """Meanwhile standard output may be lost: work goes on, `told` says how to look at it and end it;
    the command's exit code says so in the end."""
    stream = getattr(sys.stdout, "buffer", None)
    if not isinstance(stream, Bytes):
        yield
        return
    stream.at_work = told
    try:
        yield
        sys.stdout.flush()
    finally:
        stream.at_work = ""


def _admit_loss() -> None:
    lost = getattr(getattr(sys.stdout, "buffer", None), "lost", None)
    if lost is not None:
        raise SystemExit(lost.code)


def prepare() -> None:
    """Put our streams in the place of Python's."""
    codecs.register_error(ERRORS, _replaced)
    _fill_closed()
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = sys.__stdout__ = _wrapped(sys.stdout, 1, Output)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _wrapped(sys.stderr, 2, Complaints)  # type: ignore[misc]


def _wrapped(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    if isinstance(stream, io.TextIOWrapper):
        encoding, line = stream.encoding, stream.line_buffering
        stream.flush()
        raw = stream.detach()
        if kind is Output:  # what Python runs without buffers has none below the text either
            raw = Bytes(raw.detach() if isinstance(raw, io.BufferedWriter) else raw)  # type: ignore[arg-type]
    else:  # it was closed, and goes nowhere
        encoding, line = "utf-8", False
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
    plain = "ascii" if wants_ascii(encoding) else encoding
    return kind(raw, plain, ERRORS, line_buffering=line)


def _fill_closed() -> None:
    """A file that is opened later must not become our standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def let_go_of(number: int) -> None:
    """What is still in a stream goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return in_ascii(error.object[error.start : error.end]), error.end
