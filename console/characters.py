"""Texts for terminals that have nothing but ASCII."""

from __future__ import annotations

import os
import sys
import unicodedata

KNOWN = {
    "✗": "x", "✓": "+", "✖": "#", "●": "*", "◆": "*", "…": "...", "·": "-", "×": "x", "±": "+-",
    "≤": "<=", "≥": ">=", "→": "->", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"', "↑": "^",
    "↓": "v", "←": "<-", "┊": "|", "−": "-", "²": "^2", "σ": "std", "μ": "mean",
    "⏎": "enter", "ä": "ae", "ö": "oe", "ü": "ue", "≈": "~", "‘": "'", "•": "*",
    "∞": "inf",
    "√": "sqrt", "∇": "grad", "∂": "d", "§": "section ", "⟨": "<", "⟩": ">", "‖": "||", "∪": "or",
    "⁻": "^-", "€": "EUR", "£": "GBP", "¥": "JPY", "‰": "per mille", "○": "o", "■": "#", "□": "#",
    "▶": ">", "▸": ">", "◂": "<", "▼": "v", "▲": "^", "›": ">", "✕": "x", "◇": "*", "\u0304": "",
    "▁": "_", "▂": "_", "▃": ".", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#",
}  # fmt: skip
_TABLE = str.maketrans(KNOWN)
COERCED = ("", "C.UTF-8", "C.utf8", "UTF-8")  # LC_CTYPE as Python sets it in the C locale
BOXES, BLOCKS = range(0x2500, 0x2580), range(0x2580, 0x25A0)


def in_ascii(text: str) -> str:
    """`text` with what ASCII has for its other characters; ? where it has nothing."""
    if text.isascii():
        return text
    return "".join(map(_plain, text.translate(_TABLE)))


def _plain(character: str) -> str:
    """One ASCII character or several for any one; a byte of a name that is no text by its number."""
    if character.isascii():
        return character
    code = ord(character)
    if code in BOXES:
        name = unicodedata.name(character, "")
        lines = ("VERTICAL" in name, "HORIZONTAL" in name)
        return {(True, False): "|", (False, True): "-"}.get(lines, "+")
    if code in BLOCKS:
        return "#"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    name = unicodedata.name(character, "")
    if name.startswith("GREEK"):
        word = name.split(" WITH ")[0].rpartition(" ")[2].lower()
        return word.capitalize() if "CAPITAL" in name else word
    apart = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return apart or "?"


def wants_ascii(encoding: str | None) -> bool:
    """Whether a stream of this encoding, in this environment, is to get nothing but ASCII.

    Python takes the C locale for UTF-8 and tells nobody; where somebody asked for that locale, their
    terminal is taken at its word, unless they told Python otherwise.
    """
    if "utf" not in (encoding or "utf-8").lower():
        return True
    said = {name: os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    switch = os.environ.get("PYTHONUTF8", "")
    if os.environ.get("PYTHONIOENCODING", "").partition(":")[0] or switch == "1":
        return False
    if not (sys.flags.utf8_mode or (switch == "0" and said["LC_CTYPE"] in COERCED)):
        return False
    return (said["LC_ALL"] or said["LANG"]) in ("C", "POSIX")
