"""Taking in a run that was computed elsewhere, from a stranger's archive (archive.py).

Nothing in the archive is believed. Its files are plain, have names that an archive may hold, are as
many and as large as its first file says, within our limits, and have the sha256 it says. Results fit
their DONE.json, and the plan is one. The run appears by one rename, when all of that holds.

It has a store of its own, and a name that no run of ours can have: a key says what was asked, not
what came out, so a stranger's results must never be taken for ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
import tomllib
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import IO, Any

from engine.jobs.archive import MANIFEST, VERSION, is_member
from engine.jobs.events import strip_control
from engine.jobs.home import Home, fsync_folder, make_private, write_json
from engine.jobs.lease import Identity, is_alive, process_identity
from engine.jobs.records import DONE, Record, parse_record
from engine.jobs.runs import ID, IMPORTED, Run, every
from engine.jobs.stranger import Strange, check_measurements, clean, parse, plan_of, table
from engine.spec.errors import BadInput
from engine.spec.margins import read_margins
from engine.spec.planned import Plan

MOST_BYTES = 8 << 30  # of all files together, unless somebody allows more
MOST_FILES = 500_000
MOST_MANIFEST = 128 << 20  # bytes
MOST_READ = 256 << 20  # bytes of one file that is read as a whole
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
STALE = 3600.0  # seconds after which an import without an owner is a leftover
NEEDED = frozenset({"run/run.json", "run/plan.json", "run/experiment.toml"})
WRITTEN = 0o600


def import_run(home: Home, path: Path, most: int = MOST_BYTES) -> Run:
    """The run, as one of this home, marked as imported. Raises BadInput: nothing is there then.

    `most`: bytes that its files may have together.
    """
    home.create()
    try:
        if not path.is_file():  # a FIFO would block
            raise BadInput(f"{path}: {'is no plain file' if path.exists() else 'does not exist'}.")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            for run in every(home):
                if run.imported is not None and run.imported.get("archive") == digest:
                    raise BadInput(f"{path}: is here already, as run {run.id}.")
            file.seek(0)
            return _take_in(home, file, digest, most)
    except (tarfile.TarError, zlib.error, EOFError, BadGzipFile, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is no whole archive of a run ({error}).") from None
    except Strange as error:
        raise BadInput(f"{path}: {_line(error)}; nothing was imported.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be imported: {error.strerror or error}.") from None


def half_imported(home: Home) -> Iterator[Path]:
    """Folders of imports whose process is surely gone."""
    for path in home.runs.glob(".import-*"):
        try:
            owner = Identity.parse(json.loads((path / "owner.json").read_bytes()))
            gone = not is_alive(owner)
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            gone = False
        if gone or time.time() - path.lstat().st_mtime > STALE:
            yield path


def _take_in(home: Home, file: IO[bytes], digest: str, most: int) -> Run:
    outer = Path(tempfile.mkdtemp(prefix=".import-", dir=home.runs))  # mode 0700
    try:
        write_json(outer / "owner.json", {"v": 1, **process_identity()._asdict()})
        folder = outer / "run"
        make_private(folder)
        with GzipFile(fileobj=file) as stream:
            manifest = _manifest(stream, most, shutil.disk_usage(outer).free)
            _unpack(stream, manifest["files"], folder)
        _check(folder)
        origin = {name: manifest[name] for name in ("run", "host", "chelate", "exported", "models")}
        told = clean({"v": 1, "archive": digest, "imported": time.time(), **origin})
        write_json(folder / IMPORTED, told)
        os.sync()  # one for thousands of files
        return _appear(home, folder, manifest["run"])
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _appear(home: Home, folder: Path, origin: str) -> Run:
    """Move the run into place under the first name that is free."""
    for number in range(1, 1000):
        run = Run(home, f"{origin}.imported" + (f"-{number}" if number > 1 else ""))
        facts = json.loads((folder / "run.json").read_bytes())
        write_json(folder / "run.json", facts | {"id": run.id})
        if run.folder.exists():
            continue
        try:
            folder.rename(run.folder)
        except OSError:  # somebody was faster
            if not run.folder.exists():
                raise
            continue
        fsync_folder(home.runs)
        return run
    raise Strange(f"{origin} was imported a thousand times")


# --- the tar -------------------------------------------------------------------------------------


def _header(stream: GzipFile) -> tarfile.TarInfo | None:
    """The next file's header; None at the end. Raises Strange for whatever is no plain file: links,
    devices, folders, and the extensions by which a tar tells longer names, or maps of holes."""
    block = _exactly(stream, BLOCK)
    if not any(block):
        return None
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise Strange(f"holds {entry.name!r}, which is no plain file")
    return entry


def _exactly(stream: GzipFile, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise Strange("is cut short")
    return content


def _skip_padding(stream: GzipFile, size: int) -> None:
    _exactly(stream, -size % BLOCK)


def _manifest(stream: GzipFile, most: int, free: int) -> dict[str, Any]:
    """What the archive says it holds. Raises Strange if that is no run, or too much."""
    entry = _header(stream)
    if entry is None or entry.name != MANIFEST:
        raise Strange(f"is no archive of a run (it does not begin with {MANIFEST})")
    if not 0 <= entry.size <= MOST_MANIFEST:
        raise Strange(f"{MANIFEST} is too large")
    told = table(parse(_exactly(stream, entry.size), MANIFEST), MANIFEST)
    _skip_padding(stream, entry.size)
    if told.get("v") != VERSION:
        raise Strange(f"was written by another chelate (format {told.get('v')!r:.20})")
    files = table(told.get("files"), f"{MANIFEST}: files")
    if len(files) > MOST_FILES:
        raise Strange(f"holds {len(files)} files, more than {MOST_FILES}")
    for name, facts in files.items():
        if not is_member(name):
            raise Strange(f"holds {name[:200]!r}, which no archive of a run does")
        size = facts.get("size") if isinstance(facts, dict) else None
        if type(size) is not int or size < 0 or not isinstance(facts.get("sha256"), str):
            raise Strange(f"{MANIFEST} does not tell size and sha256 of {name}")
    total = sum(facts["size"] for facts in files.values())
    if total > min(most, free):
        limit = "--max-size allows more" if most < free else "the disk has no room for it"
        raise Strange(f"holds {total / 1e9:.3g} GB: {limit}")
    if missing := NEEDED - files.keys():
        raise Strange(f"lacks {min(missing)}")
    if not isinstance(told.get("run"), str) or not ID.fullmatch(told["run"]):
        raise Strange(f"{MANIFEST} names no run")
    origin = told["run"].partition(".")[0]  # an imported one, passed on, is still that run
    for name, kind in (
        ("host", str),
        ("chelate", str),
        ("exported", (int, float)),
        ("models", bool),
    ):
        if not isinstance(told.get(name), kind):  # type: ignore[arg-type]
            raise Strange(f"{MANIFEST} does not tell {name}")
    return told | {"run": origin}


def _unpack(stream: GzipFile, files: dict[str, Any], folder: Path) -> None:
    """Write every file that was announced, and nothing else. Raises Strange."""
    left = dict(files)
    while (entry := _header(stream)) is not None:
        facts = left.pop(entry.name, None)
        if facts is None:
            what = "twice" if entry.name in files else f"unannounced in {MANIFEST}"
            raise Strange(f"holds {entry.name[:200]!r} {what}")
        if entry.size != facts["size"]:
            raise Strange(f"{entry.name} is not as large as {MANIFEST} says")
        target = folder / _place(entry.name)
        make_private(target.parent)
        _write(stream, target, entry.size, facts["sha256"], entry.name)
        _skip_padding(stream, entry.size)
    if left:
        raise Strange(f"lacks {min(left)}")


def _place(name: str) -> str:
    """Where a file of the archive lies in the run's folder. `name` has passed `is_member`."""
    top, _, rest = name.partition("/")
    if top == "run":
        return rest
    key, _, artifact = rest.partition("/")
    return f"store/objects/{key[:2]}/{key}/{artifact}"


