"""What the columns of a table are: numbers in which notation, categories, gaps; or none of these.

A column is numeric if every cell that has a value is a number, categorical if none is; what is
neither is refused, with the cells that stand in the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engine.lab.data._labels import folded, number
from engine.lab.data._numbers import (
    INTEGER,
    NOTATIONS,
    PLAIN,
    Decimal,
    Notation,
    gaps_in,
    is_number_like,
    notations_of,
)
from engine.lab.data._sheet import Sheet
from engine.spec.errors import BadInput
from engine.spec.toml import inline

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["numeric", "categorical"]
TEXTS = ' Texts are read by data.name = "text-file".'
MOST_CATEGORIES = 100
FEW = 5  # rows: of fewer, any whole numbers may count the rows by chance
ID_LIKE = re.compile(
    r"(?:.*[_ -])?(?:id|idx|index|rownum|row|nr|no|unnamed: ?\d+)|.*[a-z]Id|#", re.I
)
INDEX = re.compile(r"unnamed: ?\d+|__index_level_\d+__", re.I)


@dataclass(slots=True)
class Features:
    """One column of all files: its `cells` [N], stripped, and what is different among them.

    `gaps` are the cells that are no value, as they are written; `notations` those in which all
    others are numbers, none for a categorical column.
    """

    name: str
    cells: list[str]
    typed: bool
    distinct: list[str] = field(init=False)
    numbers: np.ndarray | None = field(default=None, init=False)
    notations: list[Notation] = field(default_factory=list)
    gaps: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.distinct = list(dict.fromkeys(self.cells))

    @property
    def numeric(self) -> bool:
        return bool(self.notations)

    @property
    def present(self) -> list[str]:
        """The different values."""
        return [cell for cell in self.distinct if cell not in self.gaps]

    def values(self) -> np.ndarray:
        """float64 [N], NaN in gaps; of a numeric column whose notation is settled."""
        import numpy as np

        if self.numbers is None:
            [notation] = self.notations
            value = {c: notation.value(c) for c in self.present}
            value |= dict.fromkeys(self.gaps, float("nan"))
            told = map(value.__getitem__, self.cells)
            self.numbers = np.fromiter(told, np.float64, len(self.cells))
        return self.numbers

    def missing(self) -> np.ndarray:
        """bool [N]: where no value stands."""
        import numpy as np

        return np.fromiter(map(self.gaps.__contains__, self.cells), np.bool_, len(self.cells))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns but the label's; how they were read and what to warn of, a sentence each; the
    problems that leave no table, likewise."""

    features: list[Features]
    told: list[str]
    warnings: list[str]
    problems: list[str]


def columns_of(
    sheets: Sequence[Sheet], kinds: Mapping[str, Kind], decimal: Decimal | None
) -> Columns:
    """What the columns of some sheets are, which have equal names. Raises BadInput for kinds of
    columns that are not there."""
    first = sheets[0]
    for name in kinds:
        if name not in (*first.names, *first.raw_names):
            raise BadInput(f"data.columns.{name}: {first.where} has no such column.")
    found: list[Features] = []
    problems: list[str] = []
    for at, name in enumerate(first.names):
        if at == first.label:
            continue
        cells = [cells[at].strip() for sheet in sheets for _, cells in sheet.rows]
        column = Features(name, cells, any(at in sheet.typed for sheet in sheets))
        problem = _settle(column, kinds.get(name))
        if problem:
            problems.append(f"{_where(sheets, at, problem.cells)}: column {name!r}: {problem.told}")
        found.append(column)
    problems += _unclear(found, sheets, decimal)
    problems += _row_numbers(found, sheets)
    return Columns(found, _told(found, decimal), _warnings(found), problems)


@dataclass(frozen=True, slots=True)
class _Problem:
    told: str
    cells: tuple[str, ...]  # one of them stands where the error points at


