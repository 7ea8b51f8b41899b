"""What went wrong with something a person gave us."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_VALUE = 200  # characters of a value in a message
LONGEST_LINE, MOST_LINES = 4_000, 60  # of a message
MANY = 200  # known words, of which a message names as many


class BadInput(ValueError):
    """Input that cannot be used as given. The command line prints it and exits with code 2.

    The message names the place (file, key), the value found and what would be right. One of
    megabytes, for the value was, is cut: where it is and what is wrong stand at its ends.
    """

    def __init__(self, message: object = "") -> None:
        lines = str(message).split("\n")
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} more lines."]
        super().__init__("\n".join(cut(line, LONGEST_LINE) for line in lines))


def cut(text: str, most: int = LONGEST_VALUE) -> str:
    """`text`, the middle of a long one left out."""
    if len(text) <= most:
        return text
    left = f"… ({len(text) - most:,} characters) …"
    return text[: most - most // 3] + left + text[len(text) - most // 3 :]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing is close."""
    if len(word) > LONGEST_VALUE:
        return None  # like nothing, and found to be so in minutes
    close = difflib.get_close_matches(word, [one for one in known if len(one) <= LONGEST_VALUE],
                                      n=1, cutoff=0.55)  # fmt: skip
    return close[0] if close else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """One sentence: `word` is no `what`; the nearest right one; the whole list."""
    names = sorted(known)
    guess = nearest(word, names) if len(names) <= MANY else None
    hint = f" Did you mean {guess!r}?" if guess else ""
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    listed = ", ".join(map(cut, names[:MANY]))
    return f"unknown {what} {cut(repr(word))}.{hint} Known: {listed}{more}."
