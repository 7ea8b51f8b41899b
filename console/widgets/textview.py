"""Lines of text that grow at the end: follow the end, walk, search. Nothing is wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from console.widgets import plain

Line = tuple[str, str]  # text and its level: "", good, warning, error, muted
SIDEWAYS = 16  # columns at a time


class TextView(Widget, can_focus=True):
    """Shows lines it is given anew each time; `start` says how many came before the first, so
    that a place stays the same line while old ones fall away."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text--good", "text--warning", "text--error", "text--muted", "text--hit", "text--here",
    }  # fmt: skip
    DEFAULT_CSS = """
    TextView { height: 1fr; width: 1fr; }
    TextView .text--good { color: $success; }
    TextView .text--warning { color: $warning; }
    TextView .text--error { color: $error; }
    TextView .text--muted { color: $foreground 55%; }
    TextView .text--hit { text-style: reverse; }
    TextView .text--here { text-style: bold; color: $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "top", show=False),
        Binding("end,G", "end", show=False),
        Binding("left,h", "sideways(-1)", show=False),
        Binding("right,l", "sideways(1)", show=False),
    ]

    class Moved(Message):
        """The place, the following, or the search changed."""

    def __init__(
        self, title: str = "", *, empty: str = "", ascii: bool = False, id: str | None = None,
        classes: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(id=id, classes=classes)
        self.title, self.empty, self.ascii = title, empty, ascii
        self.tail = True
        self.query_text = ""
        self.hit: int | None = None  # number of the line found last, counted from the first ever
        self._lines: Sequence[Line] = ()
        self._start = 0
        self._top = 0  # number of the first line shown
        self._left = 0
        self._painted: list[list[Line]] = []

    # --- contents ---

    def show(self, lines: Sequence[Line], start: int = 0, empty: str | None = None) -> None:
        if empty is not None:
            self.empty = empty
        if start < self._start:  # another text
            self._top, self.hit = start, None
        self._lines, self._start = lines, start
        self._settle()

    @property
    def lines(self) -> Sequence[Line]:
        return self._lines

    @property
    def room(self) -> int:
        return max(1, self.size.height - (1 if self.title else 0))

    @property
    def visible_lines(self) -> list[str]:
        first = self._top - self._start
        return [text for text, _ in self._lines[first : first + self.room]]

    def _settle(self) -> None:
        last = max(self._start, self._start + len(self._lines) - self.room)
        self._top = last if self.tail else min(max(self._top, self._start), last)
        self._repaint()

    # --- walking ---

    def go(self, top: int) -> None:
        last = self._start + max(0, len(self._lines) - self.room)
        self._top = min(max(top, self._start), last)
        self.tail = self._top >= last
        self._repaint()
        self.post_message(self.Moved())

    def action_by(self, lines: int) -> None:
        self.go(self._top + lines)

    def action_page(self, pages: int) -> None:
        self.go(self._top + pages * max(1, self.room - 1))

    def action_top(self) -> None:
        self.go(self._start)

    def action_end(self) -> None:
        self.go(self._start + len(self._lines))

    def action_sideways(self, steps: int) -> None:
        self._left = max(0, self._left + steps * SIDEWAYS)
        self._repaint()

    def toggle_tail(self) -> None:
        self.tail = not self.tail
        self._settle()
        self.post_message(self.Moved())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_by(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_by(3)

    # --- searching ---

    def search(self, query: str) -> None:
        """Mark where the text occurs, whatever the case, and go to the last place before the end
        of what is shown."""
        self.query_text = query
        self.hit = None
        if query:
            self.next_hit(-1, self._top + self.room)
        self._repaint()

    def next_hit(self, direction: int, since: int | None = None) -> bool:
        """Go to the next line (or with -1 the one before) that matches; around the ends."""
        count = len(self._lines)
        if not self.query_text or not count:
            return False
        at = since if since is not None else self.hit if self.hit is not None else self._top
        wanted = self.query_text.lower()
        for step in range(1, count + 1):
            index = (at - self._start + direction * step) % count
            if wanted in self._lines[index][0].lower():
                self.hit = self._start + index
                if not self._top <= self.hit < self._top + self.room:
                    self.go(self.hit - self.room // 2)
                self._repaint()
                self.post_message(self.Moved())
                return True
        return False

    def hits(self) -> int:
        wanted = self.query_text.lower()
        return sum(wanted in text.lower() for text, _ in self._lines) if wanted else 0

    # --- painting ---

    def _compose_line(self, y: int) -> list[Line]:
        if self.title and y == 0:
            return [(self._heading(), "muted")]
        row = y - (1 if self.title else 0)
        if not self._lines:
            return [(self.empty if row == 0 else "", "muted")]
        number = self._top + row
        index = number - self._start
        if not 0 <= index < len(self._lines):
            return [("", "")]
        text, level = self._lines[index]
        text = plain(text)[self._left :]
        if number == self.hit:
            level = "here"
        if not self.query_text:
            return [(text, level)]
        pieces: list[Line] = []
        folded, wanted, at = text.lower(), self.query_text.lower(), 0
        while (found := folded.find(wanted, at)) >= 0 and len(folded) == len(text):
            pieces += [(text[at:found], level), (text[found : found + len(wanted)], "hit")]
            at = found + len(wanted)
        return [*pieces, (text[at:], level)]

    def _heading(self) -> str:
        total = self._start + len(self._lines)
        parts = [self.title]
        if total:
            parts.append("following" if self.tail else f"{self._top + self.room} of {total}")
        if self.query_text:
            parts.append(f"“{self.query_text}” {self.hits()} lines")
        if self._left:
            parts.append(f"from column {self._left + 1}")
        return ("  " if self.ascii else " · ").join(parts)

    def _repaint(self) -> None:
        if not self.is_mounted or not self.size.area:
            return
        fresh = [self._compose_line(y) for y in range(self.size.height)]
        old, self._painted = self._painted, fresh
        if len(old) != len(fresh):
            self.refresh()
            return
        for y, (before, after) in enumerate(zip(old, fresh, strict=True)):
            if before != after:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        segments = [
            Segment(text, self._paint(level)) for text, level in self._compose_line(y) if text
        ]
        width = sum(cell_len(segment.text) for segment in segments)
        return Strip(segments, width).crop_extend(0, self.size.width, self.rich_style)

    def _paint(self, level: str) -> Style:
        known = f"text--{level}" in self.COMPONENT_CLASSES
        return self.get_component_rich_style(f"text--{level}") if known else self.rich_style

    def on_resize(self) -> None:
        self._painted = []
        self._settle()

    def on_focus(self) -> None:
        self.refresh()
