"""Runs as archives: what comes back is what left, and a stranger's archive can do no harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Computed, environment, flip_byte, untimed
from hypothesis import given, settings
from hypothesis import strategies as st

from console.comparing import rows_of
from console.plotting import panels_of
from console.reporting import report
from engine.jobs import archive, imports, runs
from engine.jobs.archive import MANIFEST, export, is_member
from engine.jobs.backends.jobs import begin_start, begin_submission
from engine.jobs.garbage import Collector
from engine.jobs.home import Home
from engine.jobs.imports import import_run
from engine.jobs.runs import Run, every
from engine.spec.errors import BadInput

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def packed(shared: Computed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared run's archive."""
    path = tmp_path_factory.mktemp("packed") / "run.tar.gz"
    export(Run(Home(shared.home), shared.run), path)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def content_of(path: Path) -> Files:
    with tarfile.open(path) as tar:
        return {e.name: tar.extractfile(e).read() for e in tar}  # type: ignore[union-attr]


def entry(name: str, size: int = 0, **changes: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for field, value in changes.items():
        setattr(made, field, value)
    return made


def write(path: Path, files: Files, more: Callable[[tarfile.TarFile], None] | None = None) -> Path:
    """An archive of `files`, its manifest made to fit them unless they bring one along; `more` adds
    what no export would."""
    files = dict(files)
    told = json.loads(files.pop(MANIFEST))
    if "fits" not in told:
        told["files"] = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        }
    told.pop("fits", None)
    with tarfile.open(path, "w:gz") as tar:
        content = json.dumps(told).encode()
        tar.addfile(entry(MANIFEST, len(content)), io.BytesIO(content))
        for name, data in files.items():
            tar.addfile(entry(name, len(data)), io.BytesIO(data))
        if more is not None:
            more(tar)
    return path


def refused(home: Home, path: Path, told: str, **options: Any) -> None:
    """The archive is refused in one line that says `told`, and nothing is left of it."""
    with pytest.raises(BadInput, match=told) as error:
        import_run(home, path, **options)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert "\x1b" not in str(error.value)
    assert list(home.runs.iterdir()) == []


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("models", [False, True])
def test_what_is_shown_elsewhere_is_what_was_shown_here(
    shared: Computed, home: Home, tmp_path: Path, models: bool
) -> None:
    here = Run(Home(shared.home), shared.run)
    path = tmp_path / "run.tar.gz"
    export(here, path, models=models)
    assert path.stat().st_mode & 0o777 == 0o600
    there = import_run(home, path)
    assert rows_of([there]) == rows_of([here])
    for kind in ("loss", "z", "budget"):
        assert panels_of(kind, [there]) == panels_of(kind, [here])
    assert there.state() == here.state() == "done"
    assert (there.experiment, list(there.plan.stages)) == (here.experiment, list(here.plan.stages))
    weights = [*there.store.root.rglob("model.safetensors")]
    assert bool(weights) == models
    states = {there.store.check(key, deep=True) for key in there.plan.stages}
    assert states == {"ok"}


def test_an_archive_carries_the_margins(shared: Computed, home: Home, tmp_path: Path) -> None:
    place = Home(shared.copy(tmp_path / "mine"))
    verdicts = {"gaussian": {"mean_score": 100.0}}
    asked = Run(place, shared.run)
    experiment = asked.experiment.model_copy(update={"verdicts": verdicts})
    here = runs.create(place, "other", experiment, asked.plan, "cpu", "-")
    export(here, tmp_path / "run.tar.gz")
    there = import_run(home, tmp_path / "run.tar.gz")
    assert there.margins == there.experiment.verdicts == verdicts
    assert rows_of([there]) == rows_of([here]) != rows_of([asked])


@pytest.mark.parametrize("verdicts", ["verdicts = 3", "[verdicts.gaussian]\nmean_score = nan"])
def test_margins_that_are_none(home: Home, packed: Path, tmp_path: Path, verdicts: str) -> None:
    files = content_of(packed)
    files["run/experiment.toml"] += f"\n{verdicts}\n".encode()
    if verdicts.startswith("verdicts"):
        files["run/experiment.toml"] = verdicts.encode()
    refused(home, write(tmp_path / "x.tar.gz", files), "experiment.toml: verdicts")


