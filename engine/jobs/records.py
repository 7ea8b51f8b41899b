"""DONE.json: what a stage left, how, and at what cost. Its reader takes strangers' files, too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.jobs.events import EXACT, LAST
from engine.jobs.home import read_plain
from engine.jobs.stage_warnings import parse_warnings

DONE = "DONE.json"
LATEST = (1 << 63) - 1  # nanoseconds that a file's time may have
LONGEST = 1e12  # seconds, and training-epoch equivalents
NAME, LINE, STORY = 500, 10_000, 100_000  # characters of a name, of a title, of a reason
ARTIFACT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,199}")  # a file of an object


@dataclass(frozen=True)
class Artifact:
    sha256: str
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True)
class Record:
    """DONE.json: what a stage left, how, and at what cost. `na` says why a result cannot be.

    `diverged` is the step at which the numbers were no longer finite, where that is why.

    `seconds` and `tee` are those of the whole trajectory that led here, resumed snapshots included.
    `warnings` are those the stage gave; None in records of versions that did not keep them.
    """

    key: str
    kind: str
    title: str
    files: Mapping[str, Artifact]
    seconds: float
    tee: float
    attempt: int
    host: str
    created: float  # epoch seconds
    na: str | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] | None = None
    diverged: int | None = None


def read_record(folder: str, key: str) -> Record | None:
    """What DONE.json in an object's folder says; None if there is none or it makes no sense."""
    try:
        record = parse_record(json.loads(read_plain(f"{folder}/{DONE}")))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return record if record.key == key else None


def parse_record(raw: Any) -> Record:
    """Raises ValueError, TypeError or KeyError; fields of later versions are ignored.

    The file may come from a stranger's store, so names are checked as strictly as in `commit`.
    """
    files = {}
    for name, entry in _table(raw["files"]).items():
        if not ARTIFACT.fullmatch(name):
            raise ValueError(f"artifact name {name!r}")
        size, time = _whole(entry["size"], EXACT), _whole(entry["mtime_ns"], LATEST, -LATEST)
        files[name] = Artifact(_str(entry["sha256"], 64), size, time)
    return Record(
        key=_str(raw["key"], 64),
        kind=_str(raw["kind"], 40),
        title=_str(raw["title"], LINE),
        files=files,
        seconds=_number(raw["seconds"], LONGEST),
        tee=_number(raw["tee"], LONGEST),
        attempt=_whole(raw["attempt"], EXACT),
        host=_str(raw["host"], NAME),
        created=_number(raw["created"], LAST),
        na=None if raw.get("na") is None else _str(raw["na"], STORY),
        env=_table(raw.get("env", {})),
        config=_table(raw.get("config", {})),
        inputs=_table(raw.get("inputs", {})),
        warnings=None if raw.get("warnings") is None else parse_warnings(raw["warnings"]),
        diverged=None if raw.get("na") is None else _step(raw.get("diverged")),
    )


def _str(value: Any, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise TypeError(f"no text of at most {most:,} characters: {repr(value)[:60]}")
    return value


def _number(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"no number from 0 to {most:g}: {repr(value)[:60]}")
    return float(value)


def _whole(value: Any, most: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"no whole number from {least} to {most}: {repr(value)[:60]}")
    return value


def _step(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= EXACT):
        raise ValueError(f"not a step: {repr(value)[:60]}")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"not a table: {value!r}")
    return value
