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
    PLAIN,
    Decimal,
    Notation,
    is_gap,
    is_number_like,
    notations_of,
)
from engine.lab.data._sheet import Sheet
from engine.spec.errors import BadInput
from engine.spec.toml import inline

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["numeric", "categorical"]
MOST_CATEGORIES = 100
MOST_PROBLEMS = 8  # told at once
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

        [notation] = self.notations
        value = {c: float("nan") if c in self.gaps else notation.value(c) for c in self.distinct}
        return np.fromiter(map(value.__getitem__, self.cells), np.float64, len(self.cells))

    def missing(self) -> np.ndarray:
        """bool [N]: where no value stands."""
        import numpy as np

        return np.fromiter(map(self.gaps.__contains__, self.cells), np.bool_, len(self.cells))


def columns_of(
    sheets: Sequence[Sheet],
    kinds: Mapping[str, Kind],
    decimal: Decimal | None,
) -> tuple[list[Features], list[str], list[str]]:
    """(the columns but the label's, how they were read, warnings).

    `sheets` have equal names. Raises BadInput that tells of every column that is neither.
    """
    first = sheets[0]
    for name in kinds:
        if name not in first.names:
            raise BadInput(f"data.columns.{name}: {first.where} has no such column.")
    found: list[Features] = []
    problems: list[str] = []
    for at, name in enumerate(first.names):
        if at == first.label:
            continue
        cells = [cells[at].strip() for sheet in sheets for _, cells in sheet.rows]
        column = Features(name, cells, all(at in sheet.typed for sheet in sheets))
        problem = _settle(column, kinds.get(name), decimal)
        if problem:
            problems.append(f"{_where(sheets, at, problem.cells)}: column {name!r}: {problem.told}")
        found.append(column)
    if not problems:
        problems += _unclear(found, sheets)
    if not problems:
        problems += _row_numbers(found, sheets)
    if problems:
        more = len(problems) - MOST_PROBLEMS
        told = problems[:MOST_PROBLEMS] + [f"… and {more} more columns."] * (more > 0)
        raise BadInput("\n".join(told))
    return found, _told(found), _warnings(found)


@dataclass(frozen=True, slots=True)
class _Problem:
    told: str
    cells: tuple[str, ...]  # one of them stands where the error points at


def _settle(column: Features, kind: Kind | None, decimal: Decimal | None) -> _Problem | None:
    """Find gaps and notations of one column; what is left open stays several notations."""
    distinct = column.distinct
    if kind == "categorical":
        column.gaps = frozenset({""}.intersection(distinct))
        return None
    plain = [cell for cell in distinct if not is_gap(cell)]
    column.gaps = frozenset(filter(is_gap, distinct))
    if not plain:
        drop = f"data.drop = [{inline(column.name)}]"
        return _Problem(f"no row has a value; {drop} leaves it out.", tuple(distinct))
    among = [cell for cell in plain if not is_gap(cell, True)]
    decimal = None if column.typed else decimal
    if among and (fit := notations_of(among, decimal)):
        column.notations = [PLAIN] if column.typed else fit
        column.gaps = frozenset(cell for cell in distinct if is_gap(cell, True))
        return None
    is_number = {cell: bool(notations_of([cell], decimal)) for cell in among}
    numbers = [cell for cell in among if is_number[cell]]
    words = [cell for cell in among if not is_number[cell]]
    likes = [cell for cell in words if is_number_like(cell)]
    remedy = f'data.columns = {{ {inline(column.name)} = "categorical" }}'
    if not numbers and not likes and kind is None:
        return None
    if numbers and words:
        odd, rest = (words, "numbers") if len(words) <= len(numbers) else (numbers, "words")
        return _Problem(
            f"{_shown(odd)} among {rest}. Mend the cells, or {remedy} makes every value a category.",
            tuple(odd),
        )
    if likes:
        return _Problem(
            f"{_shown(likes)} {'looks' if len(likes) == 1 else 'look'} like numbers or dates and "
            f"cannot be read as such. Write plain numbers, or {remedy} makes every value a category.",
            tuple(likes),
        )
    if numbers:  # each for itself, but in no one notation
        return _Problem(
            f"{_shown(numbers)} are numbers in different notations; data.decimal says which sign is "
            "the decimal one.",
            tuple(numbers[-1:]),
        )
    return _Problem(
        f"data.columns says it is numeric, but {_shown(words)} is no number.", tuple(words)
    )


def _unclear(columns: Sequence[Features], sheets: Sequence[Sheet]) -> list[str]:
    """Settle columns whose numbers could be read in two ways by those that could not."""
    signs = {
        next(iter(decimals))
        for column in columns
        if column.numeric and not column.typed and _has_sign(column)
        and len(decimals := {n.decimal for n in column.notations}) == 1
    }  # fmt: skip
    problems = []
    for column in columns:
        if len(column.notations) < 2:
            continue
        if len(signs) == 1:
            column.notations = [n for n in column.notations if n.decimal in signs][:1]
        elif not signs and PLAIN in column.notations:
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


def _has_sign(column: Features) -> bool:
    """Whether a decimal sign or a sign between thousands stands in it."""
    return any("," in cell or "." in cell for cell in column.present)


def _row_numbers(columns: Sequence[Features], sheets: Sequence[Sheet]) -> list[str]:
    """Columns that number the rows, or name them, which tells the classes of a sorted file."""
    problems = []
    counts = [len(sheet.rows) for sheet in sheets]
    for column in columns:
        if column.name in sheets[0].kept:
            continue
        why = _numbering(column, counts[0])
        if why:
            key = f"[{inline(column.name)}]"
            problems.append(
                f"{sheets[0].where}: column {column.name!r} {why}, which gives classes away where "
                f"rows are sorted; data.drop = {key} leaves it out, data.keep = {key} reads it."
                + ' Texts are read by data.name = "text-file".'
                * (not column.numeric)
            )
    return problems


def _numbering(column: Features, rows: int) -> str:
    if rows < FEW:
        return ""
    distinct = len(set(column.cells[:rows])) == rows
    if not column.numeric:
        return "has another text in every row" if distinct and rows >= 2 * FEW else ""
    if INDEX.fullmatch(column.name):
        return "is an index"
    if not distinct:
        return ""
    numbers = column.values()[:rows]
    if (numbers % 1 != 0).any():  # NaN, too
        return ""
    steps = {float(step) for step in numbers[1:] - numbers[:-1]}
    if steps in ({1.0}, {-1.0}):
        return "counts the rows"
    if rows >= 2 * FEW and numbers.max() - numbers.min() == rows - 1:
        return "counts the rows, in another order"
    return "has another number in every row" if ID_LIKE.fullmatch(column.name) else ""


def _told(columns: Sequence[Features]) -> list[str]:
    told: list[str] = []
    notations: dict[str, list[str]] = {}
    for column in columns:
        for notation in column.notations[:1]:
            if notation.told:
                notations.setdefault(notation.told, []).append(column.name)
    told += [f"{words} in {_names(names)}" for words, names in notations.items()]
    for column in columns:
        words = sorted(filter(None, column.gaps))
        if words:
            told.append(f"{_shown(words)} in {column.name!r} read as no value")
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
