"""Inside the process of one page: Textual's driver for the web, with bounds of its own.

What comes over stdin was typed by a visitor, escape sequences included; the server is not the only
one that looks at it. And the process ends with its page: when stdin ends, so does it.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from textual import events, messages
from textual.drivers import web_driver

from console.web.bounds import GRACE, fits

LOST = 3  # exit code of a process that did not end in time


class WebDriver(web_driver.WebDriver):
    """Of the name that console.opening.in_browser looks for."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        send = self._write

        def write(data: bytes) -> int:
            try:
                return int(send(data))
            except OSError:  # nobody reads any more: not for painting to report
                return len(data)

        self._write = write  # type: ignore[assignment]

    def process_message(self, message: Any) -> None:
        # A terminal may tell its size in the text, too (CSI 48 t).
        if not isinstance(message, events.Resize) or fits(*message.size):
            super().process_message(message)

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        sized = packet_type == "resize" and fits(payload.get("width"), payload.get("height"))
        if sized or packet_type in ("focus", "blur", "quit", "exit"):  # no file is ever delivered
            super().on_meta(packet_type, payload)

    def run_input_thread(self) -> None:
        try:
            super().run_input_thread()
        finally:
            if not self.exit_event.is_set():  # else the console ends by itself
                self._end()

    def _end(self) -> None:
        last = threading.Timer(GRACE, os._exit, [LOST])
        last.daemon = True
        last.start()
        self.send_message(messages.ExitApp())
