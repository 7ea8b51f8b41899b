"""Telling runs what to do: `resume`, `stop`, `pause`, `retry`, `rm`, and looking into them: `logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.options import RUNS, HomeOption, JsonOption, RunArgument, YesOption
from console.cli.root import app
from console.output import bad_input_ends


@app.command(rich_help_panel=RUNS)
def stop(
    run_id: RunArgument,
    grace: Annotated[
        float | None,
        typer.Option("--grace", min=0, metavar="SECONDS", help="Before it is killed. Default: 25."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a run at its stages' next step. What is not done goes on with `resume`."""
    from console.steering import stop_run

    with bad_input_ends():
        stop_run(run_id, home, grace, as_json)


@app.command(rich_help_panel=RUNS)
def pause(run_id: RunArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Begin nothing new: what is under way ends, then the devices are free, until `resume`."""
    from console.steering import pause_run

    with bad_input_ends():
        pause_run(run_id, home, as_json)


@app.command(rich_help_panel=RUNS)
def resume(run_id: RunArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Go on with a paused, stopped, failed or lost run, detached; `watch` looks on."""
    from console.steering import resume_run

    with bad_input_ends():
        resume_run(run_id, home, as_json)


@app.command(rich_help_panel=RUNS)
def retry(run_id: RunArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Compute a run's failed stages again, also while the others go on."""
    from console.steering import retry_run

    with bad_input_ends():
        retry_run(run_id, home, as_json)


@app.command(rich_help_panel=RUNS)
def rm(run_id: RunArgument, home: HomeOption = None, yes: YesOption = False) -> None:
    """Remove a run's plan, events and logs. Its results stay in the store until `gc`."""
    from console.steering import remove_run

    with bad_input_ends():
        remove_run(run_id, home, yes)


@app.command(rich_help_panel=RUNS)
def logs(
    run_id: RunArgument,
    stage: Annotated[
        str | None,
        typer.Argument(help="A title, words of one, or a key's start. Without: the supervisor."),
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", "-e", help="What it reported instead of what it printed.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as lines come, until it ends.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """What a stage printed or reported. Escape sequences are taken out."""
    from console.logs import show_logs

    with bad_input_ends():
        show_logs(run_id, stage, home, events, follow)
