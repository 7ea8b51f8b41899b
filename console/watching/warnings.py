"""What the stages of the open run warned of: of those under way as it comes, of the others from their
records.
"""

from __future__ import annotations

import time
from collections import deque

from engine.jobs.run_warnings import recorded, warnings_of_attempt
from engine.jobs.runs import Run
from engine.jobs.stage_warnings import Tally, one_line


class FeedWarnings:
    """`told` has each text once, with how many stages gave it, the newest last."""

    def __init__(self, run: Run) -> None:
        self.told: tuple[tuple[str, int], ...] = ()
        self._run = run
        self._tally = Tally()
        self._unread: deque[str] = deque()  # stages that were done when the run was opened

    def stored(self, key: str) -> None:
        """A stage is done since before the run was opened; `read` will look at its record."""
        self._unread.append(key)

    @property
    def behind(self) -> bool:
        return bool(self._unread)

    def read(self, until: float) -> bool:
        """Look at records that nobody has looked at, until then; whether anything is new."""
        before = self.told
        while self._unread and time.monotonic() < until:
            self.ended(self._unread.popleft(), 0)
        return self.told != before

    def ended(self, key: str, attempt: int) -> tuple[str, ...]:
        """A stage has ended, with a result or without; what is new of what it warned of."""
        record = self._run.store.record(key)
        if record is not None:
            texts = recorded(self._run.store, record)
        elif attempt:
            texts = warnings_of_attempt(self._run.folder / "attempts" / f"{key[:16]}.{attempt}")
        else:
            return ()
        fresh = self._fresh(key, texts)
        if record is not None:
            self._tally.settle(key, texts)
        else:
            self._tally.add(key, texts)
        self._tell()
        return fresh

    def heard(self, key: str, text: object) -> tuple[str, ...]:
        """A stage under way warns; what is new of it."""
        line = one_line(text) if isinstance(text, str) else ""
        fresh = self._fresh(key, (line,) if line else ())
        if fresh:
            self._tally.add(key, fresh)
            self._tell()
        return fresh

    def _fresh(self, key: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in texts if not self._tally.heard(key, text))

    def _tell(self) -> None:
        self.told = tuple(self._tally.counts.items())
