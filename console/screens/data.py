"""The data of runs on a page of the console, as `chelate data RUN` tells them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from textual.worker import get_current_worker

from console.screens.base import ConsoleScreen
from console.screens.choose import Page
from console.selection import named
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

MARGIN = 10  # columns beside the text of a page


def show_data(screen: ConsoleScreen, found: Sequence[Run]) -> None:
    """Reads the store in a thread, then opens the page."""
    width = min(100, max(50, screen.size.width - MARGIN))
    read = partial(_read, screen, list(found), width)
    screen.run_worker(read, group="data", thread=True, exclusive=True, exit_on_error=False)


def _read(screen: ConsoleScreen, found: list[Run], width: int) -> None:
    from console.datasets import (
        full_text,
    )  # pydantic and all components: not before it is asked for

    try:
        text = "\n\n".join(full_text(run, width) for run in found)
    except (BadInput, OSError) as error:
        screen.app.call_from_thread(screen.say, str(error), "error")
        return
    page = Page(f"Data of {named([run.id for run in found], width - 8)}", text)
    if not get_current_worker().is_cancelled:
        screen.app.call_from_thread(
            screen.app.push_screen,
            page,
        )
