"""Text in ASCII for terminals that have nothing else (`--ascii`), wherever it comes from."""

from __future__ import annotations

from textual.app import App
from textual.visual import VisualType
from textual.widgets import Static

KNOWN = str.maketrans(
    {"✗": "x", "✓": "+", "✖": "#", "●": "*", "◆": "*", "…": "...", "·": "-", "×": "x", "±": "+-",
     "≤": "<=", "≥": ">=", "→": "->", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"', "↑": "^",
     "↓": "v", "┊": "|", "−": "-", "²": "^2", "σ": "std", "μ": "mean", "α": "alpha", "θ": "theta",
     "⏎": "enter", "ä": "ae", "ö": "oe", "ü": "ue"}
)  # fmt: skip


def in_ascii(text: str) -> str:
    """`text` with what ASCII has for its other characters; ? where it has nothing."""
    return text if text.isascii() else text.translate(KNOWN).encode("ascii", "replace").decode()


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
