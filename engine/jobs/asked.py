"""What was asked of a run in the words of the person who asked: paths as they wrote them.

    runs/<id>/paths.json   {"v": 1, "folder": …, "written": [{"at": ["data", "path"], "text": "~/x"}]}

In the run itself all paths are absolute. `folder` is the one that chelate was called in. The file
stays on this machine; runs of before it have none, and keep their paths as they were written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.spec.path_keys import Place, put_at, value_at

if TYPE_CHECKING:
    from engine.jobs.runs import Run
    from engine.spec.experiment import Experiment

PATHS = "paths.json"


def paths_of(experiment: Experiment) -> dict[str, Any]:
    """The content of paths.json for an experiment whose paths are as they were written."""
    from engine.spec.experiment import written

    told = [{"at": list(at), "text": text} for at, (text, _) in written(experiment).items()]
    return {"v": 1, "folder": str(Path.cwd()), "written": told}


def raw_as_written(run: Run) -> dict[str, Any]:
    """The data of experiment.toml with paths as they were written. Raises BadInput."""
    from engine.spec.presets import read_toml

    raw = read_toml(run.folder / "experiment.toml")
    for place, text in _written(run):
        put_at(raw, place, text)
    return raw


def spellings(run: Run) -> dict[str, str]:
    """Absolute path → how it was written, with the folder that chelate was called in as "."."""
    from engine.spec.errors import BadInput
    from engine.spec.presets import read_toml

    try:
        raw = read_toml(run.folder / "experiment.toml")
    except BadInput:
        return {}
    found = {}
    folder = _told(run).get("folder")
    if isinstance(folder, str) and folder:
        found[folder] = "."
    for place, text in _written(run):
        absolute = value_at(raw, place)
        if isinstance(absolute, str):
            found[absolute] = text
    return found


def _told(run: Run) -> dict[str, Any]:
    try:
        told = json.loads((run.folder / PATHS).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _written(run: Run) -> list[tuple[Place, str]]:
    told = _told(run).get("written")
    return [
        (tuple(one["at"]), one["text"])
        for one in (told if isinstance(told, list) else [])
        if isinstance(one, dict)
        and isinstance(one.get("at"), list)
        and isinstance(one.get("text"), str)
    ]
