"""JSON that somebody else may have written: its size, depth and numbers are looked at, by the bytes,
before anything is built from it.

A file of 250 MB that says `[],[],…` costs 8 GB once it is parsed; lists 500 deep break whatever walks
them; a number of 400 digits is a whole number to Python and no float to anybody. All of it is seen
in the text, at the speed of `bytes.count`, before a parser runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engine.jobs.home import read_plain

DEEPEST = 64  # lists and tables within each other
DIGITS = 25  # in a row: a 64-bit number has 20, an exact float 17
TEXT = 1 << 20  # bytes of one string
_CHUNK = 1 << 20  # bytes looked at together
_STRING = re.compile(rb'"[^"]*+"')
_LONG = re.compile(rb'"[^"]{%d}' % (TEXT + 1))
_WIDE = re.compile(rb"\\u|[\x80-\xff]")
_NO_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")  # what numbers are made of
_TOO_LONG, _PERHAPS = b"0" * (DIGITS + 1), b"0e000"  # the latter of 1e100 and beyond
_NUMBER = re.compile(rb"[0-9.]+[eE]\+?[0-9]{3,}")
LARGEST = 1e308  # what comes near the end of floats overflows in the first sum


@dataclass(frozen=True, slots=True)
class Bounds:
    """`size` in bytes, `wide` in bytes where text beyond ASCII may make it four times that; `values`
    in list items, a table counting as four."""

    size: int = 256 << 20
    wide: int = 128 << 20
    values: int = 16_000_000  # 200,000 stages and more


PLAN = Bounds()  # of the largest file there is
SMALL = Bounds(4 << 20, 4 << 20, 400_000)  # of facts about one stage or run


def parse(content: bytes, bounds: Bounds = PLAN) -> Any:
    """JSON without NaN and infinities, within bounds. Raises ValueError, and nothing else, with what
    is wrong, the figure and the limit."""
    check(content, bounds)
    try:
        # Not as bytes: the parser would take UTF-16, too, whose numbers are not seen in the bytes.
        return json.loads(content.decode(), parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"is more than {DEEPEST} deep") from None


def read(path: str | Path, bounds: Bounds = PLAN) -> Any:
    """`parse` of a plain file. Raises OSError, ValueError."""
    return parse(read_plain(path), bounds)


def check(content: bytes, bounds: Bounds = PLAN) -> None:
    """Raises ValueError for what should not even be parsed."""
    if len(content) > bounds.size:
        raise ValueError(f"has {len(content):,} bytes; at most {bounds.size:,} are read")
    if len(content) > bounds.wide and _WIDE.search(content):
        raise ValueError(
            f"has {len(content):,} bytes, not all of them ASCII; at most {bounds.wide:,} are read"
        )
    if b"\\" in content:  # from here on every quote begins or ends a string
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    if content.count(b'"') > 4 * bounds.values:
        raise ValueError(f"has more than {bounds.values:,} values, which is the most")
    _check_strings(content)
    values = depth = 0
    tail = b""
    for chunk in _chunks(content):
        bare = _STRING.sub(b"", chunk)
        tail = _check_numbers(tail + bare)
        structure = bare.translate(None, _NO_STRUCTURE)
        brackets = structure.translate(_SQUARE, b",")
        closing = brackets.count(b"]")
        values += len(structure) - closing + 3 * structure.count(b"{")
        if values > bounds.values:
            raise ValueError(f"has more than {bounds.values:,} values, which is the most")
        depth = _deeper(brackets, depth)


def _check_strings(content: bytes) -> None:
    """Raises ValueError for one that is too long. What has no quotes for as long may also lie outside
    of strings: that many quotes before it are even."""
    start = quotes = 0
    while len(content) - start > TEXT and (found := _LONG.search(content, start)):
        quotes += content.count(b'"', start, found.start() + 1)
        if quotes % 2:
            raise ValueError(
                f"has a string of more than {TEXT:,} bytes (at byte {found.start():,})"
            )
        start = found.start() + 1


def _chunks(content: bytes) -> Iterator[bytes]:
    """Pieces that end in no string."""
    if len(content) <= _CHUNK:
        yield content
        return
    start = 0
    while start < len(content):
        end = start + _CHUNK
        if content.count(b'"', start, end) % 2:
            end = content.find(b'"', end) + 1 or len(content)
        yield content[start:end]
        start = end


def _check_numbers(bare: bytes) -> bytes:
    """Raises ValueError for a number that is too long or too large; returns the end, where one may be
    cut."""
    alike = bare.translate(_ALIKE, b"+")
    if (at := alike.find(_TOO_LONG)) >= 0:
        raise ValueError(f"has a number of more than {DIGITS} digits (at {_shown(bare, at)})")
    if _PERHAPS in alike:  # rare: a learning rate of 1e300, tried in earnest
        for found in _NUMBER.finditer(bare):
            if float(found[0]) >= LARGEST:
                raise ValueError(
                    f"has a number of 1e308 or beyond (at {_shown(bare, found.start())})"
                )
    return bare[-2 * DIGITS :]


def _shown(bare: bytes, at: int) -> str:
    return repr(bare[at : at + DIGITS].decode("ascii", "replace"))


def _deeper(brackets: bytes, depth: int) -> int:
    """How deep it is behind these brackets, of which all are written alike. Raises ValueError."""
    for _ in range(DEEPEST):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    depth += brackets.count(b"[") - brackets.count(b"]")
    if b"[]" in brackets or depth > DEEPEST:
        raise ValueError(f"is more than {DEEPEST} deep")
    return depth


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
