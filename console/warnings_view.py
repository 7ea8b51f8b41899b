"""What stages warned of, for people and programs: each text once, with how many stages gave it.

The texts are a stage's or a stranger's: on one line and without control characters already; the
markup of rich, of Markdown and of a page is escaped where they go in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from engine.jobs.run_warnings import warnings_of
from engine.jobs.runs import Run
from engine.jobs.stage_warnings import Tally, one_line

MOST = 10  # lines below a table
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")

Event = Mapping[str, Any]


def warning_lines(counts: Mapping[str, int], most: int = MOST) -> list[str]:
    """ "1 warning: data: 50 of 90 test rows are in train."; of several, how many and a line each."""
    told = [counted(text, count) for text, count in counts.items()]
    if len(told) < 2:
        return [f"1 warning: {text}" for text in told]
    more = [f"  and {len(told) - most} more: `chelate runs show RUN`"] if len(told) > most else []
    return [f"{len(told)} warnings:", *(f"  {text}" for text in told[:most]), *more]


def newest(counts: Mapping[str, int]) -> str:
    """One line: how many there are, and the one heard last."""
    if not counts:
        return ""
    text, stages = list(counts.items())[-1]
    many = f"{len(counts)} warnings (w lists them); newest" if len(counts) > 1 else "1 warning"
    return f"{many}: {counted(text, stages)}"


def counted(text: str, stages: int) -> str:
    return f"{text} (×{stages} stages)" if stages > 1 else text


def print_warnings(found: Sequence[Run]) -> None:
    """Those of some runs, below their table."""
    from rich.text import Text

    from console.output import console

    for line in warning_lines(warnings_of(found).counts):
        console().print(Text(f"  {line}"), style="yellow")


def warnings_document(found: Sequence[Run]) -> list[dict[str, Any]]:
    """For programs: every warning with the number of stages."""
    return [{"text": t, "stages": count} for t, count in warnings_of(found).counts.items()]


def to_markdown(found: Sequence[Run]) -> str:
    """A list; empty where nothing was warned of."""
    counts = warnings_of(found).counts
    if not counts:
        return ""
    lines = [MARKDOWN.sub(r"\\\1", counted(text, count)) for text, count in counts.items()]
    return "\nWarnings:\n\n" + "".join(f"- {line}\n" for line in lines)


class NewWarnings:
    """Which warnings of the run that is followed have not been shown yet.

    What fifty stages say in the same words is one line; what the supervisor says is about one event
    each time, and always shown. `stored` tells those of the stages that are done already, when they
    are first needed: of a large run that takes a moment, for which the first painting need not wait.
    """

    def __init__(self, stored: Callable[[], Tally]) -> None:
        self._stored = stored

    @cached_property
    def _tally(self) -> Tally:
        return self._stored()

    def at_first(self) -> tuple[str, ...]:
        """Those of stages that were done before anything was followed."""
        return tuple(self._tally.counts)

    def of(self, event: Event) -> str:
        """The text of an event that is a warning not shown yet; else ""."""
        if event["kind"] != "warning":
            return ""
        text = one_line(str(event["data"].get("text") or ""))
        stage = str(event["stage"])
        return text if text and (self._tally.add(stage, [text]) or not stage) else ""
