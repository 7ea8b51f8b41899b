"""Taking in a run that was computed elsewhere, from a stranger's archive (archive.py).

Nothing in the archive is believed. Its files are plain, have names that an archive may hold, are as
many and as large as its first file says, within our limits, and have the sha256 it says. What each
says fits its schema, results their DONE.json, and the plan is one (stranger.py). All of that is seen
as the archive streams by, before the first byte of it is written; then it is read once more. The run
appears by one rename.

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
import zlib
from collections.abc import Iterator, Mapping
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import IO, Any

from engine.jobs import schema
from engine.jobs.archive import MANIFEST, VERSION, is_member
from engine.jobs.events import strip_control
from engine.jobs.home import Home, fsync_folder, make_private, write_json
from engine.jobs.lease import Identity, is_alive, process_identity
from engine.jobs.runs import ID, IMPORTED, Run, every
from engine.jobs.schema import Unfit
from engine.jobs.stranger import Admission, Lines, Strange, clean, parse, table
from engine.spec.errors import BadInput

MOST_BYTES = 8 << 30  # of all files together, unless somebody allows more
MOST_FILES = 500_000
LARGEST_FILE = 1 << 63  # bytes, of any file system
MOST_MANIFEST = 128 << 20  # bytes
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
LONGEST = 100  # characters of a run's name that are kept
STALE = 3600.0  # seconds after which an import without an owner is a leftover
NEEDED = frozenset({"run/run.json", "run/plan.json", "run/experiment.toml"})
WRITTEN = 0o600
MANIFESTED = {"host": schema.name, "chelate": schema.name, "exported": schema.epoch,
              "models": schema.flag}  # fmt: skip


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
    """Read it twice: once to look at everything, and once to write it."""
    with GzipFile(fileobj=file) as stream:
        manifest = _manifest(stream, most, shutil.disk_usage(home.runs).free)
        admission = _look_through(stream, manifest["files"])
    file.seek(0)
    outer = Path(tempfile.mkdtemp(prefix=".import-", dir=home.runs))  # mode 0700
    try:
        write_json(outer / "owner.json", {"v": 1, **process_identity()._asdict()})
        folder = outer / "run"
        make_private(folder)
        with GzipFile(fileobj=file) as stream:
            _unpack(stream, manifest["files"], folder, admission)
        write_json(folder / "run.json", admission.facts)
        origin = {name: manifest[name] for name in ("run", "host", "chelate", "exported", "models")}
        imported = clean({"v": 1, "archive": digest, "imported": time.time(), **origin})
        write_json(folder / IMPORTED, imported)
        os.sync()  # one for thousands of files
        return _appear(home, folder, manifest["run"])
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _appear(home: Home, folder: Path, origin: str) -> Run:
    """Move the run into place under the first name that is free."""
    for number in range(1, 1000):
        # Short enough to be a name that every command takes.
        run = Run(home, f"{origin[:LONGEST]}.imported" + (f"-{number}" if number > 1 else ""))
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
        if (
            type(size) is not int
            or not 0 <= size < LARGEST_FILE
            or not isinstance(facts.get("sha256"), str)
        ):
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
    for key, check in MANIFESTED.items():
        try:
            check(told.get(key))
        except Unfit as error:
            raise Strange(f"{MANIFEST}: {error.under(key)}") from None
    return told | {"run": origin}


def _members(
    stream: GzipFile, files: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any], Iterator[bytes]]]:
    """(name, what was announced of it, its content in pieces) of every file that was announced, and of
    nothing else. Raises Strange, also where content does not fit its sha256."""
    left = dict(files)
    while (entry := _header(stream)) is not None:
        facts = left.pop(entry.name, None)
        if facts is None:
            what = "twice" if entry.name in files else f"unannounced in {MANIFEST}"
            raise Strange(f"holds {entry.name[:200]!r} {what}")
        if entry.size != facts["size"]:
            raise Strange(f"{entry.name} is not as large as {MANIFEST} says")
        yield entry.name, facts, _pieces(stream, entry.name, facts)
        _skip_padding(stream, entry.size)
    if left:
        raise Strange(f"lacks {min(left)}")


def _pieces(stream: GzipFile, name: str, facts: Mapping[str, Any]) -> Iterator[bytes]:
    digest, left = hashlib.sha256(), facts["size"]
    while left:
        piece = stream.read(min(CHUNK, left))
        if not piece:
            raise Strange("is cut short")
        digest.update(piece)
        left -= len(piece)
        yield piece
    if digest.hexdigest() != facts["sha256"]:
        raise Strange(f"{name} is damaged: its content does not fit its sha256")


def _look_through(stream: GzipFile, files: Mapping[str, Any]) -> Admission:
    """Everything that the archive holds, looked at; nothing is written. Raises Strange."""
    admission = Admission(files)
    for name, facts, pieces in _members(stream, files):
        if admission.wants(name):
            admission.take(name, b"".join(pieces))
        elif name.endswith("/events.jsonl"):
            lines = Lines(name, facts["size"])
            for piece in pieces:
                lines.take(piece)
            lines.finish()
        else:
            for _ in pieces:
                pass
    admission.finish()
    return admission


def _unpack(stream: GzipFile, files: Mapping[str, Any], folder: Path, admission: Admission) -> None:
    """Write what has been looked through. Raises Strange if the file is no longer the same."""
    entry = _header(stream)
    assert entry is not None
    _exactly(stream, entry.size)
    _skip_padding(stream, entry.size)
    for name, _, pieces in _members(stream, files):
        target = folder / _place(name)
        make_private(target.parent)
        if name in admission.unclean:
            pieces = iter([admission.cleaned(b"".join(pieces))])
        _write(target, pieces)
        if name in admission.times:  # so that a quick check need not hash it again
            os.utime(target, ns=(admission.times[name],) * 2)


def _place(name: str) -> str:
    """Where a file of the archive lies in the run's folder. `name` has passed `is_member`."""
    top, _, rest = name.partition("/")
    if top == "run":
        return rest
    key, _, artifact = rest.partition("/")
    return f"store/objects/{key[:2]}/{key}/{artifact}"


def _write(target: Path, pieces: Iterator[bytes]) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, WRITTEN)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)


def _line(error: Exception) -> str:
    return " ".join(strip_control(str(error)).split())
