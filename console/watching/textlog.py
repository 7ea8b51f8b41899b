"""The end of a text file, as it grows."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

from console.viewmodel import TextLog
from console.watching.story import event_line
from engine.jobs import bounded_json
from engine.jobs.events import strip_control

LONGEST = 2_000  # characters of a line
FIRST = 1 << 19  # bytes read of a file that is there already
LINES = 5_000
CHUNK = 1 << 18


class TextTail:
    """Reads at most CHUNK bytes a poll. A file that shrinks or is replaced is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restart()

    def _restart(self) -> None:
        self._offset: int | None = None
        self._inode = 0
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=LINES)
        self._count = 0
        self._cut = False
        self.log = TextLog(self.path)

    def poll(self) -> bool:
        """Read on; whether `log` is new."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if self._offset is not None and (
                    found.st_size < self._offset or found.st_ino != self._inode
                ):
                    self._restart()
                if self._offset is None:
                    self._inode = found.st_ino
                    self._offset = max(0, found.st_size - FIRST)
                    self._cut = self._offset > 0
                file.seek(self._offset)
                chunk = file.read(CHUNK)
        except OSError as error:
            return self._tell(f"{self.path.name}: {error.strerror or error}")
        if not chunk and self.log.lines:
            return False
        self._offset += len(chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > CHUNK:
            whole, self._rest = [*whole, self._rest], b""
        for raw in whole:
            self._lines.append(self._line(raw))
            self._count += 1
        return self._tell("" if self._count or self._rest else f"{self.path.name} is empty")

    def _line(self, raw: bytes) -> str:
        return readable(self.path, raw)

    def _tell(self, problem: str) -> bool:
        lines = tuple(self._lines)
        if self._rest.strip():  # a line not finished yet
            lines = (*lines, self._line(self._rest))
        start = self._count - len(self._lines)
        log = TextLog(self.path, lines, start, self._cut, problem)
        changed = log != self.log
        self.log = log
        return changed


def readable(path: Path, raw: bytes) -> str:
    """One line of a log, safe to print; an event is written out. Of a progress bar that repaints
    itself, the last state."""
    if path.suffix == ".jsonl":
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return event_line(bounded_json.parse(raw))
    text = raw.decode("utf-8", "replace").rstrip("\r")
    return strip_control(text.rpartition("\r")[2]).expandtabs(4)[:LONGEST]
