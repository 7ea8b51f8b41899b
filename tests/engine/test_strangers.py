"""What a stranger's archive may say: every value that no view could show is refused by name, before
anything is written; what is taken in can be shown. All of it with an archive of the first release,
which still is one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.comparing import rows_of, tuning_of
from console.listing import list_runs
from console.poisons import show_poison
from console.watching.index import Index
from engine.jobs import bounded_json, imports, runs, schema
from engine.jobs.archive import MANIFEST
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.imports import import_run
from engine.jobs.records import DONE
from engine.jobs.survey import RunReader
from engine.spec.component import Role
from engine.spec.errors import BadInput
from engine.spec.planned import ROLES, Cell, Plan, Stage

FIRST = Path(__file__).parent / "archives" / "first-release.tar.gz"
Files = dict[str, bytes]
HUGE = 10**400


@pytest.fixture(scope="module")
def files() -> Files:
    with tarfile.open(FIRST) as tar:
        return {e.name: tar.extractfile(e).read() for e in tar}  # type: ignore[union-attr]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def packed(path: Path, files: Files) -> Path:
    """An archive whose manifest fits its files."""
    told = json.loads(files[MANIFEST])
    told["files"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
        if name != MANIFEST
    }
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in (files | {MANIFEST: json.dumps(told).encode()}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def named(files: Files, name: str) -> str:
    """The first member of this name."""
    return next(member for member in files if member.rpartition("/")[2] == name)


def changed(files: Files, name: str, change: Callable[[Any], Any]) -> Files:
    """One JSON file changed; of an artifact, the hash in its DONE.json with it."""
    member = named(files, name)
    value = json.loads(files[member])
    found = change(value)
    content = (found if isinstance(found, str) else json.dumps(value)).encode()
    more = {member: content}
    if member.startswith("objects/") and name != "DONE.json":
        done = member.replace(name, "DONE.json")
        record = json.loads(files[done])
        record["files"][name] |= {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        more[done] = json.dumps(record).encode()
    return files | more


def refused(home: Home, path: Path, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line that says `told`, and before a byte was written."""
    monkeypatch.setattr(imports.tempfile, "mkdtemp", lambda **_: pytest.fail("it was written"))
    with pytest.raises(BadInput, match=told) as error:
        import_run(home, path)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 1_000
    assert list(home.runs.iterdir()) == []


# --- the first release ---------------------------------------------------------------------------


