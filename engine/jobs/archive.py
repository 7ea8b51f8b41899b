"""A run as one file, to look at and compare elsewhere: a gzipped tar of plain files.

    chelate-run.json                    first: what this is, and size and sha256 of all that follow
    run/{run,plan,session}.json, experiment.toml, events.jsonl, …
    run/attempts/<key16>.<n>/{events.jsonl, exit.json, output.log}
    objects/<key>/DONE.json, and the artifacts that tables, figures and the console read

With `models` the objects are whole: weights, poison and data too. Paths are as the person wrote
them, and nothing names a user (discretion.py): where that changes an artifact, its DONE.json in the
archive has the hash of what the archive holds. Names are one of these and
nothing else, so that no path from a stranger's archive is ever used as it is (imports.py).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import socket
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import IO, Any

from engine.jobs import bounded_json
from engine.jobs.backends.jobs import event_files, submissions
from engine.jobs.discretion import Discretion, asked_discreetly, discretion_of
from engine.jobs.events import EventTail
from engine.jobs.home import open_plain, read_plain
from engine.jobs.records import ARTIFACT, DONE
from engine.jobs.runs import ATTEMPT, ENDS, Run, attempt_folder
from engine.jobs.store import Damaged
from engine.spec.errors import BadInput
from engine.spec.keys import canonical
from engine.spec.outputs import FORCE, PRIVATE, check_output, output

VERSION = 1
MANIFEST = "chelate-run.json"
RUN_FILES = frozenset(
    {"run.json", "plan.json", "experiment.toml", "session.json", "events.jsonl",
     "supervisor.log", "workers.log"}
)  # fmt: skip
ASKED = frozenset({"run.json", "plan.json", "experiment.toml"})
ATTEMPT_FILES = frozenset({"events.jsonl", "exit.json", "output.log"})
# Artifacts that results and console read, but for rows of the data.
READ = re.compile(r"(?!sample\.json$).+\.json|scores\.safetensors")
_OBJECT = re.compile(r"objects/(?P<key>[0-9a-f]{64})/(?P<name>[^/]+)")
_TRIED = re.compile(r"run/attempts/(?P<attempt>[^/]+)/(?P<name>[^/]+)")


def is_member(name: str) -> bool:
    """Whether an archive may hold a file of this name."""
    if found := _OBJECT.fullmatch(name):
        return found["name"] == DONE or ARTIFACT.fullmatch(found["name"]) is not None
    if found := _TRIED.fullmatch(name):
        return ATTEMPT.fullmatch(found["attempt"]) is not None and found["name"] in ATTEMPT_FILES
    folder, _, rest = name.partition("/")
    return folder == "run" and rest in RUN_FILES


@dataclass(frozen=True, slots=True)
class Packed:
    """What an export wrote. `size` in bytes, of the archive."""

    path: Path
    files: int
    size: int


def export(
    run: Run, path: Path, *, models: bool = False, force: bool = False, otherwise: str = FORCE
) -> Packed:
    """Write a run to a new file, whole or not at all. Raises BadInput: it is running, files cannot
    be read or are damaged, `path` exists (unless `force`; `otherwise` says what to do about that) or
    cannot be written."""
    if run.supervised():
        raise BadInput(f"run {run.id} is running: stop or pause it first, or wait for its end.")
    check_output(path, force=force, otherwise=otherwise)
    discreet = discretion_of(run)
    members = dict(sorted(dict(_members(run, models, discreet)).items()))
    with output(path, force=force, otherwise=otherwise, mode=PRIVATE) as file:
        counted = _Counted(file)
        _write(counted, run, members, models)
    return Packed(path, len(members), counted.size)


@dataclass(frozen=True, slots=True)
class Log:
    """A file that is told discreetly, line by line; read when it is written."""

    path: Path
    discreet: Discretion


Member = Path | bytes | Log


def _members(run: Run, models: bool, discreet: Discretion) -> Iterator[tuple[str, Member]]:
    """(name in the archive, file or content) of everything that goes along. Raises BadInput for
    damage."""
    for name in RUN_FILES - ASKED:
        if (run.folder / name).exists():
            yield f"run/{name}", Log(run.folder / name, discreet)
    for name, content in _asked(run, discreet):
        yield f"run/{name}", content
    if submissions(run.folder):  # what its jobs on a cluster told, each in a file of its own
        yield "run/events.jsonl", discreet.lines(_events_of_jobs(run))
        if run.state() in ENDS:
            told = {"v": 1, "outcome": run.state(), "reason": run.reason()}
            yield "run/session.json", discreet.lines(canonical(told).encode())
    folders = {p.name: p for p in _attempts(run) if ATTEMPT.fullmatch(p.name)}
    for key in run.plan.stages:
        record = run.store.record(key)
        if record is None:
            _make_sure_absent(run, key)
            continue
        # A result that another run computed has its story there.
        other = attempt_folder(run, key, record.attempt)
        if other is not None and other.parent.parent != run.folder:
            for path in other.parent.glob(f"{key[:16]}.*"):  # it may go on from earlier attempts
                folders.setdefault(path.name, path)
        done = {"v": 1, **asdict(record), "config": run.plan.stages[key].config}
        for name in record.files:
            wanted = models or READ.fullmatch(name)
            if not wanted or (run.store.excerpt and not (run.store.path(key) / name).exists()):
                continue
            try:
                artifact = _artifact(run.store.verify_file(key, name), discreet)
            except Damaged as damage:
                _make_sure_readable(run, key)
                raise BadInput(
                    f"run {run.id}: {damage}; `chelate verify {run.id} --repair` says more."
                ) from None
            if isinstance(artifact, bytes):
                digest = hashlib.sha256(artifact).hexdigest()
                done["files"][name] |= {"sha256": digest, "size": len(artifact)}
            yield f"objects/{key}/{name}", artifact
        yield f"objects/{key}/{DONE}", _done(done, discreet)
    for name, folder in folders.items():
        for file in ATTEMPT_FILES:
            if ATTEMPT.fullmatch(name) and (folder / file).exists():
                yield f"run/attempts/{name}/{file}", Log(folder / file, discreet)


def _make_sure_readable(run: Run, key: str) -> None:
    """Raises BadInput for what is there and cannot be read: an archive without it would say that it
    was never computed."""
    if why := run.store.barred(key):
        raise BadInput(f"run {run.id}: {run.store.path(key)} cannot be read: {why}.")


def _make_sure_absent(run: Run, key: str) -> None:
    """Raises BadInput if a stage has a result that nothing can be said of."""
    _make_sure_readable(run, key)
    if run.store.check(key) == "damaged":
        raise BadInput(
            f"run {run.id}: {run.store.path(key)} is damaged; `chelate verify {run.id} --repair` "
            "says more."
        )


def _attempts(run: Run) -> list[Path]:
    """Raises BadInput where nobody can look."""
    folder = run.folder / "attempts"
    try:
        return [folder / name for name in os.listdir(folder)]  # noqa: PTH208
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"run {run.id}: {folder} cannot be read: {error.strerror}.") from None


def _asked(run: Run, discreet: Discretion) -> Iterator[tuple[str, bytes]]:
    """What was asked, as it was: its origin by name alone where it lies elsewhere."""
    from engine.spec.presets import HEADER

    yield "experiment.toml", (HEADER + asked_discreetly(run)).encode("utf-8", "surrogateescape")
    yield "plan.json", _json(discreet.value(run._json("plan.json")))
    origin = discreet.text(str(run.facts.get("origin") or ""))
    facts = {"origin": Path(origin).name if origin.startswith("/") else origin}
    yield "run.json", _json(discreet.value(run.facts) | facts)


def _artifact(path: Path, discreet: Discretion) -> Path | bytes:
    """The file, or its new content where it names what it should not."""
    if path.suffix != ".json":
        return path
    try:
        told = bounded_json.read(path)
    except ValueError as error:
        raise BadInput(f"{path}: {error}.") from None
    said = discreet.value(told)
    return path if said == told else _json(said)


def _done(told: dict[str, Any], discreet: Discretion) -> bytes:
    """DONE.json; why something is n/a and what was warned of are messages."""
    messages = {name: discreet.value(told[name], message=True) for name in ("na", "warnings")}
    if messages["warnings"] is None:  # of a version that did not keep them
        told = {name: value for name, value in told.items() if name != "warnings"}
        del messages["warnings"]
    return _json(discreet.value(told) | messages)


def _json(value: Any) -> bytes:
    """In ASCII: names of files need not be UTF-8."""
    return json.dumps(value, allow_nan=False, sort_keys=True).encode() + b"\n"


def _events_of_jobs(run: Run) -> bytes:
    """All events of a run that several supervisors worked at, in the order of their times."""
    lines: list[tuple[float, bytes]] = []
    for path in (run.events, *event_files(run.folder)):
        for event in EventTail(path).read():
            lines.append((float(event["t"]), canonical(event).encode()))
    return b"".join(line + b"\n" for _, line in sorted(lines, key=lambda line: line[0]))


def _opened(content: Member) -> IO[bytes] | FileIO:
    if isinstance(content, Log):
        return io.BytesIO(content.discreet.lines(read_plain(content.path)))
    return io.BytesIO(content) if isinstance(content, bytes) else open_plain(content)


class _Counted:
    """Passes on what is written, and counts it: standard output has no size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size = file, 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(file: Any, run: Run, members: dict[str, Member], models: bool) -> None:
    told: dict[str, dict[str, Any]] = {}
    for name, member in members.items():
        with _opened(member) as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
            told[name] = {"size": source.seek(0, os.SEEK_END), "sha256": digest}
    origin = run.imported
    manifest: dict[str, Any] = {
        "v": VERSION,
        "run": origin["run"] if origin else run.id,
        "host": origin["host"] if origin else socket.gethostname(),
        "exported": time.time(),
        "chelate": version("chelate"),
        "models": models,
        "files": told,
    }
    with (
        gzip.GzipFile("", "wb", compresslevel=5, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        content = canonical(manifest).encode()
        tar.addfile(_entry(MANIFEST, len(content)), io.BytesIO(content))
        for name, member in members.items():
            with _opened(member) as source:
                tar.addfile(_entry(name, told[name]["size"]), source)  # type: ignore[arg-type]


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A file of nobody and no time: the archive tells nothing of the machine that it need not."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
