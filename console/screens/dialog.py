"""What all dialogs have in common: they close once."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """`CHANGES`: it asks for a path, or whether to change something; not there in a console that
    only watches."""

    CHANGES: ClassVar[bool] = False

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Keys may come in bursts: a second one that closes, sent before the first was heeded, must
        not close what lies below."""
        if self.app.screen is not self:
            return AwaitComplete()
        return super().dismiss(result)