def test_an_archive_of_the_first_release_is_taken_in_and_shown(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    run = import_run(home, FIRST)
    assert run.id == "first-ef52a8a09e.imported"
    rows = rows_of([run])
    assert {row["method"] for row in rows} == {"none", "retrain", "gd"}
    assert {row["variant"] for row in rows if row["method"] == "gd"} == {"tuned lr=0.01"}
    assert len(tuning_of([run])) == 2
    assert {run.store.check(key, deep=True) for key in run.plan.stages} == {"ok", "absent"}
    list_runs(home.root, False)
    assert "a small run of the first release" in " ".join(capsys.readouterr().out.split())


# --- what no view could show ---------------------------------------------------------------------


def a_metric(value: object) -> Callable[[Any], None]:
    return lambda told: told["metrics"].update(dict.fromkeys(list(told["metrics"])[:1], value))


def deep(levels: int, value: str = "1") -> str:
    return '{"a":' * levels + value + "}" * levels


CASES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("run.json", lambda v: v.update(created=1e308), "run.json .*1e308 or beyond"),
    ("run.json", lambda v: v.update(created=1e18), "created = 1e.18: must be a number from 0 to"),
    ("run.json", lambda v: v.update(created=-1e18), "created = -1e.18: must be a number from 0"),
    ("run.json", lambda v: v.update(created=10**20), "created = 1000"),
    ("run.json", lambda v: v.update(created=HUGE), "run.json .*more than 25 digits"),
    ("run.json", lambda v: v.update(v=2), "newer chelate"),
    ("run.json", lambda v: v.update(title="x" * 10_001), "title = .*at most 10,000 characters"),
    ("run.json", lambda v: v.update(name=[1]), "name = .*must be text"),
    ("run.json", lambda v: deep(65), "run.json .*more than 64 deep"),
    ("run.json", lambda v: deep(500), "run.json .*more than 64 deep"),
    ("run.json", lambda v: deep(980), "run.json .*more than 64 deep"),
    ("session.json", lambda v: v.update(outcome=[]), "session.json: outcome"),
    ("session.json", lambda v: v.update(t=1e50), "session.json: t"),
    ("exit.json", lambda v: v.update(attempt=1e30), "exit.json: attempt"),
    ("exit.json", lambda v: v.update(stage=["x"]), "exit.json.*stage"),
    ("plan.json", lambda v: v["cells"][0].update(role="odd"), r"cells\[0\].role = 'odd': must be"),
    ("plan.json", lambda v: v["cells"][0].update(seed=1e40), r"cells\[0\].seed"),
    ("plan.json", lambda v: v["cells"][0].update(budget=-1), r"cells\[0\].budget"),
    ("plan.json", lambda v: v["cells"][0].update(unit=-1), r"cells\[0\].unit"),
    ("plan.json", lambda v: v["searches"][0].update(trials=[]), r"searches\[0\].trials has 0 items"),
    ("plan.json", lambda v: v["searches"][0]["trials"][0].update(seeds=[0, 1]), "each of its seeds"),
    ("plan.json", lambda v: v["searches"][0].update(objective="odd"), "objective"),
    ("plan.json", lambda v: v["stages"][0].update(config=[]), r"stages\[0\].config"),
    ("plan.json", lambda v: v["stages"][0]["config"].update(classes=7), r"config.classes = 7"),
    ("plan.json", lambda v: v["stages"][9]["config"].update(attack="x"), r"stages\[9\].config.attack"),
    ("plan.json", lambda v: v["stages"][0].update(tee=1e40), r"stages\[0\].tee"),
    ("plan.json", lambda v: v["stages"][0].update(title="t" * 10_001), r"stages\[0\].title"),
    ("plan.json", lambda v: v.update(pins=[]), "pins"),
    ("DONE.json", lambda v: v.update(seconds=1e60), "DONE.json .*no number from 0 to 1e.12"),
    ("DONE.json", lambda v: v.update(attempt=1e30), "DONE.json .*no whole number"),
    ("DONE.json", lambda v: v["files"].update(x={"size": 1, "sha256": "0", "mtime_ns": 1 << 70}),
     "DONE.json .*no whole number"),
    ("DONE.json", lambda v: v.update(title="t" * 10_001), "DONE.json .*no text of at most"),
    ("DONE.json", lambda v: v.update(env={"torch": [[]]}), "DONE.json .*torch"),
    ("measurements.json", a_metric(1e60), "must be a number from -1e.50 to 1e.50"),
    ("measurements.json", a_metric("high"), "must be a number"),
    ("measurements.json", lambda v: v.update(metrics=None), "metrics = None: must be a table"),
    ("choice.json", lambda v: v.update(chosen="x"), "chosen"),
    ("choice.json", lambda v: v.update(config=3), "config"),
    ("trial.json", lambda v: v.update(outcome="odd"), "outcome"),
    ("trial.json", lambda v: v.update(forgetting=[]), "forgetting"),
    ("poison.json", lambda v: v.update(facts=[1]), "facts"),
    ("poison.json", lambda v: v["facts"].update(target="x"), "facts.target"),
    ("data.json", lambda v: v.update(classes="cat"), "classes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "told"), CASES)
def test_what_no_view_could_show_is_refused(
    home: Home,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Any], Any],
    told: str,
) -> None:
    path = packed(tmp_path / "odd.tar.gz", changed(files, name, change))
    refused(home, path, told, monkeypatch)


