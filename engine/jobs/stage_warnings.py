"""What a stage warns of: each text goes out as an event at once, and is kept for its record.

Warnings say what may spoil a result ("50 of 90 test rows are in train"), so whoever uses the result
must hear them, however long ago and wherever it was computed. What went wrong for one attempt only
(a checkpoint for which the disk had no room) is an event and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.jobs.events import EventWriter, strip_control

MOST = 50  # texts of one stage
LONGEST = 1_000  # characters of one
FURTHER = "This stage gave further warnings: too many to keep."


class StageWarnings:
    """Those of one attempt at a stage, each text once, in the order they were given."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events
        self._given: dict[str, None] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._given)

    def give(self, text: str) -> None:
        """Warn, unless it has been said already: a stage may say it at every step."""
        text = one_line(text)
        if len(self._given) >= MOST:
            text = FURTHER
        if text and text not in self._given:
            self._given[text] = None
            self._events.emit("warning", text=text)


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text once, safe to print, on one line and not too long; no more than a stage may give."""
    found: dict[str, None] = {}
    for text in texts:
        if len(found) >= MOST:
            found[FURTHER] = None
            break
        if line := one_line(text):
            found[line] = None
    return tuple(found)


def parse_warnings(value: Any) -> tuple[str, ...]:
    """The warnings of a record, whoever wrote it. Raises TypeError."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError("warnings are no list of strings")
    return distinct(value)


def one_line(text: str) -> str:
    # Cut first: a stranger's text may be megabytes.
    line = " ".join(strip_control(text[: 2 * LONGEST]).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


class Tally:
    """Warning → the stages that gave it, in the order in which the warnings were first heard."""

    def __init__(self) -> None:
        self._stages: dict[str, set[str]] = {}

    def add(self, stage: str, texts: Iterable[str]) -> tuple[str, ...]:
        """Note what a stage warned of; returns what no stage had said before."""
        fresh = []
        for text in texts:
            if text not in self._stages:
                fresh.append(text)
            self._stages.setdefault(text, set()).add(stage)
        return tuple(fresh)

    def settle(self, stage: str, texts: Iterable[str]) -> None:
        """A stage is done: this is all it warned of, whatever its attempts said on the way."""
        final = set(texts)
        for text, stages in list(self._stages.items()):
            if text not in final:
                stages.discard(stage)
                if not stages:
                    del self._stages[text]
        self.add(stage, texts)

    def heard(self, stage: str, text: str) -> bool:
        """Whether this stage has said so."""
        return stage in self._stages.get(text, ())

    def __len__(self) -> int:
        return len(self._stages)

    @property
    def counts(self) -> dict[str, int]:
        """Warning → how many stages gave it."""
        return {text: len(stages) for text, stages in self._stages.items()}
