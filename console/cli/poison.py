"""`poison …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import (
    RESULTS,
    AttackOption,
    ForceOption,
    HomeOption,
    JsonOption,
    RunArgument,
    SeedOption,
    UnitOption,
    typed_path,
)
from console.cli.root import app
from console.output import bad_input_ends

poison_app = typer.Typer(
    help="What attacks made: to pass on, and to look at.", no_args_is_help=True
)
app.add_typer(poison_app, name="poison", rich_help_panel=RESULTS)


@poison_app.command("export")
def poison_export(
    run_id: RunArgument,
    out: Annotated[
        Path,
        typer.Argument(parser=typed_path, metavar="OUT", help="Gets a folder for each poison."),
    ],
    attack: AttackOption = None,
    seed: SeedOption = None,
    target: UnitOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write poisons as folders: poison.safetensors and poison.json, bounds checked in raw space.

    Another experiment takes one with attack = "imported" and path = the folder.
    """
    from console.poisons import export_poisons

    with bad_input_ends():
        export_poisons(run_id, out, home, attack, seed, target, as_json)


@poison_app.command("show")
def poison_show(
    run_id: RunArgument,
    attack: AttackOption = None,
    seed: SeedOption = None,
    target: UnitOption = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="How many to show.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=typed_path,
            metavar="FILE.png",
            help="A contact sheet, too; - is standard output.",
        ),
    ] = None,
    force: ForceOption = False,
    home: HomeOption = None,
) -> None:
    """Base, poison and difference of a poison's first rows: in the terminal, and as a PNG.

    Of texts base and poison side by side, the trigger marked.
    """
    from console.poisons import show_poison

    with bad_input_ends():
        show_poison(run_id, home, attack, seed, target, rows, out, force)
