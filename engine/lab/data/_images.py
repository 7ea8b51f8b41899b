"""One image file to pixels: which formats, and what becomes of alpha, palettes, 16 bits, EXIF.

Only formats that hold photographs are opened, never Pillow's readers that start other programs.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from engine.spec.errors import BadInput
from engine.spec.files import content_at_once

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

T = TypeVar("T")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
ORIENTATION = 0x0112  # EXIF: 1 upright; 5 to 8 lie on their side
WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # one channel of 16 bits, depending on the file

# Pillow decodes without Python's lock, but opens with it: below this many bytes a file, threads
# only wait for each other (32×32: 35 % slower on two cores; 256×256: twice as fast).
SMALL = 8192


def read_file(path: str) -> bytes:
    """Raises BadInput."""
    return content_at_once(path, f"data image-folder: {path} cannot be read")


def upright_size(path: str, content: bytes) -> tuple[int, int]:
    """(height, width) when upright, from the header. Raises BadInput for what is no image."""
    with _opened(path, content) as image:
        lies = _orientation(image) >= 5
        if image.format == "TIFF":
            image.load()  # Pillow turns TIFF by itself; when, depends on its version
            lies = False
        width, height = image.size
        return (width, height) if lies else (height, width)


def pixels(path: str, content: bytes, grey: bool, size: int | None) -> np.ndarray:
    """uint8 [C, H, W], C = 1 or 3, resized to size×size if told. Raises BadInput.

    Turned upright by EXIF. Transparent pixels show white. 16-bit grey is scaled to 8 bits. CMYK is
    converted without a colour profile. Of an animation, the first frame. Colour to grey is
    ITU-R 601-2 luma. Resizing is bicubic with anti-aliasing and does not keep the aspect.
    """
    import numpy as np

    with _opened(path, content) as image:
        orientation = _orientation(image)
        image.load()
        if orientation > 1 and image.format != "TIFF":
            from PIL import ImageOps

            image = ImageOps.exif_transpose(image)
        mode = "L" if grey else "RGB"
        if image.mode != mode:
            image = _plain(path, image).convert(mode)
        if size and image.size != (size, size):
            image = image.resize((size, size), 3)  # Image.Resampling.BICUBIC
        flat = np.frombuffer(image.tobytes(), dtype=np.uint8)
        return flat.reshape(image.height, image.width, -1).transpose(2, 0, 1)


def _plain(path: str, image: Image.Image) -> Image.Image:
    """The same picture without alpha and with 8 bits a channel, as far as `convert` is unwise."""
    from PIL import Image

    if image.mode == "F":
        raise BadInput(f"data image-folder: {path} holds floating point, which has no fixed range.")
    if image.mode in WIDE:
        import numpy as np

        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadInput(f"data image-folder: {path} holds more than 16 bits a pixel.")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info and image.format not in ("TIFF", "PNG", "WEBP"):
        return 1  # getexif costs as much as the decoding of a small image
    told = image.getexif().get(ORIENTATION, 1)
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


@cache
def quiet() -> None:
    """Keeps Pillow's own warnings (of odd metadata, of large pictures) off the terminal: what it makes
    of a file is told by us. Once, for a filter per file is no good where threads read."""
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


@contextmanager
def _opened(path: str, content: bytes) -> Iterator[Image.Image]:
    """The image in `content`, not yet decoded; whatever goes wrong with it names the file."""
    from PIL import Image, UnidentifiedImageError

    quiet()
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            yield image
    except BadInput:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise BadInput(f"data image-folder: {path} is not an image ({known}).") from None
    except (
        OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise BadInput(f"data image-folder: {path} cannot be decoded: {error}.") from None


def in_threads(
    work: Callable[[int, int], T], count: int, chunk: int = 256, file_size: int = SMALL
) -> Iterator[T]:
    """`work(start, stop)` over 0 … count in chunks, in order.

    An exception of a chunk is raised in its turn, and nothing new is begun. Files of typical
    `file_size` (bytes) below SMALL get a single thread.
    """
    import os
    from concurrent.futures import ThreadPoolExecutor

    threads = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
    starts = range(0, count, chunk)
    with ThreadPoolExecutor(threads if file_size >= SMALL else 1) as pool:
        yield from pool.map(lambda start: work(start, min(start + chunk, count)), starts)
