"""What stages warned of, on the screens that show a run: one line while there is any, and a page."""

from __future__ import annotations

from collections.abc import Mapping

from console.screens.base import ConsoleScreen
from console.screens.choose import Page
from console.warnings_view import counted, newest
from console.widgets.words import Words


class WarningLine(Words):
    """How many warnings there are, and the newest. Takes no room while there is none."""

    DEFAULT_CSS = """
    WarningLine { height: 1; padding: 0 1; color: $warning; display: none;
                  text-wrap: nowrap; text-overflow: ellipsis; }
    WarningLine.-some { display: block; }
    """


class WarnedScreen(ConsoleScreen):
    """A screen with a WarningLine, filled by `show_warnings`."""

    def runs_shown(self) -> str:
        """The ids of the runs that are shown, in at most 60 columns."""
        raise NotImplementedError

    _warnings: Mapping[str, int] = {}  # text, of how many stages; the newest last

    def show_warnings(self, counts: Mapping[str, int]) -> None:
        if counts != self._warnings:
            self._warnings = dict(counts)
            line = self.query_one(WarningLine)
            line.set_class(bool(counts), "-some")
            line.update(newest(counts))

    def action_warnings(self) -> None:
        """All of them, to read in full."""
        told = [counted(text, count) for text, count in self._warnings.items()]
        self.app.push_screen(
            Page(f"What stages warned of: {self.runs_shown()}", "\n\n".join(told) or "Nothing.")
        )
