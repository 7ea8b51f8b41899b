"""`runs …` and `presets …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import (
    CATALOGUE,
    RUNS,
    HomeOption,
    JsonOption,
    PresetArgument,
    RunArgument,
    SeedsOption,
    SetOption,
    typed_path,
)
from console.cli.root import app
from console.output import bad_input_ends

runs_app = typer.Typer(help="Runs of this home folder.", no_args_is_help=True)
presets_app = typer.Typer(help="Shipped presets, and checking your own.", no_args_is_help=True)
app.add_typer(runs_app, name="runs", rich_help_panel=RUNS)
app.add_typer(presets_app, name="presets", rich_help_panel=CATALOGUE)


@runs_app.command("list")
def runs_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """All runs, the latest first."""
    from console.listing import list_runs

    with bad_input_ends():
        list_runs(home, as_json)


@runs_app.command("show")
def runs_show(
    run_id: RunArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run: its state, its stages, what failed and why."""
    from console.listing import show_run

    with bad_input_ends():
        show_run(run_id, home, as_json)


@presets_app.command("list")
def presets_list(as_json: JsonOption = False) -> None:
    """The presets that come with chelate."""
    from console.listing import list_presets

    with bad_input_ends():
        list_presets(as_json)


@presets_app.command("show")
def presets_show(preset: PresetArgument) -> None:
    """Print a preset's TOML as it is."""
    from console.listing import show_preset

    with bad_input_ends():
        show_preset(preset)


@presets_app.command("validate")
def presets_validate(preset: PresetArgument, overrides: SetOption = None) -> None:
    """Check a preset, data set included, and say what is wrong."""
    from console.planning import validate_preset

    with bad_input_ends():
        validate_preset(preset, overrides)


@presets_app.command("save")
def presets_save(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|RUN", help="A shipped name, a TOML file, or a run.")
    ],
    file: Annotated[
        Path, typer.Argument(parser=typed_path, metavar="FILE.toml", help="The preset to write.")
    ],
    overrides: SetOption = None,
    seeds: SeedsOption = None,
    home: HomeOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a preset that chelate wrote.")
    ] = False,
) -> None:
    """Write a preset or a run's experiment to a file, after --set; it runs identically."""
    from console.saving import save_preset

    with bad_input_ends():
        save_preset(source, file, overrides, seeds, home, force)


@presets_app.command("schema")
def presets_schema() -> None:
    """The JSON Schema of presets, for editors."""
    from console.listing import show_schema

    with bad_input_ends():
        show_schema()
