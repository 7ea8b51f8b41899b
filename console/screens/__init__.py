"""The screens: one module, one class and one style sheet for each mode, loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.screen import Screen

CLASSES = {
    "runs": "RunsScreen",
    "live": "LiveScreen",
    "compare": "CompareScreen",
    "new": "NewScreen",
    "queue": "QueueScreen",
    "logs": "LogsScreen",
}


def make(mode: str) -> Screen[None]:
    """The screen of a mode; its module is loaded the first time somebody goes there."""
    made: Screen[None] = getattr(import_module(f"console.screens.{mode}"), CLASSES[mode])()
    return made
