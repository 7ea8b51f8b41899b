"""Rows of cells with something between them (CSV and its kin), read strictly.

What stands between cells is found by reading the whole file with each of the usual characters:
the one by which every row has the same number of cells. More than one, or none, is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from engine.spec.errors import BadInput

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)", " ": "spaces"}
WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "space": " "}
LONGEST = 2**31 - 1  # characters of one cell
UNCLOSED = (
    "a cell opens with a quote that is not closed where the cell ends; a quote that is part of a "
    'cell is written as "" in a quoted cell'
)
# First lines of UCI's and Weka's files; with no delimiter behind the sign they are no rows.
REMARK = re.compile(r"[|#%][^\r\n,;\t|]*(?:\r\n|\n|\r)")
SEP = re.compile(
    r'"?sep=(.)"?(?:\r\n|\n|\r)', re.I
)  # a first line by which spreadsheets tell each other


def _delimiter(told: object) -> object:
    found = WORDS.get(told, told) if isinstance(told, str) else told
    if isinstance(found, str) and (len(found) != 1 or found in '"\r\n'):
        raise ValueError(f"must be one character, or one of {', '.join(WORDS)}")
    return found


Delimiter = Annotated[str, BeforeValidator(_delimiter)]


class Record(NamedTuple):
    """One row; `line` counts from 1 and is where it begins, `lines` how many it spans."""

    line: int
    cells: list[str]
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Delimited:
    """`told` says, in a sentence each, what is not plain from the file's ending; `blank` counts rows
    that hold nothing but delimiters."""

    records: list[Record]
    delimiter: str
    told: tuple[str, ...]
    blank: int = 0

    def refuse_swallowed(self, text: str, label: int, where: str) -> None:
        """Raises BadInput where a quote seems to have swallowed rows: a cell that spans lines, of
        which an inner one, or both, cut at each delimiter, are whole rows with a known label."""
        known = {r.cells[label].strip() for r in self.records if r.lines == 1}
        lines: list[str] | None = None
        for record in self.records:
            if record.lines == 1:
                continue
            lines = lines or list(io.StringIO(text, newline=""))
            own = lines[record.line - 1 : record.line - 1 + record.lines]
            whole = [
                len(cells) == len(record.cells) and cells[label].strip('" ') in known
                for cells in (line.rstrip("\r\n").split(self.delimiter) for line in own)
            ]
            inner = [row and '"' not in line for row, line in zip(whole, own, strict=True)][1:-1]
            if any(inner) or (all(whole) and len(own) == 2):
                raise BadInput(
                    f"{where}: line {record.line}: a quote opens here and closes on line "
                    f"{record.line + record.lines - 1}, and lines between look like rows of their "
                    'own. If the quote is part of the text, write it as "" in a quoted cell.'
                )


class _Unfit(NamedTuple):
    """Why a delimiter does not fit; `agreeing` rows have the usual number of cells."""

    delimiter: str
    agreeing: int
    told: str


def delimited(text: str, where: str, delimiter: str | None = None, usual: str = ",") -> Delimited:
    """All rows that are not blank; `delimiter` None: found, and told if it is not the `usual` one.

    A quote that is never closed, or that ends before its cell does, is an error: read leniently
    it would swallow the rows behind it. Raises BadInput naming the line.
    """
    told: list[str] = []
    whole, skipped = text, 0
    if found := SEP.match(text):
        if delimiter not in (None, found[1]):
            raise BadInput(f"{where}: line 1 says {found[0].strip()!r}, data.delimiter another.")
        text, delimiter, skipped = text[found.end() :], found[1], 1
        told.append(f"line 1, {found[0].strip()}, says what stands between cells")
    while remark := REMARK.match(text):
        text, skipped = text[remark.end() :], skipped + 1
        told.append(f"line {skipped}, the remark {remark[0].strip()[:40]!r}, left out")
    fit: list[tuple[str, _Read]] = []
    unfit: list[_Unfit] = []
    others = [one for one in DELIMITERS if one != usual]
    for candidate in (delimiter,) if delimiter else (usual, *others):
        result = _fitting(text, candidate, skipped)
        if isinstance(result, _Unfit):
            unfit.append(result)
            continue
        fit.append((candidate, result))
        if candidate == usual == "\t":  # .tsv says it; .csv is used for all of them
            break
    if not fit:
        worst = max(unfit, key=lambda one: (one.agreeing, one.delimiter == usual))
        if worst.agreeing == 0 and delimiter is None and text.strip():
            raise BadInput(
                f"{where}: the first line must name at least two columns: none of "
                f"{', '.join(NAMES[d] for d in DELIMITERS)} stands between cells; data.delimiter "
                "says what does."
            )
        raise BadInput(f"{where}: {worst.told}")
    if len(fit) > 1:
        words = " or ".join(f"{len(r.records[0].cells)} at {NAMES[d]}" for d, r in fit)
        raise BadInput(
            f"{where}: every row has the same number of cells, {words}; data.delimiter says "
            "which it is."
        )
    [(chosen, read)] = fit
    if chosen != usual and not SEP.match(whole):
        told.append(f"{NAMES.get(chosen, repr(chosen))} between cells")
    return Delimited(read.records, chosen, tuple(told), read.blank)


class _Read(NamedTuple):
    records: list[Record]
    blank: int


def _fitting(text: str, delimiter: str, skipped: int) -> _Read | _Unfit:
    """The rows, if every one has the same number of cells, two or more."""
    result = _read(text, delimiter, skipped, False)
    # a, "b, c": where a space follows every delimiter, it is part of it, and a quote opens a cell.
    if f'{delimiter} "' not in text:
        return result
    if isinstance(result, _Unfit):
        first = text[: text.find("\n") + 1 or None].split(delimiter)[1:]
        spaced = bool(first) and all(cell.startswith(" ") for cell in first)
    else:
        cells = (cell for record in result.records for cell in record.cells[1:])
        spaced = all(cell.startswith(" ") for cell in cells)
    other = _read(text, delimiter, skipped, True) if spaced else result
    return result if isinstance(other, _Unfit) else other


def _read(text: str, delimiter: str, skipped: int, spaced: bool) -> _Read | _Unfit:
    before = csv.field_size_limit(LONGEST)
    records: list[Record] = []
    widths: Counter[int] = Counter()
    blank, line, problem = 0, 1 + skipped, ""
    try:
        rows = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            strict=True,
            skipinitialspace=spaced,
        )
        for cells in rows:
            after = rows.line_num + 1 + skipped
            if any(cells) and not "".join(cells).isspace():
                records.append(Record(line, cells, after - line))
                widths[len(cells)] += 1
                if len(records) == 50 and not widths.keys() - {1}:
                    return _Unfit(delimiter, 0, _no_row(delimiter))
            elif len(cells) > 1:
                blank += 1
            line = after
    except csv.Error as error:
        unclosed = "end of data" in str(error) or "expected after" in str(error)
        problem = f"line {line} is no CSV: {UNCLOSED if unclosed else error}."
    finally:
        csv.field_size_limit(before)
    if not widths.keys() - {1}:
        return _Unfit(delimiter, 0, problem or _no_row(delimiter))
    [(width, _)] = widths.most_common(1)
    if not problem and len(widths) > 1:
        problem = _ragged(records, width)
    if problem:
        return _Unfit(delimiter, _agreeing(text, delimiter), problem)
    return _Read(records, blank)


def _agreeing(text: str, delimiter: str) -> int:
    """How many of the first lines, cut at each delimiter, have the usual number of cells, two or
    more."""
    counts = Counter(line.count(delimiter) for line in text[:100_000].splitlines() if line.strip())
    [(most, agreeing)] = counts.most_common(1)
    return agreeing if most else 0


def _no_row(delimiter: str) -> str:
    between = NAMES.get(delimiter, repr(delimiter))
    return f"the first line must name at least two columns, with {between} between them."


def _ragged(records: Sequence[Record], width: int) -> str:
    first = records[0]
    if len(first.cells) == width:
        odd = next(record for record in records if len(record.cells) != width)
        return f"line {odd.line} has {_cells(len(odd.cells))}, the header {width}."
    told = f"line {first.line} has {_cells(len(first.cells))}, most rows below {width}."
    if len(first.cells) == width - 1 and all(len(r.cells) == width for r in records[1:]):
        return f"{told} If the first cell of a row is its name, give that column one in the header."
    return f"{told} If it is a title or a remark, take it out."


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def refuse_repeated_header(records: Sequence[Record], names: Sequence[str], where: str) -> None:
    """Files put one behind the other keep each its header. Raises BadInput naming the line."""
    for record in records:
        if [cell.strip() for cell in record.cells] == list(names):
            raise BadInput(
                f"{where}: line {record.line} repeats the header; take it out. If line 1 is a row "
                "itself, data.header = false."
            )


def tab_separated(text: str) -> list[Record]:
    """Without quoting: nothing in a text is taken for a sign. A row ends at a line feed alone."""
    end = "\n" if "\n" in text else "\r"
    return [
        Record(number, line.removesuffix("\r").split("\t"))
        for number, line in enumerate(text.split(end), 1)
        if line.removesuffix("\r")
    ]
