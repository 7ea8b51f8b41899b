"""Tables that are walked through with vim's keys, and a line to type a filter in."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from console.widgets.table import Table


class Choices(Table):
    """A table that j and k move in, too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "move(-1)", show=False),
        Binding("j", "move(1)", show=False),
    ]


class Rows(Choices):
    """With g G besides, and h l for the columns: where the screen needs none of these letters."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("h", "columns(-1)", show=False),
        Binding("l", "columns(1)", show=False),
        Binding("ctrl+d", "page(1)", show=False),
        Binding("ctrl+u", "page(-1)", show=False),
    ]


class TextLine(Input):
    """A line to type in. Its keys act in the order in which they came: Textual inserts letters at
    once but sends ctrl+u round by the app, so that over a slow line, where keys come in bursts,
    it would erase what was typed after it."""

    def __init__(self, text: str = "", prompt: str = "", id: str | None = None) -> None:
        super().__init__(text, placeholder=prompt, id=id, select_on_focus=False)
        self.cursor_blink = False

    async def _on_key(self, event: events.Key) -> None:
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            event.stop()
            event.prevent_default()
            await self.run_action(binding.action)
            return
        await super()._on_key(event)


class FilterLine(TextLine):
    """A line that is there while somebody types in it. Enter keeps what was typed, escape drops
    it; either way the focus goes back to where it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(False)", show=False),
        Binding("enter,down", "leave(True)", show=False),
    ]

    class Typed(Message):
        def __init__(self, line: FilterLine, value: str) -> None:
            super().__init__()
            self.line, self.value = line, value

        @property
        def control(self) -> FilterLine:
            return self.line

    def __init__(self, prompt: str, id: str | None = None) -> None:
        super().__init__(prompt=prompt, id=id)
        self.add_class("filter")
        self.can_focus = False

    def open(self) -> None:
        self.can_focus = True
        self.add_class("-open")
        self._back = self.screen.focused
        self.focus()

    def action_leave(self, keep: bool) -> None:
        if not keep:
            self.value = ""
        self.set_class(bool(self.value), "-open")
        back = self._back if self._back is not None and self._back.is_mounted else None
        self.screen.set_focus(back)
        self.can_focus = False

    def watch_value(self, value: str) -> None:
        if self.is_mounted:
            self.set_class(bool(value) or self.has_focus, "-open")
            self.post_message(self.Typed(self, value))

    def on_blur(self) -> None:
        self.set_class(bool(self.value), "-open")
        self.can_focus = False