def test_a_size_a_time_and_a_name_in_the_manifest(
    home: Home, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(files[MANIFEST])
    for change, what in (
        ({"exported": 1e30}, "exported"),
        ({"host": "h" * 501}, "host"),
        ({"exported": HUGE}, "more than 25 digits"),
    ):
        odd = files | {MANIFEST: json.dumps(told | change).encode()}
        refused(home, packed(tmp_path / "odd.tar.gz", odd), what, monkeypatch)


def test_a_run_with_a_long_name_is_seen_by_every_command(
    home: Home, files: Files, tmp_path: Path
) -> None:
    told = json.loads(files[MANIFEST]) | {"run": "r" * 121}
    run = import_run(home, packed(tmp_path / "x", files | {MANIFEST: json.dumps(told).encode()}))
    assert list(runs.every(home)) == [runs.find(home, "rrr")] == [run]
    assert len(run.id) < 121


def test_numbers_in_events(home: Home, files: Files, tmp_path: Path) -> None:
    """A line that is beyond bounds is refused by its number; a torn one is what a crash leaves."""
    event = json.loads(files["run/events.jsonl"].splitlines()[0])
    for data in ({"value": HUGE}, json.loads(deep(200))):
        line = json.dumps(event | {"data": data}).encode() + b"\n"
        odd = files | {"run/events.jsonl": files["run/events.jsonl"] + line}
        with pytest.raises(BadInput, match=r"events\.jsonl, line \d+: "):
            import_run(home, packed(tmp_path / "odd.tar.gz", odd))
    torn = files | {"run/events.jsonl": files["run/events.jsonl"] + b'{"v":1,"se\n' + b"x" * 100}
    assert import_run(home, packed(tmp_path / "torn.tar.gz", torn)).state() == "done"


def test_scores_that_no_histogram_can_show(
    home: Home, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from safetensors.numpy import save

    member = named(files, "scores.safetensors")
    done = member.replace("scores.safetensors", "DONE.json")
    for content in (save({"scores": np.array([1e60])}), save({"scores": np.array([np.nan])}), b"x"):
        record = json.loads(files[done])
        sha256 = hashlib.sha256(content).hexdigest()
        record["files"]["scores.safetensors"] |= {"size": len(content), "sha256": sha256}
        odd = files | {member: content, done: json.dumps(record).encode()}
        path = packed(tmp_path / "odd.tar.gz", odd)
        refused(home, path, r"scores\.safetensors", monkeypatch)


# --- bounds on the text, before a parser runs ----------------------------------------------------


def test_a_bomb_of_objects_is_never_parsed(
    home: Home, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 million lists in 54 MB: parsed, they would be gigabytes."""
    bomb = b'{"a":[' + b"[]," * 18_000_000 + b"1]}"
    real = json.loads

    def loads(content: Any, **options: Any) -> Any:
        assert len(content) < 1 << 20, "it was parsed"
        return real(content, **options)

    path = packed(tmp_path / "odd.tar.gz", files | {"run/plan.json": bomb})
    monkeypatch.setattr(bounded_json.json, "loads", loads)
    refused(home, path, r"plan\.json .*more than 16,000,000 values", monkeypatch)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 65 + b"]" * 65, "deep"),
        (b"[" * 3_000_000, "deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deep"),
        (b'["' + b"x" * (1 << 20) + b'x"]', "string of more than"),
        (b"[" + b"1" * 26 + b"]", "25 digits"),
        (b"[1e400]", "1e308"),
        (b"[1.5E+308]", "1e308"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b'"' * 70_000_000, "values"),
        (b"\xff\xfe", "decode"),
        (("[" + "1" * 26 + "]").encode("utf-16"), "decode"),
    ],
)
def test_bounds(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        bounded_json.parse(content)


def test_bounds_of_size() -> None:
    small = bounded_json.Bounds(size=100, wide=50, values=10)
    for content in (b"[1]" + b" " * 100, b'["\xc3\xa9"]' + b" " * 50, b"[1,2,3,4,5,6,7,8,9,0,1]"):
        with pytest.raises(ValueError, match=r"at most|the most"):
            bounded_json.parse(content, small)
    assert bounded_json.parse(b"[1]" + b" " * 60, small) == [1]


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":[' + b"[]," * 600_000 + b'1], "b": "' + b"[" * 100 + b'"}',
        b"[" * 64 + b"]" * 64,
        b'{"' + b"1" * 40 + b'": "[[[[1e400\\\\\\"' + b"[" * 100 + b'\\\\"}',
        b'["' + b"9" * 100 + b'", "\\u0000", 1e99, 1e-300, ' + str(1 << 64).encode() + b"]",
        b'["' + b"x" * (1 << 20) + b'"]',
        b"[" + b'"' + b"[" * 100 + b'",' + b"1]",
    ],
)
def test_what_is_within_bounds(content: bytes) -> None:
    assert bounded_json.parse(content) == json.loads(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.text(max_size=20)
    | st.floats(-1e50, 1e50, allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(value=VALUES, chunk=st.integers(4, 64), ascii_=st.booleans())
@settings(max_examples=300, deadline=None)
def test_json_of_ours_passes_wherever_it_is_cut(value: Any, chunk: int, ascii_: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    before = bounded_json._CHUNK
    bounded_json._CHUNK = chunk
    try:
        bounded_json.check(content)
    finally:
        bounded_json._CHUNK = before
    if "surrogate" not in repr(content):
        assert json.loads(content) == value


@given(content=st.binary(max_size=400) | st.text("[]{}\",:\\0123456789eE+-.untrfalse ", max_size=400
                                                 ).map(str.encode))  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_parsed_or_refused(content: bytes) -> None:
    try:
        found = bounded_json.parse(content)
    except ValueError:
        return
    json.dumps(found, allow_nan=False)


def test_every_role_is_one_of_the_schema() -> None:
    assert Role.__args__ == ROLES  # type: ignore[attr-defined]


# --- what readers do with what is there already --------------------------------------------------


def test_events_are_read_with_numbers_that_can_be_shown(tmp_path: Path) -> None:
    event = {"v": 1, "seq": 0, "t": 1.0, "stage": "", "attempt": 1, "kind": "metric"}
    data: list[Any] = [
        {"value": HUGE, "deep": [[1e60, 2.0]], "n": 1 << 60, "fine": 3},
        {"key": ["a", "list"]},
        {"key": "k"},
    ]
    lines = [json.dumps(event | {"data": one}) for one in data]
    lines += [
        json.dumps(event | {"data": {}, "seq": HUGE}),
        json.dumps(event | {"data": {}, "t": HUGE}),
    ]
    lines += ['{"v":1,"seq":0,"t":1.0,"stage":"","attempt":1,"kind":"x","data":' + deep(100) + "}"]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    tail = EventTail(tmp_path / "events.jsonl")
    assert [one["data"] for one in tail.read()] == [
        {"value": None, "deep": [[None, 2.0]], "n": None, "fine": 3},
        {"key": "k"},
    ]
    assert tail.skipped == 4


def test_outcomes_of_a_plan_that_is_long_and_wide(home: Home) -> None:
    """Every stage reads the one before twice: 2^3000 ways, 3,000 deep."""
    keys = [f"{number:064x}" for number in range(3_000)]
    stages = {
        key: Stage(key, "train", key, {}, {"a": before, "b": before} if before else {})
        for key, before in zip(keys, ["", *keys], strict=False)
    }
    cell = Cell("", "a", "m", "", None, 0, "audit", "none", keys[-1], ())
    run = runs.Run(home, "long")
    run.__dict__["plan"] = Plan(stages, [cell])
    assert RunReader(run).outcome(keys[-1]) == ("missing", "not computed")
    reader = RunReader(run)
    reader.exits = {keys[0]: {"outcome": "failed", "reason": "why"}}
    assert reader.outcome(keys[-1]) == ("failed", "why")


def test_poison_of_an_imported_run_is_looked_through(
    home: Home, files: Files, tmp_path: Path
) -> None:
    """As one in a folder is: rows, labels and bounds, before a picture is drawn of it."""
    import numpy as np
    from safetensors.numpy import save

    def added(files: Files, done: str, name: str, content: bytes) -> Files:
        record = json.loads(files[done])
        sha256 = hashlib.sha256(content).hexdigest()
        record["files"][name] = {"size": len(content), "sha256": sha256, "mtime_ns": 1}
        member = done.replace("DONE.json", name)
        return files | {member: content, done: json.dumps(record).encode()}

    titles = {member: json.loads(files[member])["title"] for member in files if DONE in member}
    craft = next(member for member, title in titles.items() if title == "craft gaussian s0")
    data = named(files, "data.json").replace("data.json", "DONE.json")
    rows = np.arange(3)
    pixels = save({
        "train_x": np.zeros((300, 1, 28, 28), np.uint8), "train_y": np.zeros(300, np.int64),
        "test_x": np.zeros((100, 1, 28, 28), np.uint8), "test_y": np.zeros(100, np.int64),
    })  # fmt: skip
    inputs = np.zeros((3, 1, 28, 28), np.float32)
    labels = np.zeros(3, np.int64)
    good: dict[str, Any] = {"rows": rows, "inputs": inputs, "labels": labels}
    cases: list[tuple[dict[str, Any], str]] = [
        (good, ""),
        (good | {"labels": labels + 10}, "labels must lie in"),
        (good | {"rows": rows - 5}, "rows must ascend"),
        (good | {"inputs": inputs + np.inf}, "not finite"),
        (good | {"inputs": inputs[:, :, :20]}, "its data are"),
        ({"rows": rows}, "has no inputs, labels"),
    ]
    for number, (tensors, told) in enumerate(cases):
        archive = added(files, craft, "poison.safetensors", save(tensors))
        archive = added(archive, data, "pixels.safetensors", pixels)
        run = import_run(home, packed(tmp_path / f"{number}", archive))
        if told:
            with pytest.raises(BadInput, match=told):
                show_poison(run.id, home.root, None, None, None, 1, None)
        else:
            show_poison(run.id, home.root, None, None, None, 1, None)


def test_absurd_numbers_that_are_there_already_hide_no_other(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older version took them in: each is one line, and the others are shown."""
    good = import_run(home, FIRST)
    for number, created in enumerate(("1e308", "-1e18", "1" + "0" * 20, "1" + "0" * 400)):
        folder = home.runs / f"odd{number}"
        folder.mkdir()
        (folder / "run.json").write_text('{"v": 1, "title": "odd", "created": ' + created + "}")
    list_runs(home.root, True)
    told = {run["run"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert told[good.id]["state"] == "done"
    assert [told[f"odd{n}"]["state"] for n in range(4)] == ["unreadable"] * 4
    assert all("created" in told[f"odd{n}"]["reason"] or "digits" in told[f"odd{n}"]["reason"]
               or "1e308" in told[f"odd{n}"]["reason"] for n in range(4))  # fmt: skip
    index = Index(home)
    for _ in range(10):
        index.scan()
    assert {row.id: row.state for row in index.rows} == {
        name: one["state"] for name, one in told.items()
    }


def test_a_gzip_bomb_of_events_is_bounded(home: Home, files: Files, tmp_path: Path) -> None:
    told = json.loads(files[MANIFEST])
    told["files"]["run/events.jsonl"] = {"size": 2 << 30, "sha256": "0" * 64}
    content = json.dumps(told).encode()
    with gzip.open(tmp_path / "bomb", "wb") as file:
        for name, size, data in (
            (MANIFEST, len(content), content),
            ("run/events.jsonl", 2 << 30, b""),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = size
            file.write(entry.tobuf())
            file.write(data + b"\0" * (-len(data) % 512))
    with pytest.raises(BadInput, match=r"too large: 2,147,483,648 bytes"):
        import_run(home, tmp_path / "bomb")


def test_a_plan_of_a_hundred_thousand_stages_is_within_bounds() -> None:
    stage = {"key": "0" * 64, "kind": "audit", "title": "t" * 60, "after": [], "tee": 1.0,
             "inputs": {str(n): "0" * 64 for n in range(6)},
             "config": {str(n): {"name": "x", "a": 1, "b": 2} for n in range(4)}}  # fmt: skip
    content = (
        b'{"stages": [' + b",".join([json.dumps(stage).encode()] * 100_000) + b'], "cells": []}'
    )
    bounded_json.check(content)
    assert schema.MOST_STAGES >= 100_000
