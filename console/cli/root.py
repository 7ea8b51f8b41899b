"""The application that the modules beside this one add their commands to."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="After unlearning, is the poison really out of the model? Alone, opens the console.",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
