"""Options and arguments that several commands share, and how commands are grouped in the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# The panels of `chelate --help`.
RUNNING, RUNS, RESULTS, CATALOGUE, CONSOLE, KEEPING = (
    "Run", "Runs under way", "Results", "What there is", "Console", "Keep, pass on, clear away",
)  # fmt: skip


def typed_path(text: str) -> Path:
    """A file or folder to write or read, as a person types it: ~ is their home folder."""
    from engine.spec.errors import BadInput
    from engine.spec.places import expanded

    try:
        return expanded(_named(text))
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None


def home_folder(text: str) -> Path:
    """What --home names. An empty variable of a script must not mean the current folder."""
    return Path(_named(text))


def _named(text: str) -> str:
    if not text:
        raise typer.BadParameter("is empty; name a file or folder (the current one is `.`).")
    return text


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        parser=home_folder,
        metavar="PATH",
        help="Holds runs/ and store/. Default: $CHELATE_HOME, or the platform's.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in train.epochs=5."),
]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="As in 0,1,2.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda, or cuda:0,1.", show_default=False)
]
AttackOption = Annotated[
    str | None, typer.Option("--attack", metavar="NAME", help="Of this attack only.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of this seed only.")]
UnitOption = Annotated[int | None, typer.Option("--target", help="Of this target only.")]
PresetArgument = Annotated[str, typer.Argument(help="A shipped name or a TOML file.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run ids or their starts.")
]
ReadOnlyOption = Annotated[
    bool, typer.Option("--read-only", help="Watch only: nothing can be started or stopped.")
]
AsciiOption = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")]
ThemeOption = Annotated[
    str | None, typer.Option("--theme", metavar="NAME", help="dark, light, safe, or 16.")
]
BellOption = Annotated[
    bool | None,
    typer.Option("--bell/--no-bell", help="Ring and notify (OSC 9) when a run ends."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file, if it is there already.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
