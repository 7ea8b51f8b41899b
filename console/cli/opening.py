"""The console itself: `chelate` alone, `attach`, `serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import (
    CONSOLE,
    AsciiOption,
    BellOption,
    HomeOption,
    ReadOnlyOption,
    RunArgument,
    ThemeOption,
)
from console.cli.root import app
from console.output import bad_input_ends
from engine.spec.errors import BadInput


@app.callback()
def console(
    context: typer.Context,
    home: HomeOption = None,
    read_only: ReadOnlyOption = False,
    ascii: AsciiOption = False,
    theme: ThemeOption = None,
    bell: BellOption = None,
) -> None:
    if context.invoked_subcommand is not None:
        if home or read_only or ascii or theme or bell is not None:
            with bad_input_ends():  # they would be ignored in silence
                raise BadInput(f"put the options after `{context.invoked_subcommand}`.")
        return
    from console.opening import in_browser, open_console

    if not (sys.stdout.isatty() or in_browser()):
        typer.echo(context.get_help())
        raise SystemExit(2)

    with bad_input_ends():
        raise SystemExit(open_console(home, None, read_only, ascii, theme, bell))


@app.command(rich_help_panel=CONSOLE)
def attach(
    run_id: RunArgument,
    home: HomeOption = None,
    read_only: ReadOnlyOption = False,
    ascii: AsciiOption = False,
    theme: ThemeOption = None,
    bell: BellOption = None,
) -> None:
    """Open the console on a run, live. Closing it leaves the run alone."""
    from console.opening import open_console

    with bad_input_ends():
        raise SystemExit(open_console(home, run_id, read_only, ascii, theme, bell))


@app.command(rich_help_panel=CONSOLE)
def serve(
    home: HomeOption = None,
    host: Annotated[str, typer.Option("--host", help="Where it listens.")] = "localhost",
    port: Annotated[int, typer.Option("--port")] = 8000,
    public_url: Annotated[
        str | None, typer.Option("--public-url", help="How browsers elsewhere get here.")
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option("--socket", help="A unix socket instead, for you alone; ssh -L reaches it."),
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Whoever has the address acts as you: runs, and any file."),
    ] = False,
    sessions: Annotated[int, typer.Option("--sessions", help="Pages at a time.")] = 8,
    idle: Annotated[
        float, typer.Option("--idle", help="Ends after so many hours without a page; 0: never.")
    ] = 24.0,
    ascii: AsciiOption = False,
    theme: ThemeOption = None,
) -> None:
    """Serve the console to a browser, to watch only (needs chelate\\[web]; docs/serve.md)."""
    from console.serving import serve as serve_console

    options = (("--ascii",) if ascii else ()) + (("--theme", theme) if theme else ())
    with bad_input_ends():
        serve_console(home, host, port, public_url, write, options, socket, sessions, idle)
