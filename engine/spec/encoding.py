"""Which encoding the first bytes of a text file name: editors and spreadsheets write such marks."""

from __future__ import annotations

import codecs

# UTF-32's mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked_encoding(content: bytes) -> str | None:
    """The encoding whose byte order mark `content` begins with; decoding by it drops the mark."""
    return next((name for mark, name in MARKS if content.startswith(mark)), None)
