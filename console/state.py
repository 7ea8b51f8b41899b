"""What the console remembers from one opening to the next: <home>/console.json.

Only the look of things: losing it costs nobody a result, so nothing here raises.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

NAME = "console.json"
VERSION = 1
LARGEST = 1 << 20  # bytes


def load(home: Path) -> dict[str, Any]:
    """The remembered state; {} if there is none that can be understood."""
    try:
        with (home / NAME).open("rb") as file:
            told = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) and told.get("v") == VERSION else {}


def save(home: Path, state: dict[str, Any]) -> bool:
    """Replace the file at once; no fsync, for the disk may be slow and the state is no result.

    False if it could not be written."""
    path = home / NAME
    temporary = home / f".{NAME}.{os.getpid()}.tmp"
    try:
        text = json.dumps({**state, "v": VERSION}, indent=1)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except (OSError, TypeError, ValueError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def word(value: Any) -> str | None:
    """A remembered text; None for anything else."""
    return value if isinstance(value, str) and value else None
