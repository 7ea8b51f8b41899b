"""Text in ASCII for terminals that have nothing else (`--ascii`), wherever it comes from."""

from __future__ import annotations

from textual.app import App
from textual.visual import VisualType
from textual.widgets import Static

from console.characters import in_ascii


def wants_ascii(app: App[object]) -> bool:
    return bool(getattr(app, "ascii", False))


class Words(Static):
    """Static text as it is (no markup), in ASCII where that is wanted."""

    def __init__(self, text: str = "", *, id: str | None = None, classes: str | None = None):
        super().__init__(text, id=id, classes=classes, markup=False)

    def on_mount(self) -> None:
        if wants_ascii(self.app):
            self.update(self.content)

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        if isinstance(content, str) and wants_ascii(self.app):
            content = in_ascii(content)
        super().update(content, layout=layout)
