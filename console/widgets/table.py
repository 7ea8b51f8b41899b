"""A live table: rows are known by their keys, and an update repaints only what differs.

(Textual's DataTable refreshes as a whole when one cell changes: 41 KiB/s at five updates a second.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.characters import in_ascii
from console.widgets import (
    GAP,
    STYLES,
    Column,
    Piece,
    Row,
    Sort,
    arranged,
    changed_spans,
    fitted,
    ordered,
    plain,
)
from console.widgets.words import wants_ascii


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows with a cursor, marks and an order. The cursor stays on its row when rows move."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--cursor",
        "table--mark",
        *(f"table--{style}" for style in STYLES),
    }
    DEFAULT_CSS = """
    Table {
        height: 1fr; width: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        .table--header { text-style: bold; color: $foreground 75%; }
        .table--cursor { text-style: bold; background: $foreground 15%; }
        &:ansi .table--cursor, &:nocolor .table--cursor { text-style: bold underline; }
        &:focus .table--cursor { text-style: reverse; background: 0%; }
        .table--mark { color: $accent; text-style: bold; }
        .table--good { color: $success; }
        .table--bad { color: $error; }
        .table--warn { color: $warning; }
        .table--muted { color: $foreground 55%; }
        .table--strong { text-style: bold; }
        .table--accent { color: $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", id="table.up", show=False),
        Binding("down", "move(1)", "Down", id="table.down", show=False),
        Binding("pageup", "page(-1)", "Page up", id="table.page_up", show=False),
        Binding("pagedown", "page(1)", "Page down", id="table.page_down", show=False),
        Binding("home", "first", "First row", id="table.first", show=False),
        Binding("end", "last", "Last row", id="table.last", show=False),
        Binding("left", "columns(-1)", "Columns on the left", id="table.left", show=False),
        Binding("right", "columns(1)", "Columns on the right", id="table.right", show=False),
        Binding("enter", "select", "Open", id="table.select", show=False),
    ]

    class Event(Message):
        def __init__(self, table: Table) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table:
            return self.table

    class RowHighlighted(Event):
        """The cursor is on another row (`key`; None when there are no rows)."""

        def __init__(self, table: Table, key: str | None) -> None:
            super().__init__(table)
            self.key = key

    class RowSelected(Event):
        """Enter, or a click on the row of the cursor."""

        def __init__(self, table: Table, key: str) -> None:
            super().__init__(table)
            self.key = key

    class MarksChanged(Event):
        """See `marked`."""

    class SortChanged(Event):
        """See `sort`."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "",
        marks: bool = False,
        ascii: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = list(columns)
        self.empty, self.marks, self.ascii = empty, marks, ascii
        self.sort: Sort | None = None
        self.marked: set[str] = set()
        self.rows: list[Row] = []
        self._given: list[Row] = []
        self._index: dict[str, int] = {}
        self._at = 0
        self._key: str | None = None
        self._told: str | None = None  # what the last RowHighlighted said
        self._skip = 0
        self._layout: list[tuple[Column, int]] = []
        self._lines: dict[int, list[Piece]] = {}  # as last painted, by line of the screen

    # --- contents ---

    def update(self, rows: Iterable[Row]) -> None:
        """Show these rows. Of several with one key, the first."""
        self._given = list({row.key: row for row in reversed(list(rows))}.values())[::-1]
        self._arrange()

    def set_columns(self, columns: Sequence[Column]) -> None:
        self.columns, self._skip = list(columns), 0
        self._relayout()

    def sort_by(self, column: str | None, descending: bool | None = None) -> None:
        """Order by a column: the other way round when it is already the one. None: as given."""
        if descending is None:
            descending = self.sort is not None and self.sort == (column, False)
        self.sort = None if column is None else (column, descending)
        self._arrange()
        self.post_message(self.SortChanged(self))

    def _arrange(self) -> None:
        self.rows = ordered(self._given, self.sort)
        self._index = {row.key: index for index, row in enumerate(self.rows)}
        at = self._index.get(self._key, self._at) if self._key is not None else self._at
        seen = self._in_view()
        if self.is_mounted:
            self._fit_height()
        self._go(at, show=seen)  # who has scrolled away with the wheel is left there

    # --- the cursor ---

    @property
    def cursor_key(self) -> str | None:
        return self._key if self._key in self._index else None

    @property
    def cursor_row(self) -> int:
        return self._at

    def move_to(self, place: int | str) -> None:
        """Put the cursor on a row, by its index or its key."""
        at = self._index.get(place) if isinstance(place, str) else place
        if at is not None:
            self._go(at)

    def _go(self, at: int, show: bool = True) -> None:
        if not self.rows:
            highlighted, self._at = None, 0
        else:
            self._at = min(max(at, 0), len(self.rows) - 1)
            highlighted = self.rows[self._at].key
        if highlighted is not None:  # when the rows come back, so does the cursor
            self._key = highlighted
        if self.is_mounted:
            if show:
                self._show_cursor()
            self._repaint()
            if highlighted != self._told:
                self._told = highlighted
                self.post_message(self.RowHighlighted(self, highlighted))

    def _in_view(self) -> bool:
        return self.scroll_offset.y <= self._at < self.scroll_offset.y + max(1, self._page)

    def _show_cursor(self) -> None:
        page, top = self._page, self.scroll_offset.y
        if self._at < top:
            self.scroll_to(y=self._at, animate=False, force=True)
        elif page and self._at >= top + page:
            self.scroll_to(y=self._at - page + 1, animate=False, force=True)

    @property
    def _header(self) -> int:
        return 1 if self.size.height >= 3 else 0

    @property
    def _page(self) -> int:
        return max(0, self.size.height - self._header)

    def action_move(self, rows: int) -> None:
        self._go(self._at + rows)

    def action_page(self, pages: int) -> None:
        self._go(self._at + pages * max(1, self._page - 1))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(len(self.rows) - 1)

    def action_columns(self, step: int) -> None:
        hidden = len(self._layout) < len(self.columns) - self._skip
        if step < 0 or hidden:
            self._skip = min(max(0, self._skip + step), max(0, len(self.columns) - 2))
            self._relayout()

    def action_select(self) -> None:
        if (key := self.cursor_key) is not None:
            self.post_message(self.RowSelected(self, key))

    def action_mark(self) -> None:
        """Mark the row of the cursor, or take its mark away."""
        if self.marks and (key := self.cursor_key) is not None:
            self.marked ^= {key}
            self._repaint()
            self.post_message(self.MarksChanged(self))

    def on_click(self, event: events.Click) -> None:
        line = event.get_content_offset(self)
        if line is None:
            return
        if line.y < self._header:
            x = line.x - (2 if self.marks else 0)
            for column, width in self._layout:
                if 0 <= x <= width:
                    self.sort_by(column.key)
                    return
                x -= width + GAP
            return
        at = line.y - self._header + self.scroll_offset.y
        if at == self._at:
            self.action_select()
        elif at < len(self.rows):
            self._go(at)

    # --- painting ---

    def _repaint(self) -> None:
        """Refresh the spans of the lines in view that are not as last painted."""
        regions = []
        for y in range(self.size.height):
            old, new = self._lines.get(y), self._line(y)
            self._lines[y] = new
            if old is None:
                regions.append(Region(0, y, self.size.width, 1))
            elif old != new:
                regions += [Region(a, y, b - a, 1) for a, b in changed_spans(old, new)]
        if regions:
            self.refresh(*regions)

    def _line(self, y: int) -> list[Piece]:
        width, header = self.size.width, self._header
        if not self._layout and self.columns:
            self._layout = arranged(self.columns, width - (2 if self.marks else 0), self._skip)
        if y < header:
            return self._titles(width)
        at = y - header + self.scroll_offset.y
        if not self.rows:
            lines = self.empty.splitlines()
            text = lines[at] if at < len(lines) else ""
            return [
                Piece(
                    0,
                    width,
                    fitted(self._words(text), width, ellipsis=self._ellipsis),
                    "muted",
                )
            ]
        if at >= len(self.rows):
            return [Piece(0, width, " " * width, "")]
        row = self.rows[at]
        cursor = "cursor" if at == self._at else ""
        pieces, x = [], 0
        if self.marks:
            sign = ("* " if self.ascii else "● ") if row.key in self.marked else "  "
            pieces.append(Piece(0, 2, sign, cursor or "mark"))
            x = 2
        for column, wide in self._layout:
            text, style = row.cell(column.key)
            shown = fitted(self._words(text), wide, column.align, self._ellipsis) + " " * GAP
            pieces.append(Piece(x, wide + GAP, shown, cursor or style))
            x += wide + GAP
        pieces.append(Piece(x, max(0, width - x), " " * max(0, width - x), cursor))
        return pieces

    def _titles(self, width: int) -> list[Piece]:
        up, down, more = "^v>" if self.ascii else "▲▼›"
        text = "  " if self.marks else ""
        for column, wide in self._layout:
            title = plain(self._words(column.title))
            if self.sort is not None and self.sort[0] == column.key:
                sign = down if self.sort[1] else up
                title = fitted(title, min(len(title), wide - 1), ellipsis=self._ellipsis) + sign
            text += fitted(title, wide, column.align, self._ellipsis) + " " * GAP
        if len(self._layout) < len(self.columns):
            text = fitted(text, width - 1) + more
        return [Piece(0, width, fitted(text, width, ellipsis=self._ellipsis), "header")]

    def _words(self, text: str) -> str:
        return in_ascii(text) if self.ascii else text

    @property
    def _ellipsis(self) -> str:
        return "~" if self.ascii else "…"

    def render_line(self, y: int) -> Strip:
        pieces = self._lines[y] = self._line(y)
        runs: list[tuple[str, str]] = []
        for _, _, text, style in pieces:  # blanks join what is before them: fewer escape codes
            if runs and (style == runs[-1][1] or (not text.strip() and "cursor" not in style)):
                runs[-1] = runs[-1][0] + text, runs[-1][1]
            else:
                runs.append((text, style))
        segments = [Segment(text, self._paint(style)) for text, style in runs]
        return Strip(segments).crop_extend(0, self.size.width, self.rich_style)

    def _paint(self, name: str) -> Style:
        """The Rich style of a name; one that is not known counts for nothing."""
        known = f"table--{name}" in self.COMPONENT_CLASSES
        return self.get_component_rich_style(f"table--{name}") if known else self.rich_style

    def on_mount(self) -> None:
        self.ascii = self.ascii or wants_ascii(self.app)
        self._relayout()

    def on_resize(self) -> None:
        self._relayout()
        self._show_cursor()

    def _relayout(self) -> None:
        self._layout = []
        self._lines.clear()
        if self.is_mounted:
            self._fit_height()
            self.refresh()

    def _fit_height(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows) + self._header)

    # --- memory ---

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {"cursor": self._key, "sort": list(self.sort) if self.sort else None}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up an earlier state, before or after the rows are there; nonsense is ignored."""
        match state.get("sort"):
            case [str(column), bool(descending)]:
                self.sort = column, descending
        if isinstance(state.get("cursor"), str):
            self._key = state["cursor"]
        self._arrange()
