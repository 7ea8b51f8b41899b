"""`compare`, `plot`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import (
    RESULTS,
    ForceOption,
    HomeOption,
    JsonOption,
    RunArgument,
    RunsArgument,
    typed_path,
)
from console.cli.root import app
from console.output import bad_input_ends


@app.command(rich_help_panel=RESULTS)
def compare(
    run_ids: RunsArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Every row as CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="The judged rows as Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The judged rows as LaTeX.")] = False,
    rows: Annotated[
        bool,
        typer.Option(
            "--rows",
            help="Which poisoned rows each method leaves detectable; with --csv, --json: all.",
        ),
    ] = False,
) -> None:
    """Compare every method with retraining, over one run or several."""
    from console.comparing import show_comparison

    forms = {"json": as_json, "csv": csv, "md": markdown, "latex": latex}
    with bad_input_ends():
        show_comparison(run_ids, home, [form for form, wanted in forms.items() if wanted], rows)


@app.command(rich_help_panel=RESULTS)
def plot(
    kind: Annotated[str, typer.Argument(metavar="loss|z|budget", help="What to draw.")],
    run_ids: RunsArgument,
    home: HomeOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=typed_path,
            metavar="FIG",
            help="A figure for paper: FIG.svg, FIG.pdf or FIG.png; - is standard output, as SVG.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Draw losses, z histograms or budget curves: as text, or as a figure."""
    from console.plotting import show_plot

    with bad_input_ends():
        show_plot(kind, run_ids, home, out, force)


@app.command(rich_help_panel=RESULTS)
def report(
    run_id: RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=typed_path,
            metavar="DIR",
            help="Gets report.html; - is standard output.",
        ),
    ],
    home: HomeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever file is there.")] = False,
) -> None:
    """Write a run as one self-contained HTML page: tables, figures, preset, environment."""
    from console.reporting import write_report

    with bad_input_ends():
        write_report(run_id, home, out, force)
