"""The comparison: rows for programs, a table and two histograms for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.listing import from_where, imported_from
from console.machines_view import machines_document, print_machines
from console.machines_view import to_markdown as machines_markdown
from console.output import console, say, say_json, writes_ascii
from console.warnings_view import print_warnings, warnings_document
from console.warnings_view import to_markdown as warnings_markdown
from engine.jobs import runs
from engine.jobs.datasets import data_sets_of
from engine.jobs.datasets import lines as data_lines
from engine.jobs.events import strip_control
from engine.jobs.home import Home, resolve_home
from engine.jobs.runs import Run
from engine.jobs.store import Damaged
from engine.jobs.survey import RunReader
from engine.results.compare import Row, compare
from engine.results.tables import COLUMNS, HEADINGS, Line, summary
from engine.results.tidy import registered_audits, tidy
from engine.results.tuning import ORACLE, note, trials_of
from engine.results.tuning import to_markdown as tuning_markdown
from engine.spec.errors import BadInput

UNSOUND = ("failed", "diverged")  # in a reason: people must read it, whatever the verdict
STYLES = {
    "residue": "bold red",
    "removed": "bold green",
    "inconclusive": "yellow",
    "wrecked": "magenta",
    "reference": "dim",
    "n/a": "dim",
    "oracle": "dim",
    "nothing to remove": "dim",
}


def rows_of(found: Sequence[Run]) -> list[Row]:
    """All comparison rows of some runs, sorted."""
    audits = registered_audits()
    measurements = []
    for run in found:
        measurements += tidy(
            run.id, run.plan.cells, RunReader(run), audits, run.plan.searches, run.plan.stages
        )
    return compare(measurements, audits)


def tuning_of(found: Sequence[Run]) -> list[Row]:
    """All trials behind the tuned rows of some runs."""
    return [row for run in found for row in trials_of(run.id, run.plan.searches, RunReader(run))]


def show_comparison(run_ids: list[str], home: Path | None, forms: list[str]) -> None:
    from engine.results.tables import exported, to_csv, to_latex, to_markdown

    if len(forms) > 1:
        raise BadInput(f"choose one of --{', --'.join(forms)}.")
    place = Home(resolve_home(home))
    found = [runs.find(place, word) for word in run_ids]
    if not forms:
        print_comparison(found)
        return
    rows = rows_of(found)
    if forms == ["json"]:
        told: dict[str, Any] = {
            "home": str(place.root),
            "rows": exported(rows),
            "tuning": exported(tuning_of(found)),
        }
        one = len(found) == 1
        told["data"] = [each.to_json() for each in data_sets_of(found)]
        told["machines"] = machines_document(found)
        told["run"] = found[0].id if one else [run.id for run in found]
        if origins := {run.id: imported_from(run) for run in found if run.imported is not None}:
            told["imported"] = origins
        told["warnings"] = warnings_document(found)
        told["status"] = found[0].state() if one else [run.state() for run in found]
        say_json(told)
    else:
        text = {"csv": to_csv, "md": to_markdown, "latex": to_latex}[forms[0]](rows)
        if forms == ["md"]:
            text += tuning_markdown(tuning_of(found)) + machines_markdown(found)
            text += warnings_markdown(found)
        say(text.rstrip("\n"))


def print_comparison(found: Sequence[Run]) -> None:
    """The table of judged audits, then the z histograms of no unlearning and of retraining."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = summary(rows_of(found))
    target = console()
    hidden = _hidden_columns(lines, target.width)
    table = Table(
        title=Text(_title(found)), title_justify="left", pad_edge=False, box=box.SIMPLE_HEAD
    )
    for number, (heading, column) in enumerate(zip(HEADINGS, COLUMNS, strict=True)):
        if number not in hidden:
            table.add_column(heading, justify="right" if column.number else "left", no_wrap=True)
    for line in lines:
        cells = [
            Text(strip_control(cell))
            for number, cell in enumerate(line.cells())
            if number not in hidden
        ]
        cells[-1].stylize(STYLES.get(line.verdict, ""))
        table.add_row(*cells)
    target.print(table)
    for text in data_lines(data_sets_of(found)):
        say(f"  {text}")
    print_machines(found)
    for run in found:
        if (host := imported_from(run)) is not None:
            target.print(Text(f"  {run.id}: {from_where(host)}, not computed here"), style="yellow")
    print_warnings(found)
    for line in lines:
        if line.verdict in ("n/a", "inconclusive") or any(w in line.reason for w in UNSOUND):
            told = f"  {_name(line)}: {line.word}: {line.reason}"
            target.print(Text(strip_control(told)), style="dim")
    if tried := tuning_of(found):
        say(f"  {note(tried)} `compare --md` and `report` list them.")
        if any(row["objective"] == "oracle" for row in tried):
            say(f"  {ORACLE}.")
    for text in _histograms(found, target.width):
        say(text)


def _title(found: Sequence[Run]) -> str:
    first = found[0]
    return strip_control(str(first.facts.get("title") or first.facts.get("name") or first.id))


def _name(line: Line) -> str:
    words = (
        line.attack,
        line.method,
        line.variant,
        "" if line.budget is None else f"{line.budget:g}",
    )
    return " ".join(word for word in words if word)


# What a narrow screen does without, first to go first.
DISPENSABLE = (
    "seconds",
    "search TEE",
    "TEE",
    "recovery",
    "value",
    "gap to retrain",
    "test acc",
    "budget",
)


def _hidden_columns(lines: Sequence[Line], width: int) -> set[int]:
    """Columns that tell nothing here (one attack, no setting), and those the screen has no room for."""
    table = [line.cells() for line in lines]
    hidden = set()
    widths = []
    for number, heading in enumerate(HEADINGS):
        values = {cells[number] for cells in table}
        if values <= {"", "-"} or (
            heading in ("attack", "audit", "n", "setting") and len(values) == 1
        ):
            hidden.add(number)
        widths.append(max(map(len, [heading, *values])) + 2)
    for heading in DISPENSABLE:
        if sum(w for number, w in enumerate(widths) if number not in hidden) <= width + 2:
            break
        hidden.add(HEADINGS.index(heading))
    return hidden


def _histograms(found: Sequence[Run], width: int) -> list[str]:
    """Scores of the first Gaussian attack, pooled over seeds: before, and after retraining."""
    from engine.results.histogram import text_histogram

    cells = [
        (run, cell) for run in found for cell in run.plan.cells
        if cell.audit == "gaussian" and cell.role in ("none", "retrain")
    ]  # fmt: skip
    if not cells:
        return []
    first = cells[0][1]
    drawn = []
    for role, told in (("none", "no unlearning"), ("retrain", "retrained without the poison")):
        scores: list[float] = []
        for run, cell in cells:
            if (cell.role, cell.attack, cell.setting) == (role, first.attack, first.setting):
                scores += read_scores(run, cell.key)
        if scores:
            column = min(72, max(24, (width - 3) // 2 if width >= 100 else width))
            drawn.append(
                text_histogram(scores, column, 11, title=f"z, {told}", ascii=writes_ascii())
            )
    if len(drawn) == 2 and width >= 100:
        return ["", *(f"{left}   {right}" for left, right in zip(*drawn, strict=True))]
    return [text for block in drawn for text in ("", *block)]


def read_scores(run: Run, key: str) -> list[float]:
    """Per-sample scores an audit stage left; [] if it has none (any more)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = run.store.open_verified(key, "scores.safetensors")
        return [float(score) for score in load(content)["scores"]]
    except (Damaged, SafetensorError, KeyError, TypeError, ValueError):
        return []