def test_an_imported_run_is_never_taken_for_one_computed_here(
    shared: Computed, packed: Path, tmp_path: Path
) -> None:
    """Also in the home that it came from: its results lie apart, and its name is another."""
    home = Home(shared.copy(tmp_path))
    here = Run(home, shared.run)
    stored = {path for path in home.store.rglob("*") if path.is_file()}
    there = import_run(home, packed)
    assert there.id != here.id
    assert there.imported is not None
    assert here.imported is None
    assert there.imported["run"] == here.id
    assert {path for path in home.store.rglob("*") if path.is_file()} == stored
    assert there.store.root.is_relative_to(there.folder)
    assert "imported" in report(there)
    assert "imported" not in report(here)
    with pytest.raises(BadInput, match="is here already"):
        import_run(home, packed)
    # Passed on once more it is still the run that it was.
    again = tmp_path / "again.tar.gz"
    export(there, again)
    elsewhere = import_run(Home(tmp_path / "third"), again)
    assert elsewhere.imported is not None
    assert elsewhere.imported["run"] == here.id
    assert elsewhere.imported["host"] == there.imported["host"]


def test_curves_of_a_run_computed_here_are_not_those_of_an_imported_one(
    shared: Computed, packed: Path, tmp_path: Path
) -> None:
    """Stage and attempt are the same; only the imported run still tells of them."""
    home = Home(shared.copy(tmp_path))
    import_run(home, packed)
    here = Run(home, shared.run)
    for folder in (here.folder / "attempts").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert panels_of("loss", [here]) == []


def test_folders_and_files_are_their_owners_only(packed: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home(tmp_path / "deep" / "down" / "home")
        run = import_run(home, packed)
        for path in [*(tmp_path / "deep").rglob("*"), tmp_path / "deep"]:
            if path.is_dir():
                assert path.stat().st_mode & 0o777 == 0o700, path
        for path in (run.folder / "store").rglob("*.json"):
            assert path.stat().st_mode & 0o777 == 0o600, path
    finally:
        os.umask(before)


def test_an_archive_tells_nobodys_name(packed: Path) -> None:
    with tarfile.open(packed) as tar:
        for one in tar:
            assert (one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 0)
            assert one.isreg()
            assert is_member(one.name) or one.name == MANIFEST


def test_a_run_of_a_cluster_brings_what_its_jobs_told(shared: Computed, tmp_path: Path) -> None:
    """Its supervisor's events lie in a file for each job; elsewhere there are no jobs."""
    run = Run(Home(shared.copy(tmp_path)), shared.run)
    told = run.events.read_bytes().splitlines(keepends=True)
    submission = begin_submission(run.folder)
    for number in range(2):
        start = begin_start(submission, f"7_{number}", "0")
        start.events.write_bytes(b"".join(told[number + 1 :: 2]))
        start.end("done", "")
    run.events.write_bytes(told[0])
    (run.folder / "session.json").unlink()
    assert run.state() == "done"
    export(run, tmp_path / "run.tar.gz")
    there = import_run(Home(tmp_path / "there"), tmp_path / "run.tar.gz")
    assert there.state() == "done"
    assert sorted(there.events.read_text().count(word) for word in ('"start"', '"end"')) == sorted(
        b"".join(told).decode().count(word) for word in ('"start"', '"end"')
    )


def test_export_refuses_what_it_must(shared: Computed, tmp_path: Path) -> None:
    home = Home(shared.copy(tmp_path))
    run = Run(home, shared.run)
    path = tmp_path / "run.tar.gz"
    path.write_text("mine")
    with pytest.raises(BadInput, match="--force"):
        export(run, path)
    with pytest.raises(BadInput, match="is a folder"):
        export(run, tmp_path)
    with pytest.raises(BadInput, match="cannot be written"):
        export(run, tmp_path / "nowhere" / "run.tar.gz")
    cell = run.plan.cells[0]
    flip_byte(run.store.path(cell.key) / "measurements.json", quietly=True)
    with pytest.raises(BadInput, match=r"damaged.*chelate verify"):
        export(run, path, force=True)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


# --- archives of strangers -----------------------------------------------------------------------

KEY = "a" * 64
NAMES = [
    "/etc/passwd", "../x", "run/../../x", "run/attempts/../../../x/exit.json", "run/", "run",
    f"objects/{KEY}/../../x", f"objects/{KEY}/sub/x", f"objects/{KEY}", f"objects/{KEY[:-1]}/DONE.json",
    f"objects/{KEY}/.hidden", "run/supervisor.lock", "run/imported.json", "run/stop", "run/./run.json",
    "run//run.json", "./run/run.json", "run/attempts/x/exit.json", "run/attempts/aaaaaaaaaaaaaaaa.1/x",
    f"objects/{KEY}/a\x1b[2J", f"objects/{KEY}/a\nb", f"objects/{KEY}/\u202egpj.exe", "C:\\x",
    f"objects/{KEY.upper()}/DONE.json", "run/run.json\x00", "chelate-run.json/x", "",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_archive_has(home: Home, packed: Path, tmp_path: Path, name: str) -> None:
    assert not is_member(name)
    files = content_of(packed)
    told = json.loads(files[MANIFEST])
    told["files"][name] = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    files[MANIFEST] = json.dumps(told | {"fits": True}).encode()
    refused(home, write(tmp_path / "odd.tar.gz", files), "which no archive of a run does")


@given(name=st.one_of(
    st.text(), st.lists(st.sampled_from(["run", "objects", "attempts", "..", ".", "", KEY, "a", "~"])
                        ).map("/".join)))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_names_that_pass_stay_in_their_folder(name: str) -> None:
    """Whatever the name: either it is refused, or it names a file below the folder, plainly."""
    if is_member(name):
        place = Path("/base") / imports._place(name)
        assert Path(os.path.normpath(place)) == place
        assert place.is_relative_to("/base")
        assert re.fullmatch(r"[A-Za-z0-9._+=@/-]+", name)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
     tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE,
     tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"Z"],
)  # fmt: skip
def test_what_is_no_plain_file(home: Home, packed: Path, tmp_path: Path, kind: bytes) -> None:
    def more(tar: tarfile.TarFile) -> None:
        odd = entry("run/session.json", type=kind, linkname="/etc/passwd")
        tar.fileobj.write(odd.tobuf(tarfile.USTAR_FORMAT))  # type: ignore[union-attr]

    path = write(tmp_path / "odd.tar.gz", content_of(packed), more)
    refused(home, path, "which is no plain file")


