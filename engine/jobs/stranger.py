"""What the files of a stranger's archive say, looked at one by one as they stream by, before any of
them is written: each by its schema, then all of them together.

Nothing is kept of a file but what has to fit the others: of a plan its keys, of a DONE.json the
files it names. So memory is bounded by the largest single file and by how many there are.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.jobs import bounded_json, schema
from engine.jobs.bounded_json import PLAN, SMALL, Bounds
from engine.jobs.events import LARGEST, MAX_LINE, strange_line, strip_control
from engine.jobs.records import DONE, Artifact, parse_record
from engine.spec.errors import BadInput
from engine.spec.margins import read_margins
from engine.spec.planned import Plan

MOST_TOML = 4 << 20  # bytes
MOST_SCORES = 256 << 20
MOST_EVENTS = 1 << 30
SCORES = "scores.safetensors"
# Bytes that make JSON say a control character, or may: of most files nothing need be taken out.
_UNPLAIN = re.compile(rb"[^\t\n\r\x20-\x7e]|\\[ubfr]")


class Strange(Exception):
    """What is wrong with a stranger's file, as the rest of "<file>: …"."""


@dataclass
class Admission:
    """What `files` (name → size and sha256, as the archive announces them) turn out to say.

    `take` each file that `wants` its content, `line` each line of events, then `finish`. All raise
    Strange. `unclean` are the files to be written anew by `cleaned`; `times` those of artifacts.
    """

    files: Mapping[str, Mapping[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)  # of run.json, to be written
    unclean: set[str] = field(default_factory=set)
    times: dict[str, int] = field(default_factory=dict)
    _stages: dict[str, str] = field(default_factory=dict)  # key → title
    _records: dict[str, Mapping[str, Artifact]] = field(default_factory=dict)

    def wants(self, name: str) -> bool:
        """Whether the file is to be seen whole. Raises Strange if it is too large for that."""
        most = _most(name)
        if most is None:
            return False
        if self.files[name]["size"] > most:
            size = f"{self.files[name]['size']:,} bytes"
            raise Strange(f"{_shown(name)} is too large: {size}, of at most {most:,}")
        return True

    def take(self, name: str, content: bytes) -> None:
        top, file = name.partition("/")[0], name.rpartition("/")[2]
        if file == "experiment.toml":
            self._take_preset(content)
        elif file == SCORES:
            _check_scores(content, _shown(name))
        elif top == "run":
            self._take_of_run(name, file, content)
        elif file == DONE:
            self._take_record(name, content)
        else:
            self._take_artifact(name, file, content)

    def finish(self) -> None:
        """What each file says of others."""
        for name, announced in self.files.items():
            top, _, rest = name.partition("/")
            if top != "objects":
                continue
            key, _, file = rest.partition("/")
            title = self._stages.get(key)
            if title is None:
                raise Strange(f"holds an object that its plan does not name ({key[:16]}…)")
            files = self._records.get(key)
            if files is None:
                raise Strange(f"the object of {title} has no {DONE}")
            if file == DONE:
                continue
            known = files.get(file)
            if known is None or (known.size, known.sha256) != (
                announced["size"],
                announced["sha256"],
            ):
                raise Strange(f"{file} of {title} is not what its {DONE} says")
            self.times[name] = known.mtime_ns

    # --- of the run ------------------------------------------------------------------------------

    def _take_of_run(self, name: str, file: str, content: bytes) -> None:
        value = self._json(name, content)
        if file == "plan.json":
            self._stages = {key: stage.title for key, stage in plan_of(value, file).stages.items()}
        elif file == "run.json":
            self._take_facts(value)
        else:
            _check(schema.EXIT if file == "exit.json" else schema.SESSION, value, file)

    def _take_facts(self, value: Any) -> None:
        told = table(value, "run.json")
        version = told.get("v", schema.FORMAT)
        if type(version) is not int or version > schema.FORMAT:
            raise Strange(f"run.json was written by a newer chelate (format {version!r:.20})")
        created = told.get("created")
        if isinstance(created, bool) or not isinstance(created, int | float):
            raise Strange("run.json does not tell when it was created")
        _check(schema.RUN, told, "run.json")
        words = ("name", "title", "origin", "device", "chelate")
        self.facts = {"v": 1, "created": created, **{w: str(told.get(w) or "") for w in words}}

    def _take_preset(self, content: bytes) -> None:
        name = "experiment.toml"
        try:
            asked = tomllib.loads(content.decode())
            bounded_json.check(json.dumps(asked, default=str).encode())
        except (ValueError, RecursionError) as error:
            raise Strange(f"{name} is not valid TOML ({str(error)[:100]})") from None
        try:  # the only part of it that results read
            read_margins(asked, name)
        except BadInput as error:
            raise Strange(str(error)[:300].rstrip(".")) from None

    # --- of stages -------------------------------------------------------------------------------

    def _take_record(self, name: str, content: bytes) -> None:
        key = name.split("/")[1]
        try:
            record = parse_record(self._json(name, content))
            schema.ENV(dict(record.env))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise Strange(f"{DONE} of {key[:16]}… is not valid ({str(error)[:200]})") from None
        if record.key != key:
            raise Strange(f"{DONE} of {key[:16]}… is another object's")
        self._records[key] = record.files

    def _take_artifact(self, name: str, file: str, content: bytes) -> None:
        shown = _shown(name)
        value = _parsed(content, shown, PLAN)
        if _UNPLAIN.search(content) and clean(value) != value:
            raise Strange(f"{shown} holds terminal escape sequences")
        _check(schema.ARTIFACTS.get(file, schema.free), value, shown)

    def _json(self, name: str, content: bytes) -> Any:
        """A file's value, without what a terminal would obey."""
        bounds = PLAN if name == "run/plan.json" else SMALL
        value = _parsed(content, _shown(name), bounds)
        if _UNPLAIN.search(content):
            self.unclean.add(name)
            return clean(value)
        return value

    def cleaned(self, content: bytes) -> bytes:
        """What is written of an unclean file."""
        value = clean(bounded_json.parse(content))
        return json.dumps(value, allow_nan=False).encode() + b"\n"


def _most(name: str) -> int | None:
    """Bytes of a file whose content is looked at; None for one that only later stages read."""
    file = name.rpartition("/")[2]
    if file == "experiment.toml":
        return MOST_TOML
    if file == SCORES:
        return MOST_SCORES
    if not file.endswith(".json"):
        return None
    return (SMALL if file in (DONE, "exit.json", "run.json", "session.json") else PLAN).size


class Lines:
    """Events as they stream by, in pieces of any size. A line that is none is what a crash leaves, and
    every reader passes over it; one that is, but beyond bounds, is strange."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self._number, self._rest = _shown(name), 1, b""
        if size > MOST_EVENTS:
            raise Strange(f"{self.name} is too large: {size:,} bytes, of at most {MOST_EVENTS:,}")

    def take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for one in lines:
            self._look(one)
            self._number += 1
        self._rest = self._rest[: MAX_LINE + 1]  # longer ones are no events

    def finish(self) -> None:
        self._look(self._rest)

    def _look(self, one: bytes) -> None:
        if why := strange_line(one):
            raise Strange(f"{self.name}, line {self._number}: {why}")


# --- values --------------------------------------------------------------------------------------


def parse(content: bytes, name: str) -> Any:
    """JSON within bounds. Raises Strange."""
    return _parsed(content, name, PLAN)


def _parsed(content: bytes, name: str, bounds: Bounds) -> Any:
    try:
        return bounded_json.parse(content, bounds)
    except ValueError as error:
        raise Strange(f"{name} is not valid JSON ({str(error)[:200]})") from None


def _check(check: Callable[[Any], None], value: Any, name: str) -> None:
    """Raises Strange unless the file's value has its schema."""
    table(value, name)
    try:
        check(value)
    except schema.Unfit as error:
        raise Strange(f"{name}: {error}") from None


def clean(value: Any) -> Any:
    """`value` without escape sequences and other controls in any of its strings."""
    if isinstance(value, str):
        return strip_control(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {strip_control(name): clean(item) for name, item in value.items()}
    return value


def table(value: Any, name: str) -> dict[str, Any]:
    """Raises Strange if `value` is no JSON object."""
    if not isinstance(value, dict):
        raise Strange(f"{name} holds no table")
    return value


def plan_of(told: Any, name: str) -> Plan:
    """A plan that fits its schema and of which every reference has its stage, inputs coming before
    what reads them (so nothing goes round in circles). Raises Strange."""
    parts = table(told, name)
    _check(schema.PLAN, parts, name)
    plan = Plan.from_json(parts)
    seen: set[str] = set()
    for stage in plan.stages.values():
        if not {*stage.inputs.values(), *stage.after} <= seen:
            raise Strange(f"{name}: {stage.title} reads a stage that does not come before it")
        seen.add(stage.key)
    named = {key for cell in plan.cells for key in (cell.key, *cell.cost_keys)}
    named |= {key for search in plan.searches for key in (search.choice, *search.keys)}
    if len(seen) != len(parts["stages"]) or not named <= seen:
        raise Strange(f"{name} names stages that it does not have, or one twice")
    for search in plan.searches:
        alike = {len(trial.seeds) for trial in search.trials} | {len(search.starts)}
        alike |= {len(trial.keys) for trial in search.trials}
        if len(alike) > 1 or len(search.references) not in (0, *alike):
            raise Strange(f"{name}: a search of {search.method} has no stage for each of its seeds")
    return plan


def _check_scores(content: bytes, name: str) -> None:
    """Raises Strange unless it holds numbers that every view can show."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, AttributeError):
        raise Strange(f"{name} is not a safetensors file") from None
    for array in arrays.values():
        if array.dtype.kind not in "iuf":
            raise Strange(f"{name} holds something else than numbers")
        if array.dtype.kind == "f" and array.size:
            largest = float(np.abs(array.astype(np.float64)).max())
            if not (math.isfinite(largest) and largest <= LARGEST):
                raise Strange(f"{name} holds a number beyond {LARGEST:g}")


def _shown(name: str) -> str:
    """A member's name for people: its file, and of which object or attempt."""
    parts = name.split("/")
    if parts[0] == "objects":
        return f"{parts[-1]} of {parts[1][:16]}…"
    return parts[-1] if len(parts) < 4 else f"{parts[-1]} of attempt {parts[2]}"
