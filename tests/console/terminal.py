"""The console on a real pseudo-terminal, with a screen that understands what it writes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

# pyte does not know kitty's keyboard protocol, synchronised output and other private modes.
UNKNOWN = re.compile(rb"\x1b\[[<>=?][0-9;]*[uqpm]|\x1b\[\?[0-9;]*\$p|\x1b\[>[0-9;]*[a-z]")

HOME = "\x1b[H"


class Terminal:
    """`program` with `argv` on a pty of some size. `bytes` counts what it wrote."""

    def __init__(
        self,
        *argv: str,
        size: tuple[int, int] = (80, 24),
        term: str = "xterm-256color",
        program: str = sys.executable,
        env: dict[str, str] | None = None,
    ) -> None:
        self.bytes = 0
        self.raw = b""
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        given = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "TEXTUAL"))}
        given |= {"TERM": term, "COLORTERM": "", "PYTHONUNBUFFERED": "1"} | (env or {})
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(program, [program, *argv], given)
        self.resize(*size)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.screen.resize(height, width)

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def read(self, seconds: float) -> bytes:
        """Take what comes for so long."""
        got, until = b"", time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], min(left, 0.02))[0]:
                continue
            try:
                chunk = os.read(self.fd, 1 << 16)
            except OSError:
                break
            if not chunk:
                break
            got += chunk
            self.bytes += len(chunk)
            self.raw = (self.raw + chunk)[-200_000:]
            if b"\x1b[?2026$p" in chunk:
                os.write(self.fd, b"\x1b[?2026;0$y")
            self._stream.feed(UNKNOWN.sub(b"", chunk))
        return got

    def until(self, text: str, seconds: float = 40.0) -> float:
        """Wait until `text` is on the screen; how long it took. Fails with the screen."""
        return self.until_true(lambda: text in self.text, repr(text), seconds)

    def until_true(self, true: Callable[[], object], what: str, seconds: float = 40.0) -> float:
        since = time.monotonic()
        while not true():
            if time.monotonic() - since > seconds:
                raise AssertionError(f"no {what} on the screen:\n{self.text}")
            self.read(0.02)
        return time.monotonic() - since

    @property
    def cursor_line(self) -> str:
        """The text in reverse video below the title: what the cursor of a table is on."""
        lines = (self.screen.buffer[y] for y in range(1, self.screen.lines))
        marked = ("".join(c.data for _, c in sorted(line.items()) if c.reverse) for line in lines)
        return next((text for text in marked if text.strip()), "")

    def settled_cursor(self, after: str = "", seconds: float = 6.0) -> str:
        """The cursor's line once it is another than `after` (or so long has gone by) and stays."""
        since = time.monotonic()
        while (now := self.cursor_line) in ("", after) and time.monotonic() < since + seconds:
            self.read(0.02)
        while True:
            self.read(0.1)  # a line may arrive in pieces
            if now == self.cursor_line:
                return now
            now = self.cursor_line

    def down_to(self, words: str) -> None:
        """Press j until the cursor's line begins with these words. On a machine so busy that a
        line is passed before it is seen: once more from the top."""
        for _ in range(3):
            here, last = self.settled_cursor(), ""
            while here != last:
                if " ".join(here.split()).startswith(words):
                    return
                self.send("j")
                here, last = self.settled_cursor(here), here
            self.send(HOME)
            self.settled_cursor(here)
        raise AssertionError(f"{words} cannot be reached:\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def alive(self) -> bool:
        pid, _ = os.waitpid(self.pid, os.WNOHANG)
        return pid == 0

    def ended(self, seconds: float = 5.0) -> bool:
        """Whether the process ends within so long; its status is then in `status`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                self.pid = 0
                return True
        return False

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def console(home: Path, *options: str) -> tuple[str, ...]:
    """argv of `chelate --home …`."""
    return ("-m", "chelate", "--home", str(home), *options)