def test_a_link_in_place_of_a_file_that_was_announced(
    home: Home, packed: Path, tmp_path: Path
) -> None:
    files = content_of(packed)
    told = json.loads(files[MANIFEST])
    told["files"].pop("run/session.json")
    told["files"]["run/workers.log"] = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    files.pop("run/session.json"), files.pop("run/workers.log", None)
    files[MANIFEST] = json.dumps(told | {"fits": True}).encode()

    def more(tar: tarfile.TarFile) -> None:
        tar.addfile(entry("run/workers.log", type=tarfile.SYMTYPE, linkname="/etc/passwd"))

    refused(home, write(tmp_path / "odd.tar.gz", files, more), "no plain file")


def test_twice_unannounced_and_missing(home: Home, packed: Path, tmp_path: Path) -> None:
    files = content_of(packed)
    name = "run/run.json"

    def twice(tar: tarfile.TarFile) -> None:
        tar.addfile(entry(name, 2), io.BytesIO(b"{}"))

    refused(home, write(tmp_path / "a", files, twice), "twice")

    def unannounced(tar: tarfile.TarFile) -> None:
        tar.addfile(entry("run/stray.json", 2), io.BytesIO(b"{}"))

    refused(home, write(tmp_path / "b", files, unannounced), "unannounced")
    told = json.loads(files[MANIFEST]) | {"fits": True}
    for number, gone in enumerate((name, "run/events.jsonl")):
        left = {n: data for n, data in files.items() if n != gone} | {
            MANIFEST: json.dumps(told).encode()
        }
        refused(home, write(tmp_path / f"c{number}", left), f"lacks {gone}")


def test_a_wrong_hash_and_a_wrong_size(home: Home, packed: Path, tmp_path: Path) -> None:
    files = content_of(packed)
    told = json.loads(files[MANIFEST]) | {"fits": True}
    name = next(name for name in files if name.endswith("scores.safetensors"))
    files[MANIFEST] = json.dumps(told).encode()
    damaged = files[name][:-1] + bytes([files[name][-1] ^ 1])
    refused(home, write(tmp_path / "a", files | {name: damaged}), "does not fit its sha256")
    refused(home, write(tmp_path / "b", files | {name: damaged + b"x"}), "not as large as")


