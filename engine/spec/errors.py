"""What went wrong with something a person gave us."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Input that cannot be used as given. The command line prints it and exits with code 2.

    The message names the place (file, key), the value found and what would be right.
    """


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return close[0] if close else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """One sentence: `word` is no `what`; the nearest right one; the whole list."""
    names = sorted(known)
    guess = nearest(word, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown {what} {word!r}.{hint} Known: {', '.join(names)}."
