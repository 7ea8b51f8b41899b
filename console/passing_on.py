"""`export` and `import`: a run as one file, to look at and compare elsewhere."""

from __future__ import annotations

from pathlib import Path

from console.keeping import size_of, told_size
from console.output import complain, say, say_json
from console.steering import found
from engine.jobs.events import strip_control
from engine.jobs.home import Home, resolve_home
from engine.spec.errors import BadInput
from engine.spec.outputs import is_stdout


def export_run(
    run_id: str, file: Path, home: Path | None, models: bool, force: bool, as_json: bool
) -> None:
    from engine.jobs.archive import export

    if is_stdout(file) and as_json:
        raise BadInput("- and --json: standard output holds one document; leave one away.")
    run = found(run_id, home)
    packed = export(run, file, models=models, force=force)
    if as_json:
        told = {"run": run.id, "file": str(packed.path), "files": packed.files}
        say_json(told | {"bytes": packed.size, "models": models})
        return
    what = "with every artifact" if models else "measurements and story, without models"
    tell = complain if is_stdout(file) else say  # standard output holds the archive
    tell(f"{packed.path}: run {run.id}, {packed.files} files ({what}), {told_size(packed.size)}")


def take_in(file: Path, home: Path | None, max_size: str | None, as_json: bool) -> None:
    from engine.jobs.imports import MOST_BYTES, import_run

    most = MOST_BYTES if max_size is None else size_of(max_size, "--max-size")
    run = import_run(Home(resolve_home(home)), file, most)
    assert run.imported is not None
    host = strip_control(str(run.imported["host"]))
    if as_json:
        say_json({"run": run.id, "status": run.state(), "host": host})
        return
    say(f"run {run.id}: {run.state()}, computed on {host}")
    say(f"`chelate compare {run.id}` shows it.")