def test_content_that_fits_the_archive_but_not_its_done_json(
    home: Home, packed: Path, tmp_path: Path
) -> None:
    """A manifest can be made to fit anything; DONE.json must fit, too."""
    files = content_of(packed)
    name = next(name for name in files if name.endswith("measurements.json"))
    changed = files | {name: files[name].replace(b"0.", b"1.")}
    refused(home, write(tmp_path / "a", changed), "is not what its DONE.json says")
    done = name.replace("measurements.json", "DONE.json")
    refused(
        home, write(tmp_path / "b", {n: d for n, d in files.items() if n != done}), "no DONE.json"
    )
    record = json.loads(files[done])
    record["key"] = KEY
    changed = files | {done: json.dumps(record).encode()}
    refused(home, write(tmp_path / "c", changed), "another object's")
    stray = files | {f"objects/{KEY}/DONE.json": json.dumps(record).encode()}
    refused(home, write(tmp_path / "d", stray), "plan does not name")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("plan.json", lambda p: p["stages"].reverse(), "does not come before it"),
        ("plan.json", lambda p: p["stages"].append(p["stages"][0]), "one twice"),
        (
            "plan.json",
            lambda p: p["cells"][0].update(key=KEY),
            "names stages that it does not have",
        ),
        ("plan.json", lambda p: p["stages"][0].update(title=7), "must be text"),
        ("plan.json", lambda p: p["stages"][0].update(key="../../x"), "64 hexadecimal digits"),
        ("plan.json", lambda p: p["cells"][0].update(budget="x"), "must be a number"),
        ("plan.json", lambda p: p["cells"][0].update(more=1), "another version"),
        ("plan.json", lambda p: p.pop("stages"), "stages is missing"),
        ("run.json", lambda p: p.update(created="now"), "when it was created"),
        ("run.json", lambda p: p.update(created=[]), "when it was created"),
    ],
)
def test_a_plan_or_a_run_that_is_none(
    home: Home, packed: Path, tmp_path: Path, name: str, change: Callable[[Any], None], told: str
) -> None:
    files = content_of(packed)
    value = json.loads(files[f"run/{name}"])
    change(value)
    files[f"run/{name}"] = json.dumps(value).encode()
    refused(home, write(tmp_path / "odd.tar.gz", files), told)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"nonsense", b"[" * 200_000, b'{"a": NaN}', b'{"a": 1e999}', b"\xff\xfe"],
)
@pytest.mark.parametrize("name", ["plan.json", "run.json", "session.json"])
def test_json_that_is_none(
    home: Home, packed: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    path = write(tmp_path / "odd.tar.gz", content_of(packed) | {f"run/{name}": content})
    refused(home, path, name.replace(".", r"\."))


def test_measurements_that_are_none(home: Home, packed: Path, tmp_path: Path) -> None:
    for number, metrics in enumerate((None, {"accuracy": "high"}, {"accuracy": True}, [1])):
        files = forged(content_of(packed), {"audit": "accuracy", "metrics": metrics})
        refused(home, write(tmp_path / str(number), files), r"measurements\.json")


def forged(files: Files, measurements: Any) -> Files:
    """One audit's measurements replaced, with hashes that fit everywhere."""
    name = next(name for name in files if name.endswith("measurements.json"))
    done = name.replace("measurements.json", "DONE.json")
    content = json.dumps(measurements).encode()
    record = json.loads(files[done])
    told = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "mtime_ns": 1}
    record["files"]["measurements.json"] = told
    return files | {name: content, done: json.dumps(record).encode()}


def test_escape_sequences_are_taken_out_or_refused(
    home: Home, packed: Path, tmp_path: Path
) -> None:
    evil = "\x1b]52;c;aGk=\x07\x1b[2Jtitle\u202e"
    files = content_of(packed)
    metrics = {"audit": "accuracy", "metrics": {evil: 1.0}}
    refused(home, write(tmp_path / "a", forged(files, metrics)), "terminal escape sequences")
    for name, change in {
        "run/run.json": lambda told: told.update(title=evil, origin=evil),
        "run/session.json": lambda told: told.update(reason=evil),
        "run/plan.json": lambda told: [s.update(title=evil) for s in told["stages"]],
        MANIFEST: lambda told: told.update(host=evil),
    }.items():
        value = json.loads(files[name])
        change(value)  # type: ignore[no-untyped-call]
        files[name] = json.dumps(value).encode()
    run = import_run(home, write(tmp_path / "b", files))
    assert run.imported is not None
    told = [run.imported["host"], run.facts["title"], run.reason(), *(
        stage.title for stage in run.plan.stages.values())]  # fmt: skip
    assert {text.replace("\N{REPLACEMENT CHARACTER}", "") for text in told} == {"title"}


