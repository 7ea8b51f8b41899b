"""Rows still detected after each method: `compare --rows`, and what report and Details show of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from console.listing import imported_from
from console.output import console, say, say_json
from console.viewmodel import elided
from engine.jobs.events import strip_control
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.survey import RunReader
from engine.results.detected_rows import (
    DetectionLine,
    detection_lines,
    fdr_in_words,
    model_records,
    row_records,
)
from engine.results.detection import FDR, DetectedRow
from engine.results.gathering import Place
from engine.results.tables import Line, exported, markdown_table, number, to_csv
from engine.results.tidy import registered_audits
from engine.spec.errors import BadInput

Cells = list[list[str]]

MOST, LEAST, LISTED = 5, 2, 24  # rows that a terminal lists: of one method, and of an attack in all
NARROWEST = 14  # columns of a method's name
TITLE = f"detected at a false discovery rate of {fdr_in_words()}"
GAP = 2  # columns between those of a table
BELOW = (
    "rows are detected on the side away from the poison (below): the method went beyond forgetting, "
    "and the model knows these rows as well"
)
NOTE = (
    f"At most {fdr_in_words()} of the rows on a line are expected to be there by chance (Benjamini "
    "and Hochberg over all rows and seeds of the line; the score's upper tail). Found again: of the "
    "rows poisoned under two seeds or more, those detected under two."
)


def lines_of(found: Sequence[Run], wanted: Place | None = None) -> list[DetectionLine]:
    """Of some runs together, in the order of a comparison. Raises BadInput where they disagree."""
    told = [(run.id, run.plan, RunReader(run)) for run in found]
    return detection_lines(told, registered_audits(), wanted)


def line_of(found: Sequence[Run], line: Line) -> DetectionLine | None:
    """Of one line of a comparison; None if its audit scores no rows."""
    place = Place(
        line.setting, line.attack, line.method, line.variant, line.budget, line.audit, "unlearn"
    )
    return next(iter(lines_of(found, place)), None)


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    heading: str
    text: Callable[[DetectionLine], str]
    number: bool = True


def seeds_of(line: DetectionLine) -> str:
    return "0" if line.detection is None else str(len({m.seed for m in line.detection.models}))


def detected_of(line: DetectionLine) -> str:
    """ "17 (3.1 %)" """
    found = line.detection
    if found is None or found.share is None:
        return line.outcome
    return f"{found.detected} ({100 * found.share:.1f} %)"


def again_of(line: DetectionLine) -> str:
    """ "12 of 27" """
    again = None if line.detection is None else line.detection.again
    return "-" if again is None else f"{again.found} of {again.rows}"


def _chance(line: DetectionLine) -> str:
    again = None if line.detection is None else line.detection.again
    return "-" if again is None else f"{again.chance:.1f}"


def _again_p(line: DetectionLine) -> str:
    again = None if line.detection is None else line.detection.again
    return "-" if again is None else f"{again.p:.2g}"


def shown_columns(family: Sequence[DetectionLine]) -> list[Column]:
    """Without `below` where no line has anything there."""
    below = any(line.detection is not None and line.detection.below for line in family)
    return [column for column in COLUMNS if below or column.heading != "below"]


def _confirmed(line: DetectionLine) -> str:
    found = line.detection
    return "-" if found is None or found.confirmed is None else str(found.confirmed)


def _below(line: DetectionLine) -> str:
    return "-" if line.detection is None else str(line.detection.below)


def _rank_z(line: DetectionLine) -> str:
    return number(None if line.detection is None else line.detection.rank_z, "+z.1f")


def name_of(line: DetectionLine) -> str:
    return f"{line.place.method} {line.place.variant}".strip() or "-"


COLUMNS = (
    Column("method", name_of, False),
    Column("budget", lambda line: number(line.place.budget, "g")),
    Column("seeds", seeds_of),
    Column("rows", lambda line: "-" if line.detection is None else str(line.detection.rows)),
    Column("detected", detected_of),
    Column("below", _below),
    Column("rank z", _rank_z),
    Column("confirmed", _confirmed),
    Column("found again", again_of),
    Column("chance", _chance),
    Column("p", _again_p),
)
# What a narrow screen does without, first to go first.
DISPENSABLE = ("confirmed", "seeds", "p", "rows", "rank z")
COMMON = ("seeds", "rows")  # told once above the table where all its lines have the same


def families(lines: Iterable[DetectionLine]) -> list[list[DetectionLine]]:
    """The lines of each setting, attack and audit."""
    groups: dict[tuple[str, str, str], list[DetectionLine]] = {}
    for line in lines:
        groups.setdefault(line.place.family, []).append(line)
    return list(groups.values())


def heading(family: Sequence[DetectionLine]) -> str:
    """ "gaussian", or with a setting "gaussian [cifar10]"."""
    place = family[0].place
    return strip_control(f"{place.attack} [{place.setting}]" if place.setting else place.attack)


def notes(family: Sequence[DetectionLine]) -> list[str]:
    """Below a family's table: rows that cannot be named, the other side, seeds without scores."""
    told: dict[str, list[str]] = {}
    for line in family:
        budget = "" if line.place.budget is None else f" {line.place.budget:g}"
        name = f"{name_of(line)}{budget}" if line.place.method else line.place.attack
        found = line.detection
        texts = [line.reason] if line.reason else []
        if found is not None:
            if found.left_out:
                texts.append("poisoned rows without a gradient have no score (left_out)")
            texts += [f"rows cannot be named: {why}" for why in found.lost]
            if found.below:
                texts.append(BELOW)
            if found.again_not and not found.lost and found.again_not != "one seed":
                texts.append(f"not told what is found again: {found.again_not}")
        for text in texts:
            told.setdefault(text, []).append(name)
    return [f"{_some(names)}: {text}" for text, names in told.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return ", ".join(names[:3] if more else names) + more


def last_budgets(
    family: Sequence[DetectionLine],
) -> list[tuple[DetectionLine, list[DetectedRow]]]:
    """Of every method and variant the line with the largest budget and the rows detected, the
    surest first; without the lines that have none."""
    last: dict[tuple[str, str], DetectionLine] = {}
    for line in family:  # budgets ascend
        last[line.place.method, line.place.variant] = line
    told = [(one, one.detection.detected_rows()) for one in last.values() if one.detection]
    return [(line, rows) for line, rows in told if rows]


def titled(line: DetectionLine) -> str:
    """ "gd at budget 0.1" """
    budget = "" if line.place.budget is None else f" at budget {line.place.budget:g}"
    return f"{name_of(line)}{budget}"


ROW_HEADINGS = (
    ("row", True), ("found in seeds", False), ("poisoned in", False), ("score", True), ("p", True),
    ("q", True), ("rank p", True),
)  # fmt: skip


def row_cells(row: DetectedRow, longest: int = 15) -> list[str]:
    """Aligned with ROW_HEADINGS; seeds in `longest` columns."""
    best = row.best
    return [
        "?" if row.row is None else str(row.row),
        elided(_seeds(row.detected), longest),
        elided(_seeds(row.poisoned), longest),
        f"{best.score:+.2f}",
        f"{best.p:.2g}",
        f"{best.q:.2g}",
        "-" if best.rank_p is None else f"{best.rank_p:.2g}",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def sentence(line: DetectionLine) -> str:
    """One line in words, for Details."""
    found = line.detection
    if found is None:
        return f"{line.outcome}: {line.reason}"
    left_out = f", {found.left_out} without a score" if found.left_out else ""
    parts = [
        f"{found.detected} of {found.rows} rows detected ({len(found.models)} "
        f"seed{'s' if len(found.models) > 1 else ''}{left_out}), false discovery rate "
        f"{fdr_in_words()}."
    ]
    if found.confirmed is not None:
        parts.append(f"The rank test confirms {found.confirmed} (its z is {_rank_z(line)}).")
    elif found.rank_z is not None:
        parts.append(f"The rank test's z is {_rank_z(line)}.")
    if found.again is not None:
        again = found.again
        parts.append(
            f"Found again under a second seed: {again.found} of {again.rows}, by chance "
            f"{again.chance:.1f} ({again.lo} to {again.hi}; p {again.p:.2g})."
        )
    elif not found.lost:
        parts.append(f"Not told what is found again: {found.again_not}.")
    parts += [f"Rows cannot be named: {why}." for why in found.lost]
    if found.below:
        parts.append(f"On the side away from the poison {found.below} are: beyond forgetting.")
    if line.reason:
        parts.append(f"{line.reason}.")
    return " ".join(parts)


# --- `compare --rows` ----------------------------------------------------------------------------


def show_rows(found: Sequence[Run], place: Home, forms: Sequence[str]) -> None:
    """Print the table, or one of the forms of `compare`. Raises BadInput for LaTeX."""
    if forms == ["latex"]:
        raise BadInput("--rows has no LaTeX: choose --csv, --json or --md.")
    lines = lines_of(found)
    if forms == ["json"]:
        say_json(document(found, place, lines))
    elif forms == ["csv"]:
        say(to_csv(row_records(lines)).rstrip("\n"))
    elif forms == ["md"]:
        say(to_markdown(lines).rstrip("\n"))
    else:
        print_rows(lines)


def document(found: Sequence[Run], place: Home, lines: Sequence[DetectionLine]) -> dict[str, Any]:
    one = len(found) == 1
    told: dict[str, Any] = {
        "home": str(place.root),
        "run": found[0].id if one else [run.id for run in found],
        "status": found[0].state() if one else [run.state() for run in found],
        "fdr": FDR,
        "models": exported(model_records(lines)),
        "rows": exported(row_records(lines)),
    }
    if origins := {run.id: imported_from(run) for run in found if run.imported is not None}:
        told["imported"] = origins
    return told


def to_markdown(lines: Sequence[DetectionLine]) -> str:
    """A pipe table for each attack, and the notes."""
    parts = []
    for family in families(lines):
        parts.append(f"**{heading(family)}**: rows {TITLE}\n\n")
        if family[0].place.method:
            columns = shown_columns(family)
            headings = [(column.heading, column.number) for column in columns]
            parts.append(markdown_table(headings, cells_of(family, columns)) + "\n")
        parts += [f"{note}\n\n" for note in notes(family)]
    return "".join(parts) + NOTE + "\n"


def cells_of(family: Iterable[DetectionLine], columns: Sequence[Column]) -> Cells:
    return [[column.text(line) for column in columns] for line in family]


def print_rows(lines: Sequence[DetectionLine]) -> None:
    """For each attack a table of methods; then the rows themselves, of the largest budgets."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    target = console()
    told = False
    for family in families(lines):
        if not family[0].place.method:
            for note in notes(family):
                target.print(Text(strip_control(note)), style="dim")
            continue
        told = True
        columns = shown_columns(family)
        table = [[column.heading for column in columns], *cells_of(family, columns)]
        about = ""
        common = [table[0].index(name) for name in COMMON]
        if all(len({cells[at] for cells in table[1:]}) == 1 for at in common):
            seeds, count = (table[1][at] for at in common)
            about = f", {count} rows of {seeds} seed{'s' if seeds != '1' else ''}"
            table = _without(table, common)
        table = _fitted(table, target.width)
        target.print(Text(f"{heading(family)}{about}: {TITLE}", style="italic"))
        shown = Table(pad_edge=False, box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0))
        numbers = {column.heading for column in COLUMNS if column.number}
        for name in table[0]:
            shown.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
        for cells in table[1:]:
            shown.add_row(*(Text(strip_control(cell)) for cell in cells))
        target.print(shown)
        for note in notes(family):
            target.print(Text(strip_control(f"  {note}")), style="yellow")
        last = last_budgets(family)
        most = max(LEAST, min(MOST, LISTED // max(1, len(last))))
        for line, rows in last:
            for text in _listed(line, rows, most):
                target.print(Text(strip_control(text)), no_wrap=True, overflow="ellipsis")
    if told:
        target.print(Text(NOTE), style="dim")
        say("`chelate explain detected` and `explain found again` say what this means.")


def _without(table: Cells, hidden: Sequence[int]) -> Cells:
    return [[cell for n, cell in enumerate(cells) if n not in hidden] for cells in table]


def _fitted(table: Cells, width: int) -> Cells:
    """Headings and cells without the columns there is no room for, the method's name shortened."""

    def widths() -> list[int]:
        return [max(map(len, column)) + GAP for column in zip(*table, strict=True)]

    for name in DISPENSABLE:
        if sum(widths()) <= width:
            break
        table = _without(table, [n for n, head in enumerate(table[0]) if head == name])
    room = max(NARROWEST, width - sum(widths()[1:]) - GAP)
    return [[elided(cells[0], room), *cells[1:]] for cells in table]


def _listed(line: DetectionLine, rows: Sequence[DetectedRow], most: int) -> list[str]:
    """The first of the rows detected on one line."""
    table = [[name for name, _ in ROW_HEADINGS], *(row_cells(row) for row in rows[:most])]
    widths = [max(len(cells[n]) for cells in table) for n in range(len(ROW_HEADINGS))]
    told = [f"{titled(line)}: the rows detected"]
    for cells in table:
        aligned = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, (_, is_number) in zip(cells, widths, ROW_HEADINGS, strict=True)
        ]
        told.append(f"  {'  '.join(aligned)}".rstrip())
    if len(rows) > most:
        told.append(f"  and {len(rows) - most} more; --csv and --json have all, of every budget")
    return [*told, ""]
