"""Files of rows as text: which form they have, in which encoding, what they are instead."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from engine.spec.encoding import marked_encoding
from engine.spec.errors import BadInput, cut

Format = Literal["tsv", "csv", "jsonl", "parquet"]
ENDINGS: dict[str, Format] = {
    ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
T = TypeVar("T")
NO_TEXTS = ("idna", "punycode")  # of names of hosts
USUAL = "cp1252"  # of files that are not UTF-8
OTHERS = (
    (b"PK\x03\x04", "is a zip archive (a workbook, .xlsx, is one): unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "is a workbook (.xls): save it as CSV"),
    (b"\x1f\x8b", "is compressed by gzip: unpack it"),
    (b"BZh91AY&SY", "is compressed by bzip2: unpack it"),
    (b"\xfd7zXZ", "is compressed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it"),
    (b"PAR1\x15", 'is a Parquet file: data.format = "parquet" reads it'),
)


class Undecoded(BadInput):
    """A file that is in another encoding."""


def in_encoding(encoding: str, read: Callable[[str], T]) -> T:
    """`read(encoding)`; if that cannot decode a file, what else is to be settled is told at once: as
    far as the usual other encoding shows it. Raises BadInput."""
    try:
        return read(encoding)
    except Undecoded as error:
        if encoding == USUAL:
            raise
        try:
            read(USUAL)
        except Undecoded:
            pass
        except BadInput as other:
            raise BadInput(f"{error}\n{other}") from None
        raise


def key_of(where: str) -> str:
    """The key in the words of errors, without the path: what goes into reports, which travel."""
    return where.partition(" = ")[0]


def form_of(path: Path, form: Format | None, where: str, default: Format | None = None) -> Format:
    """What `form` or the file's ending says; `default` for endings that say nothing. Raises
    BadInput."""
    found = form or ENDINGS.get(path.suffix.lower(), default)
    if found is None:
        known = ", ".join(ENDINGS)
        raise BadInput(f"{where}: ends in none of {known}; say what it is with data.format.")
    return found


def decoded(content: bytes, encoding: str, where: str) -> str:
    """Without a byte order mark, which also tells the encoding where that is none but the default.

    Raises BadInput naming the first line that is broken, and for what is no text at all.
    """
    for start, what in OTHERS:
        if content.startswith(start):
            raise BadInput(f"{where}: {what}.")
    marked = marked_encoding(content)
    if marked is not None and not _family(encoding).startswith(_family(marked)):
        if _family(encoding) != "utf8":
            mark = marked.removesuffix("-sig").upper()
            raise BadInput(f"{where}: begins with {mark}'s mark; data.encoding = {encoding!r}.")
        encoding = marked
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "ignore")
        line = before.count("\n") + 1
        raise Undecoded(
            f"{where}: line {line} is not {encoding.upper()} (byte {error.start}: {error.reason}); "
            f'data.encoding says which it is, such as "{USUAL}".'
        ) from None
    except UnicodeError as error:
        raise BadInput(f"{where}: is not {encoding.upper()}: {error}.") from None
    if text.count("\0") * 4 > len(text):
        line = text[: text.index("\0")].count("\n") + 1
        raise BadInput(
            f"{where}: line {line} holds the character NUL; data.encoding says what encoding "
            'it is in, such as "utf-16-le".'
        )
    return text


def _family(encoding: str) -> str:
    """utf8, utf16 or utf32, whatever the spelling and the order of bytes."""
    return codecs.lookup(encoding).name.replace("-", "").replace("sig", "").replace("_", "")


def known_encoding(name: str) -> str:
    """`name`, if it is an encoding of texts. Raises ValueError."""
    try:
        "a".encode(name)  # Python's codecs of bytes, such as base64, refuse a text
        b"a".decode(name, "ignore")  # and those of names, such as idna, what is no name
        if codecs.lookup(name).name in NO_TEXTS:
            raise ValueError
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(
            f"{cut(repr(name))} is no encoding of texts; utf-8, utf-16, latin-1 and cp1252 are some"
        ) from None
    return name
