"""Ctrl-Z: the console steps aside for the shell, and `fg` brings it back.

Textual's driver gives the terminal back and takes it again; here is when that may happen. In a
browser there is no shell, and where nobody waits for us (`ssh host chelate`, a tmux window of its own)
nobody could send the SIGCONT: there Ctrl-Z does nothing but say so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.driver import Driver


def shell_waits() -> bool:
    """Whether our process group has a parent in this session, which can go on with it."""
    import psutil

    group, session = os.getpgrp(), os.getsid(0)
    try:
        for parent in psutil.Process().parents():
            if os.getpgid(parent.pid) != group:
                return os.getsid(parent.pid) == session
    except (psutil.Error, OSError):
        return False
    return False


def suspend(app: App[Any], driver: Driver | None) -> None:
    """Stop our process group as the terminal's own Ctrl-Z would: whoever started us (`uv run`, a
    script) stops with us, or the shell would never hear of it."""
    if driver is None or not driver.can_suspend:
        return
    if not shell_waits():
        app.notify("No shell waits here for the console to step aside; q closes it.", timeout=4)
        return
    os.killpg(0, signal.SIGTSTP)


def heed_stops(app: App[Any], driver: Driver | None) -> None:
    """Take the terminal again after a stop only if it was given back before it. A SIGSTOP gives nobody
    the time to: starting then once more would leave two readers of the keys, and a raw terminal."""
    if driver is None or not driver.can_suspend:
        return
    take_again: Callable[..., None] | None = getattr(driver, "_sigcont_application", None)
    if take_again is None or not hasattr(driver, "_must_signal_resume"):
        return  # another Textual; it has its own way

    def went_on(*words: Any) -> None:
        if driver._must_signal_resume:
            take_again(*words)
        app.call_later(repaint)

    def repaint() -> None:
        app.refresh(layout=True)
        app.screen.refresh(layout=True)

    signal.signal(signal.SIGCONT, went_on)
