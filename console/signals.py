"""What asks a command that looks on to end: Ctrl-C, SIGTERM, and the terminal that is closed."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Requests:
    """Counts what was asked while it is entered, instead of ending the process at once.

    A signal that the process was started to ignore, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[signal.Signals, object] = {}
        self._terminals = {fd for fd in (1, 2) if _is_terminal(fd)}

    @property
    def impatient(self) -> bool:
        """Whether somebody insisted. A terminal that closes says so twice and means it once: what
        it sends never counts as the second."""
        return self.asked > 1

    def __enter__(self) -> Requests:
        for number in ENDS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """A flag and nothing else: the loop that looks on sees it, wherever this interrupts it."""
        if number != signal.SIGHUP:
            self.asked += 1
            return
        self.asked = max(1, self.asked)
        self._let_go_of_terminal()

    def _let_go_of_terminal(self) -> None:
        """What is still to be said would fail where the terminal is gone, and take us with it."""
        for fd in self._terminals:
            if not _is_terminal(fd):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd)
                os.close(nowhere)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