def _settle(column: Features, kind: Kind | None) -> _Problem | None:
    """Find gaps and notations of one column; what is left open stays several notations."""
    distinct = column.distinct
    if kind == "categorical":
        column.gaps = frozenset({""}.intersection(distinct))
        return None
    column.gaps, besides = gaps_in(distinct)
    among = [cell for cell in distinct if cell not in column.gaps and cell not in besides]
    if len(column.gaps) == len(distinct) or (kind == "numeric" and not among):
        drop = f"data.drop = [{inline(column.name)}]"
        return _Problem(f"no row has a value; {drop} leaves it out.", tuple(distinct))
    # What was a number in the file is in no notation.
    possible = (PLAIN,) if column.typed else NOTATIONS
    if among and (fit := notations_of(among, possible)):
        column.notations = fit
        column.gaps |= besides
        return None
    is_number = {cell: bool(notations_of([cell], possible)) for cell in among}
    numbers = [cell for cell in among if is_number[cell]]
    words = [cell for cell in among if not is_number[cell]]
    likes = [cell for cell in words if is_number_like(cell)]
    if kind is None and not numbers and not likes:
        return None
    return _neither(column.name, numbers, words, likes)


def _neither(
    name: str, numbers: Sequence[str], words: Sequence[str], likes: Sequence[str]
) -> _Problem:
    """What keeps a column from being numeric or categorical; `likes` are words like numbers."""
    remedy = f"or data.columns = {inline({name: 'categorical'})} makes every value a category"
    if numbers and words:
        odd, rest = (words, "numbers") if len(words) <= len(numbers) else (numbers, "words")
        return _Problem(f"{_shown(odd)} among {rest}. Mend the cells, {remedy}.", tuple(odd))
    if likes:
        look = "looks" if len(likes) == 1 else "look"
        told = f"{_shown(likes)} {look} like numbers or dates and cannot be read as such."
        return _Problem(f"{told} Write plain numbers, {remedy}.", tuple(likes))
    if numbers:
        told = f"{_shown(numbers)} are no numbers of one notation."
        return _Problem(f"{told} Write them in one, {remedy}.", tuple(numbers))
    told = f"data.columns says it is numeric, but {_shown(words)} is no number."
    return _Problem(told, tuple(words))


def _unclear(
    columns: Sequence[Features], sheets: Sequence[Sheet], decimal: Decimal | None
) -> list[str]:
    """Settle columns whose numbers could be read in two ways: by the person's word, or by those
    columns that could not."""
    signs = {decimal} if decimal else {
        column.notations[0].decimal
        for column in columns
        if column.numeric and not column.typed and _has_sign(column)
        and len({n.decimal for n in column.notations}) == 1
    }  # fmt: skip
    problems = []
    for column in columns:
        if len(column.notations) < 2:
            continue
        if len(signs) == 1:
            column.notations = [n for n in column.notations if n.decimal in signs][:1]
        elif not signs and PLAIN in column.notations and not _looks_grouped(column, sheets[0]):
            column.notations = [PLAIN]
        else:
            cell = next(c for c in column.present if not c.lstrip("+-").isdigit())
            readings = " or ".join(f"{n.value(cell):.10g}" for n in column.notations)
            at = sheets[0].names.index(column.name)
            problems.append(
                f"{_where(sheets, at, (cell,))}: column {column.name!r}: {cell!r} may be {readings}"
                '; data.decimal = "." or "," says which.'
            )
    return problems


def _looks_grouped(column: Features, sheet: Sheet) -> bool:
    """Whether points with three digits behind each may set thousands apart (950, 1.020): whole
    numbers stand beside them, or semicolons between cells tell of decimal commas."""
    return sheet.delimiter == ";" or any(map(INTEGER.fullmatch, column.present))


def _has_sign(column: Features) -> bool:
    """Whether a decimal sign or a sign between thousands stands in it."""
    return any("," in cell or "." in cell for cell in column.present)


