"""Comparisons as files: the forms of `compare`, and the figures of `plot`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from console.comparing import margins_document, tuning_of
from console.machines_view import machines_document
from console.machines_view import to_markdown as machines_markdown
from console.plotting import figure_of, panels_of
from console.warnings_view import to_markdown as warnings_markdown
from console.warnings_view import warnings_document
from engine.jobs.datasets import data_sets_of
from engine.jobs.runs import Run
from engine.results import margins
from engine.results.compare import Row
from engine.results.figures import write
from engine.results.tables import exported, to_csv, to_latex, to_markdown
from engine.results.tuning import to_markdown as tuning_markdown
from engine.spec.errors import BadInput
from engine.spec.outputs import ANOTHER, check_output, write_output

FORMS = {
    "csv": "every row as CSV",
    "json": "every row as JSON",
    "md": "the judged rows as Markdown",
    "tex": "the judged rows as LaTeX",
    **{
        f"{kind}.{ending}": f"figure: {told}, {ending.upper()}"
        for kind, told in (("budget", "budget curves"), ("z", "z histograms"), ("loss", "losses"))
        for ending in ("svg", "pdf", "png")
    },
}


def written_as(form: str, path: Path) -> Path:
    """The name that `export` gives a file: a figure's says what it is."""
    ending = form.partition(".")[2]
    return path.with_suffix(f".{ending}") if ending and path.name and not path.suffix else path


def check(form: str, path: Path) -> None:
    """Raises BadInput where `export` would not put a new file."""
    check_output(written_as(form, path), otherwise=ANOTHER)


def export(form: str, path: Path, found: Sequence[Run], rows: Sequence[Row]) -> Path:
    """Write one of FORMS to a new file, and say which. Raises BadInput."""
    kind, _, ending = form.partition(".")
    path = written_as(form, path)
    check_output(path, otherwise=ANOTHER)
    if ending:
        panels = panels_of(kind, found)
        if not panels:
            raise BadInput(f"there is nothing to draw for {FORMS[form]}.")
        write(figure_of(panels), path, otherwise=ANOTHER)
        return path
    if form == "json":
        told = {
            "runs": [run.id for run in found],
            "rows": exported(rows),
            "tuning": exported(tuning_of(found)),
            "warnings": warnings_document(found),
            "data": [one.to_json() for one in data_sets_of(found)],
            "machines": machines_document(found),
            "margins": margins_document(found),
        }
        text = json.dumps(told, indent=1) + "\n"
    else:
        text = {"csv": to_csv, "md": to_markdown, "tex": to_latex}[form](rows)
        if form == "md":
            text += tuning_markdown(tuning_of(found)) + machines_markdown(found)
            text += warnings_markdown(found) + margins.to_markdown(margins.audits_of(found))
        if form == "tex":
            text += margins.to_latex(margins.audits_of(found))
    write_output(path, text, otherwise=ANOTHER)
    return path
