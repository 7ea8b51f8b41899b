"""What commands print, and how they end.

Names, titles, reasons and logs may be a stranger's: whatever goes out here is stripped of what
would command the terminal.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from console.characters import in_ascii
from engine.jobs.events import CONTROLS, strip_control
from engine.spec.errors import BadInput
from engine.spec.outputs import is_stdout

if TYPE_CHECKING:
    from rich.console import Console

SURROGATES = re.compile("[\ud800-\udfff]")  # of names that are not UTF-8
OF_THE_MACHINE = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE,
     errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EFBIG, errno.ENAMETOOLONG,
     errno.ELOOP, errno.ENOLCK, errno.ETIMEDOUT}
)  # fmt: skip
BAD_INPUT, FAILED, INTERRUPTED = 2, 3, 130


def writes_ascii() -> bool:
    """Whether standard output takes nothing but ASCII."""
    return "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()


def say(text: str = "") -> None:
    sys.stdout.write(strip_control(text) + "\n")


def say_written(path: Path) -> None:
    """Name a file that was written; of standard output nothing is said, it holds the file."""
    if not is_stdout(path):
        say(str(path))


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

    class Plain(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                own = segment.control or (segment.text.isascii() and segment.text.isprintable())
                yield segment if own else segment._replace(text=strip_control(segment.text))

        def print(self, *objects: Any, **options: Any) -> None:
            if ascii_only:
                objects = tuple(_in_ascii(self, one) for one in objects)
            super().print(*objects, **options)

    ascii_only = writes_ascii()

    if sys.stdout.isatty():
        return Plain(highlight=False)
    return Plain(highlight=False, width=160, no_color=True)


def _in_ascii(console: Console, shown: Any) -> Any:
    """What is to be shown, before it is measured: ASCII may need more room than what it stands for."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(shown, str):
        return in_ascii(shown)
    if isinstance(shown, Text):
        if shown.plain.isascii():
            return shown
        parts = [(in_ascii(part.text), part.style or "") for part in shown.render(console)]
        return Text.assemble(*parts, style=shown.style, justify=shown.justify, end=shown.end)
    if isinstance(shown, Table):
        shown.title = _in_ascii(console, shown.title)
        for column in shown.columns:
            column.header = _in_ascii(console, column.header)
            column._cells = [_in_ascii(console, cell) for cell in column.cells]
    return shown


@contextmanager
def bad_input_ends() -> Iterator[None]:
    """Print what is wrong with the user's input, or with the machine, and exit with code 2."""
    try:
        yield
    except BadInput as error:
        end_badly(str(error))
    except OSError as error:
        # Of the machine, not of a mistake of ours: nobody is helped by where it was noticed.
        if error.errno not in OF_THE_MACHINE:
            raise
        told = error.strerror or os.strerror(error.errno)
        end_badly(f"{os.fsdecode(error.filename)}: {told}." if error.filename else f"{told}.")


def end_badly(message: str) -> NoReturn:
    complain(f"chelate: {message}")
    raise SystemExit(BAD_INPUT)
