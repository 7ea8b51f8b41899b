"""What happens in a stage, for people who watch: one JSON object per line, one file per attempt.

    {"v":1, "seq":7, "t":<epoch s>, "stage":<key>, "attempt":1, "kind":"metric", "data":{...}}

Events are hints, not truth: no result depends on them, so a full disk costs lines, never the
stage. One writer per file and one write(2) per line; even so a kill or a full disk can tear a
line, and the reader expects that. A gap in `seq` means that lines were lost.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VERSION = 1
# What a supervisor says, as phases, of slots that have no stage; the latter of what they wait for, too.
STARTING, WAITING = "starting a worker", "waiting for "
THROTTLED = frozenset({"progress", "metric", "probe"})  # only the newest value matters
FINAL = frozenset({"stopped", "error", "end"})
OTHERS = frozenset({"start", "phase", "checkpoint", "artifact", "warning", "heartbeat"})
KINDS = THROTTLED | FINAL | OTHERS
MAX_LINE = 1 << 20  # bytes, with the newline
MOST_SCANNED = 1 << 28  # bytes of a file that is searched for events of a kind
LAST = 1e11  # epoch seconds: later than any clock's, and no calendar can tell it
_CHUNK = 1 << 20
_ENVELOPE: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "seq": int,
    "t": (int, float),
    "stage": str,
    "attempt": int,
    "kind": str,
    "data": dict,
}


class EventWriter:
    """Appends the events of one attempt to `path`. Any thread may emit.

    `rate`: at most so many progress, metric and probe events per second, all together. Of those
    that come too fast, the newest of each series (kind and `data["name"]`) is kept and written
    as soon as there is room: with a later event of any kind, at the latest by `flush` or before
    stopped, error and end. `t` is when it was emitted; `seq` is the order in the file.

    Opening raises OSError; from then on lines that the disk refuses are counted in `dropped`.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        attempt: int,
        *,
        rate: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not rate > 0:
            raise ValueError(f"rate is events per second, more than 0, not {rate!r}")
        self.dropped = 0
        self._stage = stage
        self._attempt = attempt
        self._clock = clock
        # `burst` events in any `window` seconds: never more than `rate` in a second, and what
        # belongs together (five metrics of one epoch) is seen together.
        burst = max(1, round(rate / 4))
        self._window = burst / rate
        self._written: deque[float] = deque(maxlen=burst)
        self._pending: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._seq = 0
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._descriptor: int | None = os.open(path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def emit(self, kind: str, /, **data: Any) -> None:
        """Writes one event. ValueError for a kind that is not in KINDS; nothing else is raised.

        NaN and infinities become null; numpy and torch values become numbers and lists.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event {kind!r}; known: {', '.join(sorted(KINDS))}")
        data = _strict(data)
        with self._lock:
            if kind in THROTTLED:
                # Replacing keeps the place in the queue, so that no series starves another.
                self._pending[kind, str(data.get("name"))] = (time.time(), data)
            self._drain(everything=kind in FINAL)
            if kind not in THROTTLED:
                self._write(kind, time.time(), data)

    def flush(self) -> None:
        """Writes what the throttle holds back."""
        with self._lock:
            self._drain(everything=True)

    def close(self) -> None:
        """Flushes and closes. May be repeated; events that come later are dropped."""
        with self._lock:
            self._drain(everything=True)
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drain(self, *, everything: bool) -> None:
        while self._pending:
            now = self._clock()
            full = len(self._written) == self._written.maxlen
            if full and now - self._written[0] < self._window and not everything:
                return
            series = next(iter(self._pending))
            t, data = self._pending.pop(series)
            self._written.append(now)
            self._write(series[0], t, data)

    def _write(self, kind: str, t: float, data: dict[str, Any]) -> None:
        event = {
            "v": VERSION,
            "seq": self._seq,
            "t": t,
            "stage": self._stage,
            "attempt": self._attempt,
            "kind": kind,
            "data": data,
        }
        self._seq += 1
        line = json.dumps(event, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        if self._descriptor is None or len(line) > MAX_LINE:
            self.dropped += 1
            return
        if self._torn:
            line = b"\n" + line  # ends the torn line, so that only that one is lost
        try:
            written = os.write(self._descriptor, line)
        except OSError:
            self.dropped += 1
            return
        if written < len(line):
            self.dropped += 1
        self._torn = not line[:written].endswith(b"\n")


class EventTail:
    """Reads an events file while it grows.

    What `read` returns has all seven fields of the envelope with their types, `data` being an
    object and `t` a time; kinds and versions of the future pass through untouched. Other lines
    (torn, garbage, over 1 MiB) are counted in `skipped`. A file that was replaced or truncated is
    read anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0
        self.behind = False
        self._seen: tuple[int, int, int] | None = None  # inode, size, mtime: nothing new
        self._restart()

    def _restart(self) -> None:
        self._offset = 0
        self._last = b""  # the bytes just before the offset: recognises the file
        self._partial = b""  # of a line not yet finished
        self._overlong = False  # inside a line that is too long to keep

    def read(self, most: int | None = None) -> list[dict[str, Any]]:
        """The events since the last call; [] if there are none or there is no file (yet).

        `most` bytes at a time, for whoever cannot wait for all of a long file: `behind` then says
        whether there is more to read.
        """
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return []
            with self.path.open("rb") as file:
                if not self._is_same(file.fileno(), found.st_size):
                    self._restart()
                end = found.st_size if most is None else min(found.st_size, self._offset + most)
                events = self._read_on(file.fileno(), end)
        except OSError:
            return []
        self.behind = self._offset < found.st_size
        if not self.behind:
            self._seen = seen
        return events

    def _is_same(self, descriptor: int, size: int) -> bool:
        """By content: a new file often gets the inode of the one it replaces."""
        start = self._offset - len(self._last)
        return size >= self._offset and os.pread(descriptor, len(self._last), start) == self._last

    def _read_on(self, descriptor: int, size: int) -> list[dict[str, Any]]:
        events = []
        # Not to the end of the file: a writer faster than us would keep us here for ever.
        while chunk := os.pread(descriptor, min(_CHUNK, size - self._offset), self._offset):
            self._offset += len(chunk)
            self._last = (self._last + chunk)[-256:]
            *lines, rest = (self._partial + chunk).split(b"\n")
            for line in lines:
                event = None if self._overlong else _parse(line)
                if event is not None:
                    events.append(event)
                elif line.strip() or self._overlong:
                    self.skipped += 1
                self._overlong = False
            self._overlong = self._overlong or len(rest) >= MAX_LINE
            self._partial = b"" if self._overlong else rest
        return events


def kind_of_event(path: Path, kind: str, most: int = MOST_SCANNED) -> Iterator[dict[str, Any]]:
    """The events of one kind in the first `most` bytes of a file, as `EventTail` gives them.

    Of the other lines, which may be hundreds of thousands, nothing is parsed.
    """
    word = f'"{kind}"'.encode()
    try:
        with path.open("rb") as file:
            while file.tell() < most and (line := file.readline(MAX_LINE)):
                event = _parse(line) if word in line else None
                if event is not None and event["kind"] == kind:
                    yield event
    except OSError:
        return


def _parse(line: bytes) -> dict[str, Any] | None:
    if len(line) >= MAX_LINE:
        return None
    try:
        event = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    for name, types in _ENVELOPE.items():
        if not isinstance(event.get(name), types):
            return None
    if not isinstance(event["data"].get("key", ""), str):
        return None  # the stage it is about: everybody looks that up
    return event if 0 <= event["t"] < LAST else None


def _strict(value: Any) -> Any:
    """`value` in terms of strict JSON."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return _strict(value.tolist())
    return str(value)


_ESCAPES = re.compile(
    # Commands with a text: OSC (titles, links, clipboard), DCS, SOS, PM, APC.
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]"
)
CONTROLS = re.compile(
    # C0 but tab and newline, DEL, C1; half surrogates (cannot be printed); marks and overrides
    # of writing direction (can make a line read differently from what it says).
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def strip_control(text: str) -> str:
    """`text` from a file, made safe to print: no escape sequences, other controls as U+FFFD.

    Tabs and newlines stay. Markup of the display library is the caller's to escape.
    """
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))


def phase_words(data: dict[str, Any]) -> str:
    """What a phase event tells: what goes on, and on which slot if it is one slot's."""
    return f"{data.get('name')} on {data['slot']}" if data.get("slot") else str(data.get("name"))