def _row_numbers(columns: Sequence[Features], sheets: Sequence[Sheet]) -> list[str]:
    """Columns that number the rows, or name them, which tells the classes of a sorted file."""
    problems = []
    counts = [len(sheet.rows) for sheet in sheets]
    for column in columns:
        if column.name in sheets[0].kept or len(column.notations) > 1:
            continue
        why = _numbering(column, counts[0])
        if why:
            key = f"[{inline(column.name)}]"
            line = sheets[0].at(sheets[0].rows[0][0])
            cells = ", ".join(cell[:20] for cell in column.cells[:3])
            problems.append(
                f"{sheets[0].where}: {line}: column {column.name!r} {why} ({cells}, …), which gives "
                f"classes away where rows are sorted; data.drop = {key} leaves it out, data.keep = "
                f"{key} reads it."
                + ' Texts are read by data.name = "text-file".'
                * (not column.numeric)
            )
    return problems


def _numbering(column: Features, rows: int) -> str:
    import numpy as np

    if rows < FEW:
        return ""
    cells = [cell for cell in column.cells[:rows] if cell not in column.gaps]
    distinct = len(set(cells)) == len(cells) >= max(FEW, rows / 2)
    if not column.numeric:
        return "has another text in every row" if distinct and len(cells) >= 2 * FEW else ""
    if INDEX.fullmatch(column.name):
        return "is an index"
    values = column.values()[:rows]
    there = np.flatnonzero(~np.isnan(values))
    numbers = values[there]
    if len(numbers) < FEW or (numbers % 1 != 0).any():
        return ""
    if len(set(numbers - there)) == 1 or len(set(numbers + there)) == 1:
        return "counts the rows"
    named = ID_LIKE.fullmatch(column.name) is not None
    again = np.flatnonzero(np.diff(numbers) != 1) + 1  # files put one behind the other
    if named and len(again) * FEW < len(numbers) and (numbers[again] == numbers[0]).all():
        return "counts the rows, and begins anew"
    if distinct and len(numbers) >= 2 * FEW and np.ptp(numbers) == len(numbers) - 1:
        return "counts the rows, in another order"
    return "has another number in every row" if distinct and named else ""


def _told(columns: Sequence[Features], decimal: Decimal | None) -> list[str]:
    told: list[str] = []
    notations: dict[str, list[str]] = {}
    for column in columns:
        for notation in column.notations[:1]:
            words = notation.told
            if decimal == "," and notation is PLAIN and not column.typed and _has_sign(column):
                words = "decimal point"
            if words:
                notations.setdefault(words, []).append(column.name)
    told += [f"{words} in {_names(names)}" for words, names in notations.items()]
    for column in columns:
        spelled = sorted(filter(None, column.gaps))
        if spelled:
            told.append(f"{_shown(spelled)} in {column.name!r} read as no value")
    return told


def _warnings(columns: Sequence[Features]) -> list[str]:
    """Categories that are most likely one in two spellings."""
    found = []
    for column in columns:
        if column.numeric:
            continue
        first: dict[object, str] = {}
        for cell in column.present:
            value = number(cell)
            key = folded(cell).removesuffix(".") if value is None else value
            other = first.setdefault(key, cell)
            if other != cell:
                found.append(f"column {column.name!r}: {other!r} and {cell!r} are two categories.")
                break
    return found


def _where(sheets: Sequence[Sheet], at: int, cells: Sequence[str]) -> str:
    """The file and line where one of `cells` first stands in a column."""
    for sheet in sheets:
        for line, row in sheet.rows:
            if row[at].strip() in cells:
                return f"{sheet.where}: {sheet.at(line)}"
    return sheets[0].where


def _shown(cells: Sequence[str]) -> str:
    words = [repr(cell[:30]) for cell in cells[:3]]
    more = [f"{len(cells) - 3} others"] if len(cells) > 3 else []
    *some, last = words + more
    return f"{', '.join(some)} and {last}" if some else last


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
