"""What stages warn of reaches people and programs, once per text, however a run came by its results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from harness import Computed, called, computed, session_folder, strict_json
from nursery import Nursery

from console import running
from console.warnings_view import NewWarnings
from engine.jobs.follow import Follower, Progress
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.stage_warnings import Tally

LEAK = "data: 4 of 12 test rows are in train."
PRESET = """
title = "leaky"
seeds = [0]
budgets = [0.5]
data = { name = "csv-table", path = "TRAIN", test_path = "TEST" }
model = { name = "linear" }
train = { epochs = 1, batch_size = 16 }
attacks = [{ name = "gaussian", share = 0.1 }]
audits = [{ name = "accuracy" }, { name = "gaussian" }]

[[methods]]
name = "none"
[[methods]]
name = "retrain"
"""


def tables(folder: Path) -> tuple[Path, Path]:
    """A table, and one to test on that has four rows of the first."""
    lines = [f"{n % 7}.5,{n}.25,{n * n % 11},{'ab'[n % 2]}" for n in range(60)]
    other = [f"{n % 7}.5,{n}.75,{n * n % 11},{'ab'[n % 2]}" for n in range(8)]
    train, test = folder / "train.csv", folder / "test.csv"
    train.write_text("\n".join(["u,v,w,label", *lines]) + "\n")
    test.write_text("\n".join(["u,v,w,label", *lines[:4], *other]) + "\n")
    return train, test


@pytest.fixture(scope="session")
def leaky(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Computed:
    folder = session_folder(tmp_path_factory)
    place = folder / "leaky-tables"
    place.mkdir(exist_ok=True)
    train, test = place / "train.csv", place / "test.csv"
    if not test.exists():
        tables(place)
    text = PRESET.replace("TRAIN", str(train)).replace("TEST", str(test))
    with nursery.starts_all():
        return computed(folder, "leaky", text, command=called)


def records(home: Path) -> list[Path]:
    return sorted(home.glob("**/objects/*/*/DONE.json"))


def rewrite(home: Path, kind: str, **changes: Any) -> None:
    """Change the records of a kind of stage; None takes a field out."""
    for path in records(home):
        told = json.loads(path.read_text())
        if told["kind"] == kind:
            told |= changes
            path.write_text(json.dumps({k: v for k, v in told.items() if v is not None}))


def everywhere(home: Path, run: str, folder: Path) -> dict[str, str]:
    """What each command says of a finished run."""
    told = {
        "compare": called("compare", run, "--home", home).stdout,
        "md": called("compare", run, "--home", home, "--md").stdout,
        "watch": called("watch", run, "--home", home).stdout,
        "show": called("runs", "show", run, "--home", home).stdout,
    }
    done = called("report", run, "--home", home, "--out", folder / "report")
    assert done.returncode == 0, done.stderr
    return told | {"report": (folder / "report" / "report.html").read_text()}


def documents(home: Path, run: str) -> list[list[dict[str, Any]]]:
    found = [
        called("compare", run, "--home", home, "--json"),
        called("runs", "show", run, "--home", home, "--json"),
    ]
    return [strict_json(done.stdout)["warnings"] for done in found]


# --- one stage -----------------------------------------------------------------------------------


def test_the_document_and_the_record_have_it(leaky: Computed) -> None:
    assert leaky.document["warnings"] == [{"text": LEAK, "stages": 1}]
    told = [json.loads(path.read_text()) for path in records(leaky.home)]
    assert [r["warnings"] for r in told if r["kind"] == "data"] == [[LEAK]]
    assert all(r["warnings"] == [] for r in told if r["kind"] != "data")


def test_every_command_says_it_once(leaky: Computed, tmp_path: Path) -> None:
    home = leaky.copy(tmp_path)
    for name, text in everywhere(home, leaky.run, tmp_path).items():
        assert text.count(LEAK) == 1, name
    for found in documents(home, leaky.run):
        assert found == [{"text": LEAK, "stages": 1}]


@pytest.mark.parametrize("form", ["--csv", "--latex"])
def test_tables_for_programs_have_rows_only(leaky: Computed, form: str) -> None:
    assert LEAK not in called("compare", leaky.run, "--home", leaky.home, form).stdout


def test_a_wholly_cached_run_says_it(leaky: Computed, tmp_path: Path) -> None:
    home = leaky.copy(tmp_path)
    plain = called("run", leaky.preset, "--home", home, "--plain")
    assert plain.stdout.count(LEAK) == 1
    assert "all from the store" in plain.stdout
    quiet = called("run", leaky.preset, "--home", home, "--json")
    assert strict_json(quiet.stdout)["warnings"] == [{"text": LEAK, "stages": 1}]
    assert quiet.stderr.count(LEAK) == 1


def test_a_run_that_goes_on_from_cached_data_says_so_first_and_below(
    leaky: Computed, nursery: Nursery, tmp_path: Path
) -> None:
    home = leaky.copy(tmp_path)
    with nursery.starts_all():
        more = called("run", leaky.preset, "--home", home, "--plain", "--seeds", "0,1")
    assert more.returncode == 0, more.stderr
    lines = [number for number, line in enumerate(more.stdout.splitlines()) if LEAK in line]
    begun = next(n for n, line in enumerate(more.stdout.splitlines()) if " start " in line)
    assert len(lines) == 2
    assert lines[0] < begun < lines[1]


def test_an_imported_run_says_it(leaky: Computed, tmp_path: Path) -> None:
    packed = tmp_path / "run.tar.gz"
    assert called("export", leaky.run, packed, "--home", leaky.home).returncode == 0
    home = tmp_path / "elsewhere"
    assert called("import", packed, "--home", home).returncode == 0
    (run,) = [path.name for path in (home / "runs").iterdir()]
    for name, text in everywhere(home, run, tmp_path).items():
        assert text.count(LEAK) == 1, name
    for found in documents(home, run):
        assert found == [{"text": LEAK, "stages": 1}]


def test_a_run_of_a_version_that_kept_no_warnings_says_it(leaky: Computed, tmp_path: Path) -> None:
    home = leaky.copy(tmp_path)
    from hashlib import sha256

    for kind in ("data", "train", "audit"):
        rewrite(home, kind, warnings=None)
    (path,) = home.glob("store/objects/*/*/data.json")
    told = json.loads(path.read_text())
    del told["report"]["warnings"]
    path.write_text(json.dumps(told))
    done = json.loads(path.with_name("DONE.json").read_text())
    stat = path.stat()
    done["files"]["data.json"] = {
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }
    path.with_name("DONE.json").write_text(json.dumps(done))
    assert LEAK in called("run", leaky.preset, "--home", home, "--plain").stdout
    for found in documents(home, leaky.run):
        assert found == [{"text": LEAK, "stages": 1}]


def test_the_log_of_the_stage_says_it(leaky: Computed) -> None:
    done = called("logs", leaky.run, "data csv-table", "--home", leaky.home)
    assert done.stderr.count(LEAK) == 1


# --- many stages ---------------------------------------------------------------------------------


def test_a_text_of_many_stages_is_one_line_with_their_number(
    leaky: Computed, tmp_path: Path
) -> None:
    home = leaky.copy(tmp_path)
    text = "[/red] the loss *jumped* <b>\x1b[31m"
    shown = "[/red] the loss *jumped* <b>"
    rewrite(home, "train", warnings=[text])
    rewrite(home, "data", warnings=[LEAK])
    told = everywhere(home, leaky.run, tmp_path)
    assert "2 warnings:" in told["compare"]
    assert f"{shown} (×2 stages)" in told["compare"]
    assert told["compare"].count(shown) == 1
    assert r"\[/red\] the loss \*jumped\* \<b\> (×2 stages)" in told["md"]
    assert "[/red] the loss *jumped* &lt;b&gt; (×2 stages)" in told["report"]
    assert "the loss *jumped* <b>" not in told["report"]
    assert all("\x1b" not in text for text in told.values())
    for found in documents(home, leaky.run):
        assert found == [{"text": LEAK, "stages": 1}, {"text": shown, "stages": 2}]


def test_a_thousand_texts_do_not_bury_the_table(leaky: Computed, tmp_path: Path) -> None:
    home = leaky.copy(tmp_path)
    rewrite(home, "train", warnings=[f"number {n}." for n in range(40)])
    told = called("compare", leaky.run, "--home", home).stdout
    assert "41 warnings:" in told
    assert len(re.findall(r"number \d+\.", told)) == 9
    assert "and 31 more" in told
    assert called("runs", "show", leaky.run, "--home", home).stdout.count("number ") == 40


def test_a_stage_that_failed_has_said_what_it_warned_of(leaky: Computed, tmp_path: Path) -> None:
    home = leaky.copy(tmp_path)
    run = Run(Home(home), leaky.run)
    key = next(key for key, stage in run.plan.stages.items() if stage.kind == "data")
    for file in run.store.path(key).iterdir():
        file.unlink()
    run.store.path(key).rmdir()
    for found in documents(home, leaky.run):
        assert found == [{"text": LEAK, "stages": 1}]


# --- live ----------------------------------------------------------------------------------------


def event(kind: str, stage: str = "", **data: Any) -> dict[str, Any]:
    return {"v": 1, "seq": 0, "t": 5.0, "stage": stage, "attempt": 1, "kind": kind, "data": data}


EVENTS = [
    *(event("warning", f"{n}" * 64, text="[/red] the loss jumped\x1b[2J") for n in range(10)),
    event("warning", text="train s0: the worker died; trying again"),
    event("warning", text="train s0: the worker died; trying again"),
    event("warning", "a" * 64, text=None),
    event("warning", "a" * 64),
    event("metric", "a" * 64, name="loss", step=1, value=1.0),
]


@pytest.mark.parametrize("view", [running._lines, running._quiet, running._live])
def test_while_a_run_goes_on_each_text_comes_once(
    view: running.Watch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    def follow(run: Run, follower: Any, process: Any, take: running.Take) -> bool:
        for one in EVENTS:
            take([one])
        return False

    monkeypatch.setattr(running, "_follow", follow)
    stored = Tally()
    stored.add("b" * 64, ["said by a stage in the store"])
    run = Run(Home(tmp_path), "toy")
    view(run, Progress({}), Follower(run), NewWarnings(lambda: stored), None)
    told = "".join(capsys.readouterr())
    assert told.count("[/red] the loss jumped") == 1
    assert told.count("said by a stage in the store") == 1
    assert told.count("the worker died") == 2, "each time it happens"
    assert "None" not in told
    assert "\x1b[2J" not in told
