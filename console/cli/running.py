"""`run`, `plan`, `watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.options import (
    RUNNING,
    DeviceOption,
    HomeOption,
    JsonOption,
    PresetArgument,
    RunArgument,
    SeedsOption,
    SetOption,
)
from console.cli.root import app
from console.output import bad_input_ends


@app.command(rich_help_panel=RUNNING)
def run(
    preset: PresetArgument,
    overrides: SetOption = None,
    seeds: SeedsOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return at once with the run's id.")
    ] = False,
) -> None:
    """Run a preset: poison, train, unlearn, audit, compare. Goes on from what the store has."""
    from console.running import detach_preset, run_preset

    with bad_input_ends():
        if detach:
            detach_preset(preset, overrides, seeds, home, device, as_json)
            return
        raise SystemExit(run_preset(preset, overrides, seeds, home, device, as_json, plain))


@app.command(rich_help_panel=RUNNING)
def plan(
    preset: PresetArgument,
    overrides: SetOption = None,
    seeds: SeedsOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a preset would compute, what the store already has, and what it costs."""
    from console.planning import show_plan

    with bad_input_ends():
        show_plan(preset, overrides, seeds, home, device, as_json)


@app.command(rich_help_panel=RUNNING)
def watch(
    run_id: RunArgument,
    home: HomeOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event.")] = False,
) -> None:
    """Follow a run that is going on. Ctrl-C leaves it alone."""
    from console.running import watch_run

    with bad_input_ends():
        raise SystemExit(watch_run(run_id, home, plain))
