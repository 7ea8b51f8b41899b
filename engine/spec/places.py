"""Paths as a person types them."""

from __future__ import annotations

from pathlib import Path

from engine.spec.errors import BadInput


def expanded(text: str | Path, where: str = "") -> Path:
    """A path with `~` and `~user` replaced by the home folder. Raises BadInput where there is none;
    `where` is the key or option, in the words of the message."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        whose = str(text).partition("/")[0]
        told = f"{where} = {str(text)!r}" if where else str(text)
        raise BadInput(f"{told}: {whose} is nobody's home folder.") from None
