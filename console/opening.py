"""`chelate` alone and `chelate attach`: from the command line's words to a running app."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from console.output import writes_ascii
from engine.jobs.home import Home, resolve_home
from engine.spec.errors import BadInput

PLAIN = ("linux", "vt100", "vt220", "dumb")  # terminals without braille
SWITCH = 0.001  # seconds until the reader lets the painting have its turn


def in_browser() -> bool:
    """Whether this process paints for a page of textual-serve, not for a terminal."""
    return os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")


def open_console(
    home: Path | None,
    run_id: str | None = None,
    read_only: bool = False,
    ascii: bool = False,
    theme: str | None = None,
    bell: bool | None = None,
) -> int:
    """Opens the console; returns the exit code. Raises BadInput."""
    terminal = sys.stdin.isatty() and sys.__stderr__ is not None and sys.__stderr__.isatty()
    if not (terminal or in_browser()):
        raise BadInput(
            "the console needs a terminal for its input and its standard error. Without one: "
            "`chelate runs list`, `chelate watch RUN --plain`, `chelate compare RUN`."
        )
    place = Home(resolve_home(home))
    place.create() if not read_only else None
    if run_id is not None:
        from engine.jobs.runs import find

        run_id = find(place, run_id).id
    from console import themes
    from console.app import ConsoleApp

    if theme is not None:
        if theme not in themes.NAMES:
            raise BadInput(f"--theme {theme}: choose from {', '.join(themes.NAMES)}.")
        theme = themes.NAMES[theme]
    ascii = ascii or os.environ.get("TERM") in PLAIN or (writes_ascii() and not in_browser())
    app = ConsoleApp(place, read_only=read_only, ascii=ascii, theme=theme, run=run_id, bell=bell)
    sys.setswitchinterval(SWITCH)
    if read_only:
        from console.confinement import confine

        confine()
    app.run()
    app.say_farewell()
    return app.return_code or 0
