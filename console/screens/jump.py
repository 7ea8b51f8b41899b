"""Jump mode: a letter on every pane, and that letter goes there."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from console.screens.dialog import Dialog

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class JumpScreen(Dialog[None]):
    def __init__(self, below: Screen[None]) -> None:
        super().__init__()
        panes = [w for w in below.query("*") if w.focusable and w.region.area]
        self.targets: dict[str, Widget] = dict(zip(LETTERS, panes, strict=False))

    def compose(self) -> ComposeResult:
        for letter, pane in self.targets.items():
            label = Static(letter, classes="jump-label", markup=False)
            label.styles.offset = (pane.region.x, pane.region.y)
            yield label

    def on_key(self, event: events.Key) -> None:
        event.stop()
        target = self.targets.get(event.character or "")
        self.dismiss()
        if target is not None:
            target.focus()
