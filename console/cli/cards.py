"""Cards of what there is, `explain`, `devices`, `doctor`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from console.cli.options import (
    CATALOGUE,
    ForceOption,
    HomeOption,
    JsonOption,
    SetOption,
    typed_path,
)
from console.cli.root import app
from console.output import bad_input_ends


class Kind(StrEnum):
    """The registries that have cards."""

    ATTACK = "attack"
    METHOD = "method"
    AUDIT = "audit"
    MODEL = "model"
    DATA = "data"


def _card_command(kind: Kind, plural: str) -> None:
    @app.command(
        plural, rich_help_panel=CATALOGUE, help=f"The {plural} there are, or the card of one."
    )
    def cards(
        name: Annotated[str | None, typer.Argument(help="Show this one's card.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        from console.cards import list_cards, show_card

        with bad_input_ends():
            if name is None:
                list_cards(kind, as_json)
            else:
                show_card(kind, name, as_json)


_card_command(Kind.METHOD, "methods")
_card_command(Kind.ATTACK, "attacks")
_card_command(Kind.AUDIT, "audits")
_card_command(Kind.MODEL, "models")


@app.command(rich_help_panel=CATALOGUE)
def data(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|PRESET|RUN]", help="A data set's name, a preset, or a run."),
    ] = None,
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=typed_path,
            metavar="FILE.png",
            help="A sheet of pictures, too; - is standard output.",
        ),
    ] = None,
    force: ForceOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The data there are, or the card of one; of a preset or a run, what its data are in full.

    Rows, columns and classes, what was filled, dropped and found twice, and a few rows as read. A
    word that names both a preset and a run is the preset.
    """
    from console.cards import list_cards, show_card
    from engine.spec.errors import BadInput
    from engine.spec.registry import registered

    with bad_input_ends():
        if name is not None and name not in registered(Kind.DATA):
            from console.datasets import show_data

            show_data(name, overrides, home, out, as_json, force)
            return
        if overrides or out:
            raise BadInput("--set and --out need a preset or a run.")
        if name is None:
            list_cards(Kind.DATA, as_json)
        else:
            show_card(Kind.DATA, name, as_json)


@app.command(rich_help_panel=CATALOGUE)
def explain(
    metric: Annotated[str, typer.Argument(help="A metric or a word of the table.")],
) -> None:
    """What a number measures, its null, and what it cannot see."""
    from console.cards import explain_metric

    with bad_input_ends():
        explain_metric(metric)


@app.command(rich_help_panel=CATALOGUE)
def devices(as_json: JsonOption = False) -> None:
    """The GPUs there are, which of them we may use, and who has a place on one."""
    from console.devices import show_devices

    with bad_input_ends():
        show_devices(as_json)


@app.command(rich_help_panel=CATALOGUE)
def doctor(home: HomeOption = None) -> None:
    """Check this machine: devices, packages, the home folder."""
    from console.doctor import examine

    with bad_input_ends():
        raise SystemExit(examine(home))
