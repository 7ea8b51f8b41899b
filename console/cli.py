"""The `chelate` command: every command's options, nothing of its work.

Each command imports what it needs when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from console.output import bad_input_ends
from engine.spec.errors import BadInput

app = typer.Typer(
    help="After unlearning, is the poison really out of the model? Alone, opens the console.",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(help="Runs of this home folder.", no_args_is_help=True)
presets_app = typer.Typer(help="Shipped presets, and checking your own.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(presets_app, name="presets")
poison_app = typer.Typer(
    help="What attacks made: to pass on, and to look at.", no_args_is_help=True
)
app.add_typer(poison_app, name="poison")

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Holds runs/ and store/. Default: $CHELATE_HOME, or the platform's."
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


class Kind(StrEnum):
    """The registries that have cards."""

    ATTACK = "attack"
    METHOD = "method"
    AUDIT = "audit"
    MODEL = "model"
    DATA = "data"


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


@app.command()
def attach(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")],
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


@app.command()
def serve(
    home: HomeOption = None,
    host: Annotated[str, typer.Option("--host", help="Where it listens.")] = "localhost",
    port: Annotated[int, typer.Option("--port")] = 8000,
    public_url: Annotated[
        str | None, typer.Option("--public-url", help="How browsers elsewhere get here.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Whoever opens the page may start and stop runs.")
    ] = False,
    ascii: AsciiOption = False,
    theme: ThemeOption = None,
) -> None:
    """Serve the console to a browser, to watch only (needs chelate[web])."""
    from console.serving import serve as serve_console

    options = (("--ascii",) if ascii else ()) + (("--theme", theme) if theme else ())
    with bad_input_ends():
        serve_console(home, host, port, public_url, write, options)


@app.command()
def run(
    preset: PresetArgument,
    overrides: SetOption = None,
    seeds: SeedsOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event.")] = False,
) -> None:
    """Run a preset: poison, train, unlearn, audit, compare. Goes on from what the store has."""
    from console.running import run_preset

    with bad_input_ends():
        raise SystemExit(run_preset(preset, overrides, seeds, home, device, as_json, plain))


@app.command()
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


@app.command()
def watch(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")],
    home: HomeOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="One line per event.")] = False,
) -> None:
    """Follow a run that is going on. Ctrl-C leaves it alone."""
    from console.running import watch_run

    with bad_input_ends():
        raise SystemExit(watch_run(run_id, home, plain))


@app.command()
def compare(
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run ids or their starts.")
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Every row as CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="The judged rows as Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The judged rows as LaTeX.")] = False,
) -> None:
    """Compare every method with retraining, over one run or several."""
    from console.comparing import show_comparison

    forms = {"json": as_json, "csv": csv, "md": markdown, "latex": latex}
    with bad_input_ends():
        show_comparison(run_ids, home, [form for form, wanted in forms.items() if wanted])


@app.command()
def plot(
    kind: Annotated[str, typer.Argument(metavar="loss|z|budget", help="What to draw.")],
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run ids or their starts.")
    ],
    home: HomeOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A figure for paper: FIG.svg, FIG.pdf or FIG.png.")
    ] = None,
) -> None:
    """Draw losses, z histograms or budget curves: as text, or as a figure."""
    from console.plotting import show_plot

    with bad_input_ends():
        show_plot(kind, run_ids, home, out)


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets report.html.")],
    home: HomeOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report there.")] = False,
) -> None:
    """Write a run as one self-contained HTML page: tables, figures, preset, environment."""
    from console.reporting import write_report

    with bad_input_ends():
        write_report(run_id, home, out, force)


@runs_app.command("list")
def runs_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """All runs, the latest first."""
    from console.listing import list_runs

    with bad_input_ends():
        list_runs(home, as_json)


@runs_app.command("show")
def runs_show(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
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
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The preset to write.")],
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


@poison_app.command("export")
def poison_export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Gets a folder for each poison.")],
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
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its start.")],
    attack: AttackOption = None,
    seed: SeedOption = None,
    target: UnitOption = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="How many to show.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.png", help="A contact sheet, too.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Base, poison and difference of a poison's first rows: in the terminal, and as a PNG."""
    from console.poisons import show_poison

    with bad_input_ends():
        show_poison(run_id, home, attack, seed, target, rows, out)


def _card_command(kind: Kind, plural: str) -> None:
    @app.command(plural, help=f"The {plural} there are, or the card of one.")
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
_card_command(Kind.DATA, "data")


@app.command()
def explain(
    metric: Annotated[str, typer.Argument(help="A metric or a word of the table.")],
) -> None:
    """What a number measures, its null, and what it cannot see."""
    from console.cards import explain_metric

    with bad_input_ends():
        explain_metric(metric)


@app.command()
def doctor(home: HomeOption = None) -> None:
    """Check this machine: devices, packages, the home folder."""
    from console.doctor import examine

    with bad_input_ends():
        raise SystemExit(examine(home))


def main() -> None:
    """Entry point of the `chelate` command."""
    app()


if __name__ == "__main__":
    main()
