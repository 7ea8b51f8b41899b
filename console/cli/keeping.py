"""Keeping a home tidy and whole, and passing runs on: `export`, `import`, `verify`, `gc`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import KEEPING, HomeOption, JsonOption, RunArgument, YesOption, typed_path
from console.cli.root import app
from console.output import bad_input_ends


@app.command(rich_help_panel=KEEPING)
def export(
    run_id: RunArgument,
    file: Annotated[
        Path, typer.Argument(parser=typed_path, metavar="FILE", help="As in run.tar.gz.")
    ],
    models: Annotated[
        bool, typer.Option("--models", help="Weights, poison and data, too: all artifacts.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run to one file, to look at and compare elsewhere (`chelate import`)."""
    from console.passing_on import export_run

    with bad_input_ends():
        export_run(run_id, file, home, models, force, as_json)


@app.command("import", rich_help_panel=KEEPING)
def import_(
    file: Annotated[
        Path, typer.Argument(parser=typed_path, metavar="FILE", help="What `export` wrote.")
    ],
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Unpacked. Default: 8G.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in a run that was computed elsewhere, to look at and compare. Safe with strangers' files."""
    from console.passing_on import take_in

    with bad_input_ends():
        take_in(file, home, max_size, as_json)


@app.command(rich_help_panel=KEEPING)
def verify(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only what this run needs.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged results away: they are computed again.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every stored result against its hashes. Exit code 1 if one is damaged."""
    from console.keeping import verify as check

    with bad_input_ends():
        raise SystemExit(check(run_id, home, repair, as_json))


@app.command(rich_help_panel=KEEPING)
def gc(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="As in 12h, 30d.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="As in 20G: the oldest go, until it fits."),
    ] = None,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clear away results that no run needs, deleted runs and leftovers. Only tells, without --yes."""
    from console.keeping import collect_garbage

    with bad_input_ends():
        collect_garbage(home, older_than, max_size, yes, as_json)
