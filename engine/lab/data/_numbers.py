"""Numbers as people and programs write them: 1234.5, 1,234.5, 1234,5, 1.234,5, 1 234,5.

Whether "1,234" is a thousand or a little more than one cannot be seen from it. A whole column, and
where that leaves it open the other columns of the file, decide; where they leave it open too, the
person does (`decimal`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

Decimal = Literal[".", ","]

# What stands in a cell without a value. The first in any column; the others among numbers only,
# for as words of their own they mean something ("+" and "-").
GAPS = frozenset({"", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
GAPS_AMONG_NUMBERS = frozenset(
    {"-", "--", "–", "—", ".", "..", "n.a.", "nil", "missing", "unknown"}
)

LONGEST_GAP = max(map(len, GAPS | GAPS_AMONG_NUMBERS))
LARGEST = 1e300  # beyond it, the span of a column may be no number
EXACT = 2**53  # beyond it, whole numbers run together
SPACES = " \u00a0\u202f\u2009'’"  # between thousands
_SIGN, _POWER = r"[+-]?", r"(?:[eE][+-]?\d{1,3})?"
INTEGER = re.compile(rf"{_SIGN}\d+", re.ASCII)
POINT = re.compile(rf"{_SIGN}(?:\d+\.?\d*|\.\d+){_POWER}", re.ASCII)
COMMA = re.compile(rf"{_SIGN}(?:\d+,?\d*|,\d+){_POWER}", re.ASCII)


def _grouped(between: str, point: str) -> re.Pattern[str]:
    """Thousands set apart: at least one group of three behind the first digits."""
    return re.compile(rf"{_SIGN}[1-9]\d{{0,2}}(?:[{between}]\d{{3}})+(?:{point}\d*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Notation:
    """One way to write numbers. `thousands` are the characters that may set them apart."""

    decimal: Decimal
    thousands: str
    told: str  # "" for the usual one

    def fits(self, cells: Collection[str], signs: Set[str]) -> bool:
        """Whether every cell is a number in this notation, and with thousands one at least has them
        set apart. `signs` are the characters of all cells."""
        plain = POINT if self.decimal == "." else COMMA
        if not self.thousands:
            return all(map(plain.fullmatch, cells))
        if signs.isdisjoint(self.thousands):
            return False
        grouped = _grouped(re.escape(self.thousands), re.escape(self.decimal))
        some = False
        for cell in cells:
            if grouped.fullmatch(cell):
                some = True
            elif not plain.fullmatch(cell):
                return False
        return some

    def value(self, cell: str) -> float:
        for sign in self.thousands:
            cell = cell.replace(sign, "")
        return float(cell if self.decimal == "." else cell.replace(",", "."))


NOTATIONS = (
    Notation(".", "", ""),
    Notation(",", "", "decimal comma"),
    Notation(".", ",", "commas between thousands"),
    Notation(",", ".", "points between thousands, decimal comma"),
    Notation(".", SPACES, "spaces between thousands"),
    Notation(",", SPACES, "spaces between thousands, decimal comma"),
)
PLAIN = NOTATIONS[0]


def is_gap(cell: str) -> bool:
    return cell.strip().lower() in GAPS


def gaps_in(cells: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Which of some stripped cells are gaps in any column, and which besides among numbers."""
    short = {cell: cell.lower() for cell in cells if len(cell) <= LONGEST_GAP}
    return (
        frozenset(cell for cell, word in short.items() if word in GAPS),
        frozenset(cell for cell, word in short.items() if word in GAPS_AMONG_NUMBERS),
    )


def notations_of(cells: Collection[str], among: Sequence[Notation] = NOTATIONS) -> list[Notation]:
    """Those in which all `cells` (stripped, no gaps) are finite numbers; [] if there is none.

    Whole numbers fit two and are the same in both: then only the first is returned.
    """
    signs = set().union(*cells)
    fit = [n for n in among if n.fits(cells, signs)]
    values: list[tuple[Notation, list[float]]] = []
    for notation in fit:
        numbers = [notation.value(cell) for cell in cells]
        if all(abs(n) <= LARGEST for n in numbers) and not any(
            numbers == known for _, known in values
        ):
            values.append((notation, numbers))
    if values and any(abs(number) >= EXACT for number in values[0][1]):
        values = [one for one in values if _exact(cells, *one)]
    return [notation for notation, _ in values]


def _exact(cells: Collection[str], notation: Notation, numbers: Sequence[float]) -> bool:
    """Whether every large whole number among `cells` is the number that it was read as."""
    for cell, number in zip(cells, numbers, strict=True):
        if abs(number) >= EXACT:
            plain = "".join(c for c in cell if c not in notation.thousands)
            if INTEGER.fullmatch(plain) and int(plain) != int(number):
                return False
    return True


NUMBER_LIKE = re.compile(
    rf"""[(+−-]?\s*[$€£¥]?\s*[+−-]?\d[\d.,{SPACES}_]*(?:[eE][+-]?\d+)?\s*(?:%|‰|[$€£¥])?\)?
    | [+-]?(?:inf|infinity)
    | \d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}(?:[T\ ].*)?   # dates
    | \d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?            # times
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_number_like(cell: str) -> bool:
    """Whether a cell that is no number looks as if it should be one: a sum of money, a share in
    percent, a date, an infinity, a number in another notation."""
    return NUMBER_LIKE.fullmatch(cell) is not None
