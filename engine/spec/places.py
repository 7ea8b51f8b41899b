"""Paths as a person types them."""

from __future__ import annotations

from pathlib import Path

from engine.spec.bounds import PATH
from engine.spec.errors import BadInput, cut

LONGEST_NAME = 255  # bytes of one part of a path, in every file system


def expanded(text: str | Path, where: str = "") -> Path:
    """A path with `~` and `~user` replaced by the home folder. Raises BadInput where there is none,
    and for what no file can be called: a NUL, more than 4,096 bytes. `where` is the key or option, in
    the words of the message."""
    shown = cut(repr(str(text)))
    place = f"{where} = {shown}" if where else shown
    encoded = str(text).encode("utf-8", "surrogatepass")
    PATH.check(len(encoded), f"{place}: has")
    if "\0" in str(text):
        raise BadInput(f"{place}: holds the character NUL, which no path can.")
    longest = max(map(len, encoded.split(b"/")))
    if longest > LONGEST_NAME:
        raise BadInput(
            f"{place}: a part of it has {longest:,} bytes; a file's name has {LONGEST_NAME} at most."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        whose = str(text).partition("/")[0]
        told = place if where else str(text)
        raise BadInput(f"{told}: {whose} is nobody's home folder.") from None
