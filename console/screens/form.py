"""The keys of one part of an experiment: a list to move in, and a line to type a value in."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from console.compose import Entry
from console.widgets import Cell, Column, Row
from console.widgets.lists import Choices, TextLine
from console.widgets.table import Table
from console.widgets.words import Words

COLUMNS = (
    Column("key", "key", 16, 10, priority=9),
    Column("value", "value", 20, 12, grow=2, priority=9),
    Column("takes", "takes", 24, 8, grow=1, priority=1),
)


class Form(Vertical):
    """Shows entries; says what is typed and accepted, and leaves the writing to whoever listens."""

    class Typed(Message):
        """`text` stands in the line now."""

        def __init__(self, entry: Entry, text: str) -> None:
            super().__init__()
            self.entry, self.text = entry, text

    class Accepted(Typed):
        """Enter: this is meant."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.entries: dict[str, Entry] = {}
        self.editing: Entry | None = None
        self.part = self.card = ""

    def compose(self) -> ComposeResult:
        yield Choices(COLUMNS, id="new-keys", empty="nothing to set here")
        yield Words(id="new-about")
        yield TextLine(id="new-input")

    @property
    def keys(self) -> Choices:
        return self.query_one("#new-keys", Choices)

    @property
    def box(self) -> TextLine:
        return self.query_one("#new-input", TextLine)

    @property
    def entry(self) -> Entry | None:
        """The one under the cursor."""
        return self.entries.get(self.keys.cursor_key or "")

    def on_mount(self) -> None:
        self.box.display = False

    def show(self, part: str, entries: Sequence[Entry], card: str) -> None:
        """The keys of a part; those of another one from the top. `card` is told while the cursor
        is elsewhere."""
        if part != self.part:
            self.part = part
            self.keys.move_to(0)
        self.entries = {entry.field.key: entry for entry in entries}
        self.card = card
        self.keys.update(_row(entry) for entry in entries)
        self.tell()

    def tell(self) -> None:
        """What the key under the cursor means and what is wrong with it; or the card."""
        entry = self.entry
        text = self.card
        if entry is not None and (self.keys.has_focus or self.editing is not None):
            one = entry.field
            facts = [one.takes, f"default {one.default}" if one.default else ""]
            facts.append("several with commas: a grid" if one.grid else "")
            text = f"{one.key}: {'; '.join(filter(None, facts))}. {one.description}"
            if entry.problem:
                text = f"✗ {entry.problem}\n{text}"
        self.query_one("#new-about", Words).update(text)

    def on_descendant_focus(self) -> None:
        self.tell()

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self.tell)

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        event.stop()
        self.tell()

    # --- typing ----------------------------------------------------------------------------------

    def edit(self) -> None:
        """Type the value of the key under the cursor."""
        entry = self.entry
        if entry is not None:
            self.editing = entry
            self.box.display = True
            self.box.value = entry.text or entry.field.default
            self.box.cursor_position = len(self.box.value)
            self.screen.set_focus(self.box)

    def leave(self) -> None:
        """Back to the list; what was typed is not taken."""
        self.editing = None
        self.box.display = False
        self.screen.set_focus(self.keys)

    def on_input_changed(self, event: TextLine.Changed) -> None:
        event.stop()
        if self.editing is not None:
            self.post_message(self.Typed(self.editing, event.value))

    def on_input_submitted(self, event: TextLine.Submitted) -> None:
        event.stop()
        entry = self.editing
        if entry is None:
            return
        untouched = not entry.text and event.value.strip() == entry.field.default
        self.leave()
        self.post_message(self.Accepted(entry, "" if untouched else event.value))


def _row(entry: Entry) -> Row:
    missing = "required" if entry.field.required else "-"
    return Row(
        entry.field.key,
        {
            "key": Cell(
                ("✗ " if entry.problem else "") + entry.field.key,
                "bad" if entry.problem else "strong" if entry.text else "",
            ),
            "value": Cell(
                entry.shown or missing,
                "bad" if entry.problem else "" if entry.text else "muted",
            ),
            "takes": Cell(entry.field.takes, "muted"),
        },
    )
