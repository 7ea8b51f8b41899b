"""A question that loses something: yes only by y, no by everything else that leaves."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from console.screens.dialog import Dialog


class Confirm(Dialog[bool]):
    CHANGES: ClassVar[bool] = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n,escape,q,enter", "answer(False)", show=False),
    ]

    def __init__(self, question: str, facts: str = "") -> None:
        super().__init__()
        self.question, self.facts = question, facts

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self.question, classes="confirm-title", markup=False)
            yield Static(self.facts, markup=False)
            yield Static("y yes   n no", classes="confirm-keys", markup=False)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
