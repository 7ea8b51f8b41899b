"""Rows of images (and of tables, as strips) as pictures: half blocks in a terminal, a PNG sheet."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.spec.errors import BadInput
from engine.spec.outputs import check_output, is_stdout, write_output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.float64]  # [H, W, 3] in [0, 1]

SHOWN, MOST_SHOWN = 4, 64  # rows of a terminal, rows of a contact sheet
STRIP = 4  # height of a table's row in pictures
RAMP = " .:-=+*#%@"
ACROSS = 3  # pictures of a sheet beside each other


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of up to `ACROSS` pictures, all of one size: such as base, poison, difference.

    `scale` is the change that a difference draws at full.
    """

    title: str
    rows: list[list[Picture]]
    captions: list[str]
    scale: float = 1.0
    target: Picture | None = None


def check_png(out: Path | None, force: bool = False) -> None:
    """Raises BadInput where a sheet cannot be written, before anything is read for it."""
    if out is None:
        return
    if not is_stdout(out) and out.suffix.lower() != ".png":
        raise BadInput(f"{out}: must end in .png.")
    check_output(out, force=force)


def picture(image: NDArray[Any]) -> Picture:
    """[C, H, W] as [H, W, 3] in [0, 1]; one channel is grey, more than three show the first three.

    A table's row [C, 1, 1] is a grey strip, its columns from left to right."""
    import numpy as np

    if image.shape[1:] == (1, 1):
        image = np.broadcast_to(image.reshape(1, 1, -1), (1, STRIP, len(image)))
    channels = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.clip(channels.transpose(1, 2, 0).astype(np.float64), 0, 1)


def save_png(drawn: Sheet, path: Path, force: bool = False) -> None:
    """A contact sheet: a row for each poisoned one, the target above. Raises BadInput."""
    import numpy as np
    from PIL import Image

    height, width, _ = drawn.rows[0][0].shape
    zoom, gap = max(1, 96 // max(height, width)), 4
    rows = ([[drawn.target]] if drawn.target is not None else []) + drawn.rows
    across = ACROSS * (width * zoom + gap) + gap
    page = np.ones((len(rows) * (height * zoom + gap) + gap, across, 3))
    for down, pictures in enumerate(rows):
        for across, one in enumerate(pictures):
            top, left = (n * (s * zoom + gap) + gap for n, s in ((down, height), (across, width)))
            large = one.repeat(zoom, 0).repeat(zoom, 1)
            page[top : top + height * zoom, left : left + width * zoom] = large
    content = io.BytesIO()
    Image.fromarray((page * 255).round().astype(np.uint8)).save(content, "PNG")
    write_output(path, content.getvalue(), force=force)


def pictures_in_text(drawn: Sheet) -> list[Any]:
    """For rich: half blocks in colour on a terminal, a ramp of characters in a pipe."""
    from rich.text import Text

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    room = max(8, columns // ACROSS - 1)
    parts: list[Any] = []
    if drawn.target is not None:
        parts += [Text("target"), _text([_fitted(drawn.target, room)])]
    for caption, pictures in zip(drawn.captions, drawn.rows, strict=False):
        parts += [Text(caption), _text([_fitted(one, room) for one in pictures])]
    return parts


def _fitted(one: Picture, room: int) -> Picture:
    """Every n-th pixel, so that it fits `room` columns."""
    step = -(-one.shape[1] // room)
    return one[::step, ::step]


def _text(pictures: Sequence[Picture]) -> Any:
    """Pictures side by side; two pixels, one above the other, to a character."""
    from rich.style import Style
    from rich.text import Text

    text = Text(no_wrap=True, end="")
    colour = sys.stdout.isatty()
    for top in range(0, len(pictures[0]), 2):
        for each in pictures:
            upper, lower = each[top], each[min(top + 1, len(each) - 1)]
            for one, other in zip(upper, lower, strict=True):
                if colour:
                    style = Style(color=_rgb(one), bgcolor=_rgb(other))
                    text.append("▀", style)
                else:
                    level = float(one.mean() + other.mean()) / 2
                    text.append(RAMP[min(len(RAMP) - 1, int(level * len(RAMP)))])
            text.append(" ")
        text.append("\n")
    return text


def _rgb(pixel: NDArray[np.float64]) -> str:
    red, green, blue = (round(float(value) * 255) for value in pixel)
    return f"rgb({red},{green},{blue})"
