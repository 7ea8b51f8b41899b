"""What commands print, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from engine.jobs.events import CONTROLS
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT, FAILED, INTERRUPTED = 2, 3, 130


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    """Exactly one JSON document on stdout, without a character that a terminal would obey."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    say(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def complain(text: str) -> None:
    sys.stderr.write(text.rstrip() + "\n")


def console() -> Console:
    """A rich console: colours on a terminal, plain text of a fixed width in a pipe."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=160, no_color=True)


@contextmanager
def bad_input_ends() -> Iterator[None]:
    """Print what is wrong with the user's input and exit with code 2."""
    try:
        yield
    except BadInput as error:
        end_badly(str(error))


def end_badly(message: str) -> NoReturn:
    complain(f"chelate: {message}")
    raise SystemExit(BAD_INPUT)
