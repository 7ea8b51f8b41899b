"""Where a supervisor stands: alone over its run, or as one of several that share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.jobs.events import EventWriter


class Ended(Protocol):
    def ended(self) -> list[dict[str, Any]]:
        """The data of `end` events that others have told since the last call."""
        ...


@dataclass(frozen=True)
class Post:
    """`folder` gets events.jsonl and workers.log; `held_wait` is how many seconds pass before asking
    again for a stage that another process computes.

    The rest is for one of several: `name` says which, `host` where; after `patience` seconds without
    anything to do it ends; `others` tells what the others have done.
    """

    folder: Path
    name: str = ""
    host: str = ""
    held_wait: float = 0.3
    patience: float | None = None
    others: Ended | None = None

    def ended(self) -> list[dict[str, Any]]:
        return self.others.ended() if self.others is not None else []

    def place(self, slot: str) -> str:
        """A slot's name among those of the whole run."""
        return f"{self.name} {slot}" if self.name else slot

    def tell_start(self, events: EventWriter, **facts: Any) -> None:
        """Whoever is alone begins a session; who joins one says only that."""
        if self.others is None:
            events.emit("start", **facts)
        else:
            events.emit("phase", name=f"job {self.name} began on {self.host}")

    def tell_end(self, events: EventWriter, outcome: str) -> None:
        if self.others is None:
            events.emit("stopped" if outcome in ("stopped", "paused") else "end", outcome=outcome)
        else:
            events.emit("phase", name=f"job {self.name} ended: {outcome}")
