"""Dialogs: choose from a list with a page beside it, type a line, read a page, say yes or no.

All are driven by arrows, enter, space and escape; none needs the mouse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll

from console.screens.dialog import Dialog
from console.widgets import Cell, Column, Row
from console.widgets.lists import Choices, TextLine
from console.widgets.table import Table
from console.widgets.words import Words
from engine.spec.errors import BadInput
from engine.spec.outputs import is_stdout
from engine.spec.places import expanded

CLOSE: list[BindingType] = [Binding("escape", "cancel", "Close", show=False)]


class Offered(Choices):
    """The list of a dialog, short enough to leave page up and page down to the card beside it."""

    def action_page(self, pages: int) -> None:
        beside = self.screen.query("#page")
        if beside:
            beside.first(VerticalScroll).scroll_relative(y=8 * pages, animate=False)
        else:
            super().action_page(pages)


@dataclass(frozen=True, slots=True)
class Option:
    """`reason` says why it cannot be chosen, if so; `page` is shown beside the list."""

    id: str
    text: str
    page: str = ""
    reason: str = ""
    note: str = ""


class Choose(Dialog[list[str] | None]):
    """One of the options, or with `many` any number; None when the person leaves."""

    CSS_PATH = "choose.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *CLOSE,
        Binding("q", "cancel", show=False),
        Binding("space", "mark", show=False),
    ]

    def __init__(
        self,
        title: str,
        options: Sequence[Option],
        chosen: Sequence[str] = (),
        many: bool = False,
        empty: str = "nothing to choose from",
    ) -> None:
        super().__init__()
        self.heading, self.many = title, many
        self.options = {option.id: option for option in options}
        self.chosen = [word for word in chosen if word in self.options]
        self.empty = empty

    def compose(self) -> ComposeResult:
        longest = max((len(option.text) for option in self.options.values()), default=10)
        columns = [Column("text", "", longest, min(longest, 12), grow=1)]
        if any(option.note for option in self.options.values()):
            columns.append(Column("note", "", 10, 4, priority=0))
        with Vertical(classes="dialog -wide" if self._paged else "dialog"):
            yield Words(self.heading, classes="dialog-title")
            with Horizontal():
                yield Offered(columns, empty=self.empty, marks=self.many, id="choices")
                if self._paged:
                    with VerticalScroll(id="page", can_focus=False):
                        yield Words(id="page-text")
            yield Words(self._keys, classes="dialog-keys")

    @property
    def _paged(self) -> bool:
        return any(option.page or option.reason for option in self.options.values())

    @property
    def _keys(self) -> str:
        more = "  pgup/pgdn card" if self._paged else ""
        return f"space mark  enter done  esc leave{more}" if self.many else (
            f"↑↓ move  enter choose  esc leave{more}"
        )  # fmt: skip

    def on_mount(self) -> None:
        table = self.query_one(Offered)
        table.marked = set(self.chosen) if self.many else set()
        table.update(
            Row(
                option.id,
                {
                    "text": Cell(option.text, "muted" if option.reason else ""),
                    "note": Cell("✗" if option.reason else option.note, "muted"),
                },
            )
            for option in self.options.values()
        )
        if self.chosen:
            table.move_to(self.chosen[0])
        table.focus()

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        event.stop()
        if self._paged and event.key in self.options:
            option = self.options[event.key]
            reason = f"✗ {option.reason}\n\n" if option.reason else ""
            self.query_one("#page-text", Words).update(reason + option.page)
            self.query_one("#page", VerticalScroll).scroll_home(animate=False)

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        event.stop()
        if self.many:
            marked = self.query_one(Offered).marked
            self.dismiss([word for word in self.options if word in marked])
            return
        reason = self.options[event.key].reason
        if reason:
            self.app.notify(f"{event.key}: {reason}", severity="warning")
        else:
            self.dismiss([event.key])

    def action_mark(self) -> None:
        if self.many:
            self.query_one(Offered).action_mark()
        else:
            self.query_one(Offered).action_select()

    def action_cancel(self) -> None:
        self.dismiss(None)


class Ask(Dialog[str | None]):
    """A path, on one line. `check` says what is wrong with it, or nothing; asked as it is typed."""

    CHANGES: ClassVar[bool] = True
    CSS_PATH = "choose.tcss"
    BINDINGS: ClassVar[list[BindingType]] = CLOSE

    def __init__(
        self, title: str, text: str = "", check: Callable[[str], str] = lambda _: ""
    ) -> None:
        super().__init__()
        self.heading, self.text, self.check = title, text, check

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Words(self.heading, classes="dialog-title")
            yield TextLine(self.text, id="answer")
            yield Words(id="answer-problem")
            yield Words("enter accept  esc leave", classes="dialog-keys")

    def on_mount(self) -> None:
        self.query_one(TextLine).focus()

    def on_input_changed(self, event: TextLine.Changed) -> None:
        self.query_one("#answer-problem", Words).update(self._wrong(event.value))

    def on_input_submitted(self, event: TextLine.Submitted) -> None:
        if not self._wrong(event.value):
            self.dismiss(event.value)

    def _wrong(self, text: str) -> str:
        """What `check` says; of a path that cannot be looked at, why."""
        try:
            return self.check(text)
        except (BadInput, OSError, ValueError) as error:
            return str(error)

    def action_cancel(self) -> None:
        self.dismiss(None)


class Page(Dialog[bool]):
    """A page to read. With `question`, enter says yes; escape always leaves."""

    CSS_PATH = "choose.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *CLOSE,
        Binding("q", "cancel", show=False),
        Binding("enter", "accept", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
    ]

    def __init__(self, title: str, text: str, question: str = "") -> None:
        super().__init__()
        self.heading, self.text, self.question = title, text, question
        self.CHANGES = bool(question)  # type: ignore[misc]  # of this page

    def compose(self) -> ComposeResult:
        keys = f"enter {self.question}  esc leave" if self.question else "↑↓ scroll  esc leave"
        with Vertical(classes="dialog -wide"):
            yield Words(self.heading, classes="dialog-title")
            with VerticalScroll(id="page", can_focus=False):
                yield Words(self.text, id="page-text")
            yield Words(keys, classes="dialog-keys")

    def action_scroll(self, lines: int) -> None:
        self.query_one("#page", VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_accept(self) -> None:
        self.dismiss(bool(self.question))

    def action_cancel(self) -> None:
        self.dismiss(False)


def check_new_file(text: str, check: Callable[[Path], None]) -> Path:
    """A typed path that `check` has nothing against. Raises BadInput."""
    path = expanded(text)
    if not text.strip() or is_stdout(path):
        raise BadInput("a file, please")
    check(path)
    return path


def free_path(folder: Path, name: str, form: str) -> Path:
    """A name in `folder` that is not taken."""
    path, number = folder / f"{name}.{form}", 2
    while os.path.lexists(path):
        path, number = folder / f"{name}-{number}.{form}", number + 1
    return path
