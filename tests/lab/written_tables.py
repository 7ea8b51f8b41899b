"""Random tables of which it is known what is meant by them: the writer's side of a property test.

Nothing here reads a table. A column is made of cells, each of which is a value (a number, a word or
none) and the way it is written; whatever docs/tables.md refuses is put in on purpose and noted as a
column's `trouble`.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

WORDS = (
    "north", "south west", "C", "C++", "naïve", "東京", 'the "big" one', 'pipe 5"', "a,b", "x;y",
    "p|q", "tab\there", "two\nlines", "it's", "<=50K", "+", "-", "n.a.", "unknown", "1st", "A1",
    "North", "Ω", "10 kg", "end.", "a  b", "#1", "=x", "no/yes", "x, y; z",
)  # fmt: skip
ODD = ("abc", "n/k", "many", "x1", "12 of 13", "<5", "5+", "ten")  # words that spoil numbers
NUMBER_LIKE = (
    "12%", "5 %", "$5", "€ 3", "7 €", "inf", "-Infinity", "(5)", "2020-01-31", "31.12.2020",
    "1/2/2003", "10:30", "2020-01-31 10:30:00", "1,23,456", "1_000",
)  # fmt: skip
GAPS = ("", "", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "n/a", "  ")
GAPS_AMONG_NUMBERS = (*GAPS, "-", "--", ".", "..", "n.a.", "nil", "missing", "Unknown")
NAMES = (
    "age", "Blood pressure", "größe", "x.1", "2019", "a-b", 'say "hi"', "net_income", "N", "c,d",
    "温度", "value", "town", "rate %", "first name", "UPPER",
)  # fmt: skip
ID_NAMES = ("id", "ID", "index", "PassengerId", "Unnamed: 0", "user_id", "row nr")
CLASSES = (
    ("yes", "no"), ("<=50K", ">50K"), ("+", "-"), ("C", "C++", "C#"), ("ham", "spam"),
    ("a b", "ab", "a"), ("naïve", "naive"), ("positive", "neutral", "negative"), ("x,y", "x;y"),
    ("Iris-setosa", "Iris-virginica"), ('"q"', "q"), ("é", "e", "ê"), ("M", "B"), ("1st", "2nd"),
)  # fmt: skip


@dataclass
class Cell:
    """`value`: a number, a word or None; `written` in files of text, `typed` in JSON and Parquet."""

    value: float | str | None
    written: str
    typed: Any = None


@dataclass
class Column:
    """`sign`: the decimal sign that a column of numbers cannot be without, "" where either will do.

    `trouble`: why docs/tables.md refuses it ("mixed", "number-like", "counts"); "unclear" is a
    column of numbers that could be read in two ways, of which `meant` is the decimal sign.
    """

    name: str
    cells: list[Cell]
    numeric: bool = False
    typed: bool = False
    sign: str = ""
    meant: str = ""
    trouble: str = ""

    def empty(self) -> bool:
        return all(not cell.written.strip() for cell in self.cells)


@dataclass
class Labels(Column):
    """`cells` hold the label as it is meant; `apart`: spellings that look alike are two classes."""

    twins: bool = False
    apart: bool = False


@dataclass
class Made:
    """A table; `first` of its rows are the training file's, the others, if any, the test file's."""

    columns: list[Column]
    label: int
    first: int
    rows: int
    settings: dict[str, Any] = field(default_factory=dict)
    header: bool = True

    def place(self, column: Column) -> int:
        return next(at for at, one in enumerate(self.columns) if one is column)


# --- numbers -------------------------------------------------------------------------------------


def number(plain: str, decimal: str, thousands: str = "", plus: bool = False) -> str:
    """ "-1234.5" as people write it."""
    sign, digits = ("-", plain[1:]) if plain[0] == "-" else ("+" if plus else "", plain)
    mantissa, e, power = digits.partition("e")
    whole, point, fraction = mantissa.partition(".")
    if thousands and len(whole) > 3:
        head = len(whole) % 3 or 3
        groups = [whole[:head], *(whole[at : at + 3] for at in range(head, len(whole), 3))]
        whole = thousands.join(groups)
    return sign + whole + (decimal if point else "") + fraction + e + power


def numbers(rng: random.Random, rows: int, decimal: str) -> Column:
    """A column of numbers that is plain: by itself, or because it has no sign at all."""
    other = "." if decimal == "," else ","
    style = rng.choice(("whole", "fraction", "exponent", "grouped", "grouped whole", "spaced"))
    digits = rng.choice((1, 2, 4))
    thousands = {"grouped": other, "grouped whole": other}.get(style, "")
    if style == "spaced":
        thousands = rng.choice((" ", "\u00a0", "\u202f", "'", "’"))
    sign = "" if style in ("whole", "spaced") else decimal
    cells = []
    for row in range(rows):
        minus = "-" if rng.random() < 0.2 else ""
        if style == "whole":
            plain = str(rng.randint(0, 60))
        elif style == "exponent":
            plain = (
                f"{rng.randint(1, 9)}.{rng.randint(1, 99)}e{rng.choice(('-3', '+2', '5', '-12'))}"
            )
        elif style == "grouped whole":  # two groups: no fraction is written like that
            plain = str(rng.randint(1_000_000, 9_000_000) if row < 3 else rng.randint(0, 99_999))
        elif style == "spaced":
            plain = str(rng.randint(1_000, 9_000_000) if row < 3 else rng.randint(0, 99_999))
        else:
            plain = f"{rng.randint(0, 70_000)}.{rng.randint(0, 10**digits - 1):0{digits}}"
            if row >= 3 and rng.random() < 0.3:
                plain = plain.partition(".")[0]
        plus = rng.random() < 0.03
        written = number(minus + plain, decimal, thousands, plus)
        cells.append(Cell(float(minus + plain), written, _typed(minus + plain)))
    return Column("", cells, numeric=True, sign=sign)


def unclear(rng: random.Random, rows: int, decimal: str) -> Column:
    """Numbers that could be thousands or fractions of three digits."""
    grouped = rng.random() < 0.5
    sign = ("." if decimal == "," else ",") if grouped else decimal
    cells = []
    for row in range(rows):
        head, tail = str(rng.randint(1, 999)), f"{rng.randint(0, 999):03}"
        if row >= 3 and rng.random() < 0.3:
            cells.append(Cell(float(head), head, int(head)))
            continue
        plain = head + tail if grouped else f"{head}.{tail}"
        cells.append(Cell(float(plain), f"{head}{sign}{tail}", _typed(plain)))
    return Column("", cells, numeric=True, meant=decimal, trouble="unclear")


def _typed(plain: str) -> int | float:
    return float(plain) if set(plain) & set(".e") else int(plain)


# --- other columns -------------------------------------------------------------------------------


def words(rng: random.Random, rows: int, pool: Sequence[str] = WORDS, most: int = 6) -> Column:
    some = rng.sample(pool, rng.randint(1, min(most, len(pool))))
    return Column("", [_word(rng.choice(some)) for _ in range(rows)])


def _word(text: str) -> Cell:
    return Cell(text, text, text)


def mixed(rng: random.Random, rows: int) -> Column:
    odd = rng.sample((*ODD, *NUMBER_LIKE), rng.randint(1, 3))
    share = rng.choice((0.1, 0.5, 0.9))
    cells = [
        _word(rng.choice(odd) if rng.random() < share else str(rng.randint(0, 40)))
        for _ in range(rows)
    ]
    cells[2], cells[3] = _word(odd[0]), _word("17")
    return Column("", cells, trouble="mixed")


def counting(rng: random.Random, rows: int, first: int) -> Column:
    """Numbers, or names, of the rows of a file."""
    start = rng.choice((0, 1, 100, 7001))
    order = list(range(start, start + first))
    style = rng.choice(("up", "down", "shuffled", "ids", "texts"))
    name = rng.choice(("n", "obs", *ID_NAMES))
    if style == "down":
        order.reverse()
    elif style == "shuffled":
        rng.shuffle(order)
    elif style == "ids":
        name, order = rng.choice(ID_NAMES), rng.sample(range(10**6), first)
    order += [rng.choice((order[0], start + n)) for n in range(first, rows)]
    if style == "texts":
        cells = [_word(f"{name}{n}x") for n in order]
        return Column(name, cells, trouble="counts")
    cells = [Cell(float(n), str(n), n) for n in order]
    return Column(name, cells, numeric=True, trouble="counts")


def labels(rng: random.Random, rows: int, first: int, typed: bool) -> Labels:
    """Every class stands in the first rows of both files."""
    style = rng.choice(
        ("numbers", "numbers", "words", "words", "words", "spaced", "twins", "twins")
    )
    if style == "numbers":
        found = rng.sample(range(-1, 12), rng.randint(2, 4))
        cells = [_label_number(rng, found[row % len(found)]) for row in range(rows)]
        return _dealt(rng, Labels("", cells, typed=typed and rng.random() < 0.5), first, len(found))
    pool = rng.choice(CLASSES)
    cells = [_word(pool[row % len(pool)]) for row in range(rows)]
    made = Labels("", cells)
    if style == "spaced":  # every label alike: no part of it
        left, right = rng.choice(((" ", ""), ("", " "), ("  ", " "), (" ", "\u00a0")))
        for cell in cells:
            cell.written = cell.typed = f"{left}{cell.written}{right}"
    elif style == "twins":
        made.apart = rows == first and rng.random() < 0.3
        change = rng.choice(_TWINS[:3] if made.apart else _TWINS)
        for cell in cells[len(pool) * 2 :: 1 if made.apart else rng.choice((1, 2, 3))]:
            other = change(str(cell.value))
            cell.written = cell.typed = other
            if made.apart:
                cell.value = other
        made.twins = len({cell.written for cell in cells}) > len(pool)
    return _dealt(rng, made, first, len(pool))


_TWINS = (
    str.upper,
    lambda word: f"{word}.",
    lambda word: word.replace(" ", "  ") if " " in word else word.swapcase(),
    lambda word: f" {word}",
    lambda word: f"{word} ",
    lambda word: unicodedata.normalize("NFD", word),
)


def _label_number(rng: random.Random, value: int) -> Cell:
    shown = abs(value)
    minus = "-" if value < 0 else ""
    forms = (f"{shown}",) * 4 + (f"{shown}.0", f"{shown}.", f"0{shown}", f"{shown}.00")
    return Cell(str(value), minus + rng.choice(forms), rng.choice((value, float(value))))


def _dealt(rng: random.Random, made: Labels, first: int, classes: int) -> Labels:
    """Shuffled behind the first rows, of which there are enough of every class."""
    for start, end in ((classes * 4, first), (first + classes, len(made.cells))):
        some = made.cells[start:end]
        rng.shuffle(some)
        made.cells[start:end] = some
    return made


# --- a table -------------------------------------------------------------------------------------


def table(rng: random.Random, typed: bool) -> Made:
    """A table of any kind. `typed`: for a form in which a number need not be a text."""
    first = rng.randint(20, 40)
    rows = first + (rng.randint(8, 16) if rng.random() < 0.4 else 0)
    decimal = rng.choice((".", ".", ","))
    columns = []
    for _ in range(rng.randint(1, 5)):
        sign = decimal if rng.random() < 0.93 else rng.choice((".", ","))
        column = numbers(rng, rows, sign) if rng.random() < 0.6 else words(rng, rows)
        column.typed = typed and column.numeric and rng.random() < 0.6
        columns.append(column)
    troubled = rng.random() < 0.55
    if troubled:
        columns += _troubled(rng, rows, first)
    for column in columns:
        if column.trouble != "counts":
            column.cells[1] = column.cells[0]  # it never counts the rows by chance
    settings: dict[str, Any] = {}
    _with_gaps(rng, columns, first, rows, settings)
    deciding = {c.sign for c in columns if c.sign and not c.typed and not c.trouble}
    if rng.random() < 0.3:
        column = unclear(rng, rows, decimal)
        column.cells[1] = column.cells[0]
        if deciding == {decimal} or not deciding:
            columns.append(column)
    if deciding <= {decimal} and rng.random() < 0.1:
        settings["decimal"] = decimal
    rng.shuffle(columns)
    label = labels(rng, rows, first, typed)
    if rng.random() < 0.1:
        row = rng.choice([n for n in range(16, rows) if not first <= n < first + 4])
        label.cells[row] = Cell(None, rng.choice(GAPS), None)
    place = rng.choice((len(columns), len(columns), 0, rng.randint(0, len(columns))))
    columns.insert(place, label)
    made = Made(columns, place, first, rows, settings)
    _named(rng, made)
    _told(rng, made)
    return made


def _troubled(rng: random.Random, rows: int, first: int) -> list[Column]:
    found = []
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("mixed", "number-like", "counts", "counts"))
        if kind == "counts":
            found.append(counting(rng, rows, first))
        elif kind == "mixed":
            found.append(mixed(rng, rows))
        else:
            found.append(words(rng, rows, NUMBER_LIKE))
            found[-1].trouble = kind
    return found


def _with_gaps(
    rng: random.Random, columns: list[Column], first: int, rows: int, settings: dict[str, Any]
) -> None:
    settings |= rng.choice(
        ({}, {}, {"missing": "drop"}, {"impute": "mean"}, {"impute": "median"},
         {"impute": "mean", "missing": "drop"})
    )  # fmt: skip
    if rng.random() < 0.5:
        return
    places = [n for n in range(16, rows) if not first <= n < first + 4]
    for column in columns:
        if column.trouble == "counts" or rng.random() < 0.5:
            continue
        some = GAPS_AMONG_NUMBERS if column.numeric and not column.trouble else GAPS
        for row in rng.sample(places, rng.randint(1, 3)):
            column.cells[row] = Cell(None, rng.choice(some), None)


def _named(rng: random.Random, made: Made) -> None:
    made.header = rng.random() < 0.8
    names = rng.sample(NAMES, len(made.columns))
    taken: set[str] = set()
    for place, column in enumerate(made.columns):
        own = column.name if column.name and column.name not in taken else names[place]
        column.name = own if made.header else str(place)
        taken.add(column.name)
    if not made.header:
        made.settings["header"] = False
    for column in made.columns:  # random numbers are ids only under a name that says so
        named = column.name in ID_NAMES
        if column.trouble == "counts" and column.numeric and not named:
            column.trouble = "counts" if _counts(column, made.first) else ""
            column.cells[1] = column.cells[1 if column.trouble else 0]


def _counts(column: Column, first: int) -> bool:
    own = [cell.value for cell in column.cells[:first]]
    return max(own) - min(own) == first - 1  # type: ignore[type-var,operator]


def _told(rng: random.Random, made: Made) -> None:
    """Keys that a person gives from the start, and columns without a name."""
    settings, label = made.settings, made.columns[made.label]
    safe = next(c for c in made.columns if c is not label and not c.trouble)
    free = [c for c in made.columns if c is not label and c is not safe]
    if made.header and free and rng.random() < 0.12:
        column = rng.choice(free)
        if not column.sign or column.trouble:
            column.name = ""
    elif made.header and rng.random() < 0.08:
        blank = Column("", [Cell(None, rng.choice(("", "", " "))) for _ in range(made.rows)])
        made.columns.append(blank)
    last = max(at for at, column in enumerate(made.columns) if column.name)
    nameless = any(not column.name and not column.empty() for column in made.columns)
    if made.label != last or nameless or rng.random() < 0.3:
        settings["label"] = rng.choice((label.name, made.label))
    named = [column for column in free if column.name]
    kept = [c for c in named if c.trouble]
    unsigned = [made.place(column) for column in named if not column.sign]
    if unsigned and rng.random() < 0.1:
        at = rng.choice(unsigned)
        settings["drop"] = [rng.choice((made.columns[at].name, at))]
    elif kept and rng.random() < 0.1:
        settings["keep"] = [kept[0].name]
    plain = [c for c in named if c.numeric and not c.typed and not c.trouble and not c.sign]
    if plain and "drop" not in settings and rng.random() < 0.1:
        settings["columns"] = {plain[0].name: rng.choice(("numeric", "categorical"))}