def _write(stream: GzipFile, target: Path, size: int, sha256: str, name: str) -> None:
    digest, left = hashlib.sha256(), size
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, WRITTEN)
    with os.fdopen(descriptor, "wb") as file:
        while left:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:
                raise Strange("is cut short")
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != sha256:
        raise Strange(f"{name} is damaged: its content does not fit its sha256")


# --- what the files say --------------------------------------------------------------------------


def _check(folder: Path) -> None:
    """Raises Strange unless this is a run that our reading sides can read."""
    plan = plan_of(_cleaned(folder / "plan.json"), "plan.json")
    facts = table(_cleaned(folder / "run.json"), "run.json")
    created = facts.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float):
        raise Strange("run.json does not tell when it was created")
    words = {name: str(facts.get(name) or "") for name in ("name", "title", "origin", "device")}
    written = str(facts.get("chelate") or "")
    write_json(folder / "run.json", {"v": 1, "created": created, "chelate": written, **words})
    for path in [folder / "session.json", *folder.glob("attempts/*/exit.json")]:
        if path.exists():
            table(_cleaned(path), path.name)
    try:
        asked = tomllib.loads(_read(folder / "experiment.toml").decode())
    except (ValueError, RecursionError) as error:
        raise Strange(f"experiment.toml is not valid TOML ({error})") from None
    try:  # the only part of it that results read
        read_margins(asked, "experiment.toml")
    except BadInput as error:
        raise Strange(str(error).rstrip(".")) from None
    for path in folder.glob("store/objects/*/*"):
        _check_object(path, plan)


def _check_object(path: Path, plan: Plan) -> None:
    stage = plan.stages.get(path.name)
    if stage is None:
        raise Strange(f"holds an object that its plan does not name ({path.name[:16]}…)")
    if not (path / DONE).exists():
        raise Strange(f"the object of {stage.title} has no {DONE}")
    record = _record(path)
    for file in path.iterdir():
        if file.name == DONE:
            continue
        known = record.files.get(file.name)
        if known is None or file.stat().st_size != known.size or _sha256(file) != known.sha256:
            raise Strange(f"{file.name} of {stage.title} is not what its {DONE} says")
        if file.suffix == ".json":
            value = parse(_read(file), file.name)
            if clean(value) != value:
                raise Strange(f"{file.name} of {stage.title} holds terminal escape sequences")
            table(value, f"{file.name} of {stage.title}")
            if file.name == "measurements.json":
                check_measurements(value, f"{file.name} of {stage.title}")
        try:  # so that a quick check need not hash it again
            os.utime(file, ns=(known.mtime_ns, known.mtime_ns))
        except OverflowError:
            raise Strange(f"{DONE} of {stage.title} has a time that cannot be") from None


def _record(path: Path) -> Record:
    try:
        record = parse_record(_cleaned(path / DONE))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Strange(f"{DONE} of {path.name[:16]}… is not valid ({error})") from None
    if record.key != path.name:
        raise Strange(f"{DONE} of {path.name[:16]}… is another object's")
    return record


def _cleaned(path: Path) -> Any:
    """A JSON file's value, the file rewritten without what a terminal would obey."""
    value = clean(parse(_read(path), path.name))
    path.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")
    return value


def _read(path: Path) -> bytes:
    if path.stat().st_size > MOST_READ:
        raise Strange(f"{path.name} is too large")
    return path.read_bytes()


def _line(error: Exception) -> str:
    return " ".join(strip_control(str(error)).split())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
