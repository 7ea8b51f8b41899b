"""What commands print, and how they end.

Names, titles, reasons and logs may be a stranger's: whatever goes out here is stripped of what
would command the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from console.characters import in_ascii
from engine.jobs.events import CONTROLS, strip_control
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

SURROGATES = re.compile("[\ud800-\udfff]")  # of names that are not UTF-8
BAD_INPUT, FAILED, INTERRUPTED = 2, 3, 130


def writes_ascii() -> bool:
    """Whether standard output takes nothing but ASCII."""
    return "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()


def say(text: str = "") -> None:
    sys.stdout.write(strip_control(text) + "\n")


def say_json(value: Any) -> None:
    """Exactly one JSON document on stdout. What would command a terminal is in it, spelled out."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=writes_ascii())
    text = SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    sys.stdout.write(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def complain(text: str) -> None:
    sys.stderr.write(strip_control(text.rstrip()) + "\n")


def console() -> Console:
    """A rich console: colours on a terminal, plain text of a fixed width in a pipe."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                own = segment.control or (segment.text.isascii() and segment.text.isprintable())
                yield segment if own else segment._replace(text=strip_control(segment.text))

        def render_str(self, text: str, **options: Any) -> Text:
            # Before it is measured: ASCII may need more room than what it stands for.
            return super().render_str(in_ascii(text) if ascii_only else text, **options)

    ascii_only = writes_ascii()

    if sys.stdout.isatty():
        return Plain(highlight=False)
    return Plain(highlight=False, width=160, no_color=True)


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
