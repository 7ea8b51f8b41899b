"""The end of a run: a passing message, and for those who asked a bell and a notification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.viewmodel import RunRow
from engine.jobs.events import strip_control

if TYPE_CHECKING:
    from console.app import ConsoleApp


def tell_end(app: ConsoleApp, row: RunRow) -> None:
    level = "information" if row.state == "done" else "error"
    app.notify(f"{row.name}: {row.state}", severity=level, markup=False)  # type: ignore[arg-type]
    if app.rings:
        app.bell()
        driver = app._driver  # the only way to write what is not a screen
        if driver is not None:  # OSC 9: a desktop notification, where it is understood
            driver.write(f"\x1b]9;chelate: {strip_control(row.name)} {row.state}\x07")
