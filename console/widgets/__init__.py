"""Widgets that repaint only what changed, so that a live screen is cheap over SSH."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console, RenderableType
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.app import App, ReturnType
from textual.strip import Strip

if TYPE_CHECKING:
    from textual.screen import Screen

MERGED_GAP = 10  # cells: moving the cursor over fewer costs more bytes than writing them
Align = Literal["left", "right", "center"]
STYLES = ("good", "bad", "warn", "muted", "strong", "accent")  # of cells
GAP = 1  # cells between columns
Sort = tuple[str, bool]  # column, descending


class SpanUpdate(CompositorUpdate):
    """An update that writes the dirty spans and nothing else, and each colour once.

    Textual cuts a dirty span at its right end only: it writes the line of the widget from its
    left edge, once for every span, so a change in the last column costs the whole line. And it
    sets and resets the colours of every segment, about 40 bytes even when they are as before.
    """

    def __init__(self, update: ChopsUpdate | LayoutUpdate) -> None:
        self.update = update

    def render_segments(self, console: Console) -> str:
        colours = console._color_system or ColorSystem.TRUECOLOR
        written, before, cursor = [], "", (-1, -1)
        for y, x, strip in self._pieces():
            if (x, y) != cursor:
                written.append(f"\x1b[{y + 1};{x + 1}H")
            cursor = x + strip.cell_length, y
            for text, style, _ in strip:
                codes = Strip.render_ansi(style, colours) if style else ""
                if codes != before:
                    written.append(f"\x1b[0;{codes}m" if codes else "\x1b[0m")
                    before = codes
                written.append(_linked(text, style.link) if style and style.link else text)
        return "".join(written) + ("\x1b[0m" if before else "")

    def _pieces(self) -> Iterator[tuple[int, int, Strip]]:
        """(line, column, what to write there)"""
        if isinstance(self.update, LayoutUpdate):
            for y, line in enumerate(self.update.strips, self.update.region.y):
                x = self.update.region.x
                for strip in line:
                    yield y, x, strip
                    x += strip.cell_length
            return
        for y, start, end in self.update.spans:
            pieces = self.update.chops[y].items()
            for stop, (x, chop) in zip(self.update.chop_ends[y], pieces, strict=False):
                left, right = max(x, start), min(stop, end)
                if chop is not None and left < right:
                    yield y, left, chop.crop(left - x, right - x)


def _linked(text: str, link: str) -> str:
    return f"\x1b]8;;{link}\x1b\\{text}\x1b]8;;\x1b\\"


class SpanApp(App[ReturnType]):
    """An App whose updates are `SpanUpdate`s.

    `_display` and the updates are private names of Textual: the pin is exact, and a test counts
    the bytes of a change at the right edge.
    """

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if isinstance(renderable, ChopsUpdate | LayoutUpdate):
            renderable = cast("RenderableType", SpanUpdate(renderable))
        super()._display(screen, renderable)


# --- text in cells ---


@lru_cache(8192)
def plain(text: str) -> str:
    """`text` on one line, without control characters: nothing in it reaches the terminal as a
    command."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)


@lru_cache(8192)
def fitted(text: str, width: int, align: Align = "left", ellipsis: str = "…") -> str:
    """Plain `text` in exactly `width` columns; what is cut ends in the ellipsis."""
    text, width = plain(text), max(0, width)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + ellipsis if width else ""
    before = {"left": 0, "center": (width - length) // 2, "right": width - length}[align]
    return " " * before + text + " " * (width - length - before)


class Piece(NamedTuple):
    """A part of a line: its text is as wide as its place, and painted in one style."""

    x: int
    width: int
    text: str
    style: str


def changed_spans(old: list[Piece], new: list[Piece]) -> list[tuple[int, int]]:
    """(start, end) of the parts of a line that differ; pieces of wide characters count whole."""
    spans: list[tuple[int, int]] = []
    if [piece[:2] for piece in old] != [piece[:2] for piece in new]:
        ends = [piece.x + piece.width for piece in (*old, *new)]
        return [(0, max(ends, default=0))]
    for before, after in zip(old, new, strict=True):
        if before == after:
            continue
        start, end = 0, after.width
        if before.style == after.style and len(before.text) == len(after.text) == after.width:
            differs = [a != b for a, b in zip(before.text, after.text, strict=True)]
            start, end = differs.index(True), len(differs) - differs[::-1].index(True)
        if spans and after.x + start - spans[-1][1] <= MERGED_GAP:
            spans[-1] = spans[-1][0], after.x + end
        else:
            spans.append((after.x + start, after.x + end))
    return spans


# --- the rows and columns of a table ---


@dataclass(frozen=True)
class Column:
    """`width` is what it would like, `min` (0: the same) what it can do with, `grow` its share of
    room to spare. On a narrow screen the columns of lowest `priority` are hidden first."""

    key: str
    title: str
    width: int = 10
    min: int = 0
    align: Align = "left"
    priority: int = 1
    grow: int = 0

    @property
    def least(self) -> int:
        return min(self.min, self.width) if self.min > 0 else max(1, self.width)


class Cell(NamedTuple):
    """Text as it is (no markup), and one of `STYLES` or nothing."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """`cells` by column key; `values` are what a column is sorted by, where not by its text."""

    key: str
    cells: Mapping[str, str | Cell] = field(default_factory=dict)
    values: Mapping[str, float | str | None] = field(default_factory=dict)

    def cell(self, column: str) -> Cell:
        found = self.cells.get(column, "")
        return Cell(found) if isinstance(found, str) else found


def arranged(columns: Sequence[Column], room: int, skip: int = 0) -> list[tuple[Column, int]]:
    """The columns that fit in `room` cells and their widths, with GAP cells after each.

    `skip` hides as many columns after the first, to look at those on the right.
    """
    kept = [*columns[:1], *columns[1 + skip :]] if skip else list(columns)
    while len(kept) > 1 and sum(column.least + GAP for column in kept) > room:
        if skip:
            kept.pop()
        else:
            lowest = min(column.priority for column in kept)
            kept.remove([column for column in kept if column.priority == lowest][-1])
    widths = {column.key: column.least for column in kept}
    spare = room - sum(width + GAP for width in widths.values())
    for column in sorted(kept, key=lambda column: -column.priority):
        more = min(max(0, spare), column.width - widths[column.key])
        widths[column.key] += more
        spare -= more
    shares = sum(column.grow for column in kept)
    for column in kept:
        if column.grow and spare > 0:
            more = spare * column.grow // shares
            widths[column.key] += more
            spare, shares = spare - more, shares - column.grow
    if len(kept) == 1:
        widths[kept[0].key] = max(0, min(widths[kept[0].key], room))
    return [(column, widths[column.key]) for column in kept]


def ordered(rows: Iterable[Row], sort: Sort | None) -> list[Row]:
    """Rows by a column: numbers, then texts; what has no value comes last in both directions."""
    if sort is None:
        return list(rows)
    column, descending = sort
    known, missing = [], []
    for row in rows:
        value = row.values[column] if column in row.values else row.cell(column).text
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            missing.append(row)
        elif isinstance(value, str):
            known.append(((1, 0.0, value.casefold()), row))
        else:
            known.append(((0, float(value), ""), row))
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + missing