# --- bombs ---------------------------------------------------------------------------------------


def test_too_much_is_refused_by_what_it_says(home: Home, packed: Path, tmp_path: Path) -> None:
    refused(home, packed, "--max-size allows more", most=10_000)
    files = content_of(packed)
    told = json.loads(files[MANIFEST])
    told["files"]["run/workers.log"] = {"size": 1 << 60, "sha256": "0" * 64}
    files[MANIFEST] = json.dumps(told | {"fits": True}).encode()
    path = write(tmp_path / "odd.tar.gz", files)
    refused(home, path, "--max-size allows more")
    refused(home, path, "the disk has no room", most=1 << 62)


def test_too_many_files(
    home: Home, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MOST_FILES", 100)
    refused(home, packed, "more than 100")


def test_what_it_really_holds_is_never_more_than_it_says(
    home: Home, packed: Path, tmp_path: Path
) -> None:
    """A gigabyte of zeros in a megabyte, behind a header that announces a few bytes, or as padding:
    nobody ever unpacks it."""
    files = content_of(packed)

    def more(tar: tarfile.TarFile) -> None:
        size = 1 << 30
        tar.fileobj.write(entry("run/workers.log", size).tobuf())  # type: ignore[union-attr]
        for _ in range(64):
            tar.fileobj.write(bytes(1 << 20))  # type: ignore[union-attr]

    refused(home, write(tmp_path / "bomb", files, more), r"twice|unannounced")
    with gzip.open(tmp_path / "zeros", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    refused(home, tmp_path / "zeros", "is no archive of a run")
    with gzip.open(tmp_path / "huge", "wb") as file:  # a manifest of a gigabyte
        file.write(entry(MANIFEST, 1 << 30).tobuf())
        file.write(b" " * (1 << 20))
    refused(home, tmp_path / "huge", "too large")
    odd = entry(MANIFEST, 1)
    odd.size = -512
    with gzip.open(tmp_path / "negative", "wb") as file:
        file.write(odd.tobuf(tarfile.GNU_FORMAT))
    refused(home, tmp_path / "negative", "too large")


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.98])
def test_cut_short(home: Home, packed: Path, tmp_path: Path, share: float) -> None:
    content = packed.read_bytes()
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(content[: int(share * len(content))])
    refused(home, path, r"no whole archive|cut short|no archive|lacks")


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_damage_is_refused_or_harmless(packed: Path, data: st.DataObject) -> None:
    """Bytes anywhere are changed: the run either is refused or is the same run."""
    content = bytearray(packed.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    home = Home(packed.parent / "damaged")
    path = packed.parent / "damaged.tar.gz"
    path.write_bytes(content)
    try:
        run = import_run(home, path)
    except BadInput:
        assert not home.runs.exists() or list(home.runs.iterdir()) == []
    else:
        assert {run.store.check(key, deep=True) for key in run.plan.stages} == {"ok"}
        shutil.rmtree(run.folder)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive(home: Home, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    refused(home, path, "no whole archive|cut short")


def test_what_is_no_file(home: Home, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refused(home, fifo, "no plain file")
    refused(home, tmp_path / "nothing", "does not exist")


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.jobs import imports
from engine.jobs.home import Home

left = int(sys.argv[3])
def dying(real):
    def wrapped(*args, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return wrapped

for name in ("_write", "_appear", "write_json"):
    setattr(imports, name, dying(getattr(imports, name)))
imports.os.sync = dying(lambda: None)
imports.import_run(Home(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("survives", [0, 2, 50, 192, 195, 196])
def test_killed_midway_nothing_is_there_and_the_next_gc_clears_it(
    home: Home, packed: Path, survives: int
) -> None:
    words = [sys.executable, "-c", KILLED, str(home.root), str(packed), str(survives)]
    done = subprocess.run(words, env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(every(home)) == []
    [left] = home.runs.iterdir()
    if survives > 0:  # before that nobody is named as its owner: it goes after an hour
        assert Collector(home).look().leftovers == (left,)
        Collector(home).collect()
        assert list(home.runs.iterdir()) == []
    assert rows_of([import_run(home, packed)])


def test_the_rows_are_those_of_the_run(shared: Computed, packed: Path, home: Home) -> None:
    rows = [dict(row) for row in rows_of([import_run(home, packed)])]
    assert untimed(rows) == untimed(shared.document["rows"])
    assert archive.VERSION == 1
