"""What is left of the console when it fails: a report in a file, and one line that names it.

A traceback on a terminal over SSH would be gone with the next clear.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

NAME = "console-crash.txt"


def report(home: Path, error: BaseException, size: tuple[int, int]) -> Path | None:
    """Write what happened into the home folder; None if that cannot be done either."""
    path = home / NAME
    told = "".join(traceback.format_exception(error))
    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    facts = f"chelate {version('chelate')} {when} {size[0]}x{size[1]} {os.environ.get('TERM')}"
    try:
        path.write_text(f"{facts}\n\n{told}", encoding="utf-8")
    except OSError:
        return None
    return path


def tell(path: Path) -> None:
    """One line on the terminal, which is restored by now."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"chelate: the console failed; the report is in {path}\n")
