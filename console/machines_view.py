"""On which kinds of machine the rows of a table were computed, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from console.warnings_view import MARKDOWN
from engine.jobs.machines import machines_of, mixed
from engine.jobs.runs import Run


def print_machines(found: Sequence[Run]) -> None:
    """Below the table of some runs, where there are several kinds."""
    from rich.text import Text

    from console.output import console

    if told := mixed(machines_of(found)):
        console().print(Text(f"  {told}"), style="yellow")


def machines_document(found: Sequence[Run]) -> list[dict[str, Any]]:
    """For programs: every kind, also where there is one only."""
    return [machine.to_json() for machine in machines_of(found)]


def to_markdown(found: Sequence[Run]) -> str:
    """A paragraph; empty where all is of one kind."""
    told = mixed(machines_of(found))
    return "\n" + MARKDOWN.sub(r"\\\1", told) + ".\n" if told else ""
