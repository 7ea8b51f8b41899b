"""MNIST's idx files: four big-endian arrays of bytes, gzipped or plain."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from engine.lab.data._published import Found, PublishedData, damaged, file_bytes, md5_of
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

NAMES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
DOWNLOADS = tuple(f"{name}.gz" for name in NAMES.values())
UNSIGNED_BYTES = 8  # the only type code these data use


class Idx(PublishedData):
    """`published.md5` has the published .gz files and what is in them: distributions repack."""

    torchvision: ClassVar[str]  # the folder torchvision makes inside its root
    default_form: ClassVar = "idx"

    def _found_in(self, folder: Path) -> Found | None:
        for place in (folder, folder / self.torchvision / "raw"):
            files = []
            for name in NAMES.values():
                # "train-images.idx3-ubyte" is the name inside the .gz, which some unpackers take
                spellings = (f"{name}.gz", name, name.replace("-idx", ".idx"))
                files += [place / s for s in spellings if (place / s).is_file()][:1]
            if len(files) == len(NAMES):
                return Found(self.default_form, tuple(files))
        return None

    def _wanted(self) -> str:
        return f"{', '.join(NAMES.values())}, each plain or .gz"

    def _decode(self, found: Found) -> dict[str, np.ndarray]:
        import numpy as np

        _, height, width = self.published.shape
        arrays = {}
        for (key, name), file in zip(NAMES.items(), found.files, strict=True):
            part = key.split("_", maxsplit=1)[0]
            rows = sum(getattr(self.published, f"{part}_per_class"))
            dims = (rows, height, width) if key.endswith("_x") else (rows,)
            values = parse_idx(file, self._content(file, name, dims), dims)
            if key.endswith("_x"):
                arrays[key] = values.reshape(rows, 1, height, width).copy()
            else:
                classes = len(self.published.classes)
                if values.max() >= classes:
                    raise BadInput(f"{file}: has labels outside 0 … {classes - 1}.")
                arrays[key] = values.astype(np.int64)
        return arrays

    def _content(self, file: Path, name: str, dims: tuple[int, ...]) -> bytes:
        """The plain bytes of a file, when it or its content is the published one."""
        md5, content = self.published.md5, file_bytes(file)
        packed = file.suffix == ".gz"
        if packed:
            found = md5_of(content)
            content = unzip(file, content, idx_length(dims))
            if found == md5[f"{name}.gz"]:
                return content
        found = md5_of(content)
        if found != md5[name]:
            raise BadInput(damaged(file, found + (" unpacked" if packed else ""), md5[name]))
        return content


def idx_length(dims: tuple[int, ...]) -> int:
    return 4 + 4 * len(dims) + math.prod(dims)


def unzip(file: Path, content: bytes, length: int) -> bytes:
    """The unpacked bytes, which must be `length`; never unpacks much more. Raises BadInput."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(content, length + 1)
    except zlib.error as error:
        raise BadInput(f"{file}: is damaged: {error}.") from None
    if len(plain) == length and not unpacker.eof:
        plain += unpacker.decompress(unpacker.unconsumed_tail, 1)
    if len(plain) != length or not unpacker.eof:
        told = "more" if len(plain) > length else f"{len(plain)} bytes or fewer"
        raise BadInput(f"{file}: unpacks to {told}, expected {length} bytes.")
    return plain


def parse_idx(file: Path, content: bytes, dims: tuple[int, ...]) -> np.ndarray:
    """uint8 of shape `dims`, a view of `content`. Raises BadInput unless it is exactly that."""
    import numpy as np

    magic = bytes([0, 0, UNSIGNED_BYTES, len(dims)])
    if content[:4] != magic:
        raise BadInput(f"{file}: starts with {content[:4].hex()}, expected {magic.hex()} (idx).")
    header = 4 + 4 * len(dims)
    if len(content) < header:
        raise BadInput(f"{file}: ends within its header.")
    told = tuple(int(dim) for dim in np.frombuffer(content[4:header], dtype=">u4"))
    if told != dims:
        raise BadInput(f"{file}: says it holds {told}, expected {dims}.")
    if len(content) != idx_length(dims):
        raise BadInput(f"{file}: has {len(content)} bytes, expected {idx_length(dims)}.")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(dims)
