"""What an attempt at a stage said, with what the attempts said from whose checkpoints it goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.watching.histograms import number
from engine.jobs.events import EventTail
from engine.jobs.runs import Run, attempt_folder

Event = dict[str, Any]


@dataclass
class _Part:
    """One attempt, up to the step at which the next one went on, and what of it was not told yet."""

    tail: EventTail
    attempt: int
    end: float
    waiting: list[Event] = field(default_factory=list)


class TrajectoryTail:
    """Reads like an `EventTail`, but an attempt that went on from a checkpoint is preceded by the
    metrics and probes that led to it: no gap, and no step twice."""

    def __init__(self, run: Run, key: str, folder: Path) -> None:
        self._run = run
        self._key = key
        attempt = folder.name.rpartition(".")[2]
        tail = EventTail(folder / "events.jsonl")
        # The first attempt comes last: what it says must be told before.
        self._parts = [_Part(tail, int(attempt) if attempt.isdigit() else 0, math.inf)]

    @property
    def behind(self) -> bool:
        return len(self._parts) > 1 or bool(self._parts[0].waiting) or self._parts[0].tail.behind

    def read(self, most: int | None = None) -> list[Event]:
        part = self._parts[-1]
        events = part.waiting or part.tail.read(most)
        part.waiting = []
        told: list[Event] = []
        for place, event in enumerate(events):
            if part.end == math.inf or self._led_on(event, part.end):
                told.append(event)
            if event["kind"] == "checkpoint" and self._go_back(part, event["data"]):
                part.waiting = events[place + 1 :]
                break
        if part is self._parts[-1] and len(self._parts) > 1 and not part.tail.behind:
            self._parts.pop()
        return told

    def _led_on(self, event: Event, end: float) -> bool:
        return event["kind"] in ("metric", "probe") and number(event["data"].get("step")) <= end

    def _go_back(self, part: _Part, data: dict[str, Any]) -> bool:
        """Whether an earlier attempt is to be read first."""
        attempt, step = data.get("resumed"), number(data.get("step"))
        if not isinstance(attempt, int) or not 0 < attempt < part.attempt:
            return False
        folder = attempt_folder(self._run, self._key, attempt)
        if folder is None or math.isnan(step):
            return False
        tail = EventTail(folder / "events.jsonl")
        self._parts.append(_Part(tail, attempt, min(step, part.end)))
        return True
