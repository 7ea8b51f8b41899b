"""Writing presets: `presets save` and the New screen. A file somebody wrote by hand is never lost."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from console.output import complain, say
from console.planning import expand, parse_seeds
from engine.jobs import runs
from engine.jobs.asked import raw_as_written
from engine.jobs.home import Home, resolve_home
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment, written
from engine.spec.outputs import FORCE, check_output, is_stdout, write_output
from engine.spec.path_keys import in_words, is_relative
from engine.spec.presets import (
    HEADER,
    locate,
    preset_text,
    read_toml,
    set_dotted,
    settings,
    shipped,
    to_toml,
    validate,
)


def save_preset(
    source: str,
    file: Path,
    overrides: list[str] | None,
    seeds: str | None,
    home: Path | None,
    force: bool,
) -> None:
    """Raises BadInput for anything wrong; nothing is written then."""
    place = Home(resolve_home(home))
    raw, where = raw_of(source, place, as_written=True)
    of_run = Path(where).is_relative_to(place.runs)
    for assignment in overrides or []:
        set_dotted(raw, assignment)
    numbers = parse_seeds(seeds)
    if numbers is not None:
        raw["seeds"] = numbers
    experiment = validate(raw, where)
    if of_run:  # its data need not be here any more; what can be known without them is asked
        settings(experiment, where)
    else:
        expand(experiment, source, Path(where), "cpu")  # what `presets validate` asks
    relative = written(experiment)
    write_preset(experiment, file, force)
    for key, (text, _) in relative.items():
        if is_relative(text):
            complain(
                f"chelate: {in_words(key)} = {text!r} is relative: it means another place in "
                "another working folder."
            )
    if not is_stdout(file):
        say(f"{file}: `chelate run {command_word(file)}` runs it.")


def raw_of(source: str, home: Home, as_written: bool = False) -> tuple[dict[str, Any], str]:
    """The data of a preset (name or file) or of a run (id or its start), and where it lies.

    A shipped name wins over a run's; a run keeps every default written out, and its paths
    are absolute, or `as_written` by who asked for it. Raises BadInput.
    """
    if source in shipped() or not runs.ID.fullmatch(source) or Path(source).is_file():
        path = locate(source)
        return read_toml(path), str(path)
    try:
        run = runs.find(home, source)
    except BadInput as no_run:
        try:
            locate(source)
        except BadInput as no_preset:
            raise BadInput(f"{no_preset} Nor is it a run: {no_run}") from None
        raise
    path = run.folder / "experiment.toml"
    return raw_as_written(run) if as_written else read_toml(path), str(path)


def write_preset(
    experiment: Experiment, file: Path, force: bool = False, otherwise: str = FORCE
) -> None:
    """Raises BadInput if `file` cannot be written, exists (unless `force`, and chelate wrote it),
    or holds comments of a person, which a written file cannot keep."""
    if is_stdout(file):
        write_output(file, to_toml(experiment))
        return
    if file.suffix != ".toml":
        raise BadInput(f"{file}: a preset's name ends in .toml.")
    check_output(file, force=True)  # a plain file, if anything: nothing else is read
    if os.path.lexists(file) and has_comments(file):
        raise BadInput(
            f"{file}: exists and has comments, which would be lost; choose another name."
        )
    write_output(file, to_toml(experiment), force=force, otherwise=otherwise)


def has_comments(file: Path) -> bool:
    """Whether a preset holds comments beside the header that chelate writes.

    Errs on the side of yes: a "#" inside a string counts.
    """
    try:
        text = preset_text(file)
    except BadInput:
        return True  # whatever it is, it is not ours to replace
    return "#" in text.removeprefix(HEADER)


def command_word(file: Path) -> str:
    """How `file` is named on a command line, where a bare word means a shipped preset."""
    text = str(file)
    return text if re.fullmatch(r"[\w./~+-]+", text) else f"'{text}'"
