"""Help: what the screen shows, its keys, the signs. All of it from the registry."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from console.actions import MODES, actions_of
from console.screens.base import ConsoleScreen
from console.screens.dialog import Dialog
from console.themes import SIGNS

MOVING = (
    ("↑ ↓ j k", "Up and down; pgup, pgdn, g or home, G or end."),
    ("← →", "Columns of a table that do not fit; earlier and later on a chart."),
    ("tab", "The next pane."),
)


def help_text(mode: str, about: str, read_only: bool, ascii_: bool = False) -> Text:
    """Everything there is to know about a screen."""
    text = Text()
    text.append(f"{MODES.get(mode, mode)}\n", "bold")
    if about:
        text.append(about + "\n")
    sections: list[tuple[str, list[tuple[str, str]]]] = [("Keys of this screen", [])]
    own = sections[0][1]
    everywhere: list[tuple[str, str]] = []
    for action in actions_of(mode, read_only):
        keys = " ".join(action.keys if ascii_ else action.shown_keys) or ": " + action.title.lower()
        (own if action.screens else everywhere).append((keys, action.help))
    sections += [("Moving", list(MOVING)), ("Everywhere", everywhere)]
    for heading, lines in sections:
        if lines:
            text.append(f"\n{heading}\n", "bold")
        for keys, told in lines:
            text.append(f"  {keys:<10} ", "bold")
            text.append(f"{told}\n")
    text.append("\nSigns\n", "bold")
    text.append("  " + "  ".join(f"{signs[ascii_]} {name}" for name, signs in SIGNS.items()))
    text.append("\n\nesc or ? closes this. chelate runs without the console: `chelate --help`.")
    return text


class HelpScreen(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(15)", show=False),
        Binding("pageup", "scroll(-15)", show=False),
    ]

    def __init__(self, about: ConsoleScreen, read_only: bool) -> None:
        super().__init__()
        self.told = help_text(about.MODE, about.HELP, read_only, about.chelate.ascii)

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(self.told)

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
