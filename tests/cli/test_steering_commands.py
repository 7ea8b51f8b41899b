"""The commands about runs and homes, as people type them; what needs no computing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from harness import COMMAND, Computed, environment, hashes, strict_json
from typer.testing import CliRunner

from console.cli import app
from engine.jobs.home import Home
from engine.jobs.runs import Run

EVIL = "\x1b]52;c;aGk=\x07\x1b[2Jprinted\u202e"


def invoke(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    return result


@pytest.fixture
def run(shared: Computed, tmp_path: Path) -> Run:
    return Run(Home(shared.copy(tmp_path)), shared.run)


def attempt(run: Run, title: str) -> Path:
    [key] = [key for key, stage in run.plan.stages.items() if stage.title == title]
    [folder] = (run.folder / "attempts").glob(f"{key[:16]}.*")
    return folder


# --- logs ----------------------------------------------------------------------------------------


def test_logs_of_a_stage_by_title_words_and_key(run: Run) -> None:
    folder = attempt(run, "train gaussian s0")
    (folder / "output.log").write_text(f"one\n10%\r100%\n{EVIL}\nno newline")
    where = ("--home", run.home.root)
    key = folder.name[:16]
    for word in ("train gaussian s0", key, key[:6], "TRAIN gaussian S0"):
        told = invoke("logs", run.id, word, *where)
        assert told.stdout.splitlines() == [
            "one",
            "100%",
            "printed\N{REPLACEMENT CHARACTER}",
            "no newline",
        ]
        assert f"train gaussian s0, {key}, attempt 1" in told.stderr
        assert told.stderr.splitlines()[-1] == "done"
    told = invoke("logs", run.id, key, "--events", *where)
    assert "title=train gaussian s0" in told.stdout
    assert "metric" in told.stdout
    told = invoke("logs", run.id, *where)
    assert "done train gaussian s0" in told.stdout


def test_logs_say_what_they_do_not_find(run: Run) -> None:
    where = ("--home", run.home.root)
    assert "no stage 'nonsense'" in invoke("logs", run.id, "nonsense", *where, code=2).stderr
    told = invoke("logs", run.id, "audit", *where, code=2).stderr
    assert "names 20 stages" in told
    assert "and 10 more" in told
    empty = attempt(run, "split s0")
    assert "printed nothing" in invoke("logs", run.id, "split s0", *where).stderr
    for file in empty.iterdir():
        file.unlink()
    empty.rmdir()
    assert "not been tried" in invoke("logs", run.id, "split s0", *where, code=2).stderr


def test_the_reason_of_a_failure_is_told_and_safe(run: Run) -> None:
    folder = attempt(run, "train gaussian s0")
    told = json.loads((folder / "exit.json").read_text())
    (folder / "exit.json").write_text(json.dumps(told | {"outcome": "failed", "reason": EVIL}))
    shown = invoke("logs", run.id, folder.name[:16], "--home", run.home.root)
    assert shown.stderr.splitlines()[-1].startswith("failed: printed")


# --- rm ------------------------------------------------------------------------------------------


def test_rm_without_a_terminal_needs_yes(run: Run) -> None:
    where = ("--home", run.home.root)
    stored = hashes(run.home.root)
    assert "--yes" in invoke("rm", run.id, *where, code=2).stderr
    assert run.folder.exists()
    assert "stay in the store" in invoke("rm", run.id, "--yes", *where).stdout
    assert not run.folder.exists()
    assert hashes(run.home.root) == stored


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("n", False), ("", False)])
def test_rm_asks_on_a_terminal(run: Run, answer: str, goes: bool) -> None:
    ours, theirs = pty.openpty()
    words = [COMMAND, "rm", run.id, "--home", str(run.home.root)]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment())
    os.close(theirs)
    told = b""
    while b"[y/N]" not in told:
        told += os.read(ours, 1000)
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(30) == (0 if goes else 2)
    os.close(ours)
    assert run.folder.exists() != goes


# --- gc, verify, export, import ------------------------------------------------------------------


def test_gc_tells_first_and_removes_with_yes(run: Run) -> None:
    where = ("--home", run.home.root)
    invoke("rm", run.id, "--yes", *where)
    for trashed in run.home.trash.iterdir():
        trashed.rename(trashed.with_name(f"{run.id}.1234567890123"))
    count = len(hashes(run.home.root))
    told = invoke("gc", *where).stdout
    assert f"{count} more" in told
    assert "--older-than 0s" in told
    told = invoke("gc", "--older-than", "0s", *where).stdout
    assert f"{count} results" in told
    assert "Nothing was removed yet: --yes does it." in told
    assert len(hashes(run.home.root)) == count
    plan = strict_json(invoke("gc", "--max-size", "0", "--json", *where).stdout)
    assert plan["removed"] is False
    assert {one["key"] for one in plan["objects"]} == set(hashes(run.home.root))
    assert len(plan["leftovers"]) == 1
    told = invoke("gc", "--older-than", "0s", "--yes", *where).stdout
    assert f"{count} results" in told
    assert hashes(run.home.root) == {}
    assert list(run.home.trash.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--older-than", "5"), ("--older-than", "soon"), ("--older-than", "-1d"), ("--max-size", "big"),
     ("--max-size", "-1"), ("--max-size", "nan")],
)  # fmt: skip
def test_ages_and_sizes_that_are_none(run: Run, option: str, value: str) -> None:
    told = invoke("gc", f"{option}={value}", "--home", run.home.root, code=2).stderr
    assert f"{option} {value}" in told


def test_a_run_elsewhere_is_listed_compared_and_marked(run: Run, tmp_path: Path) -> None:
    file, there = tmp_path / "run.tar.gz", tmp_path / "there"
    told = strict_json(invoke("export", run.id, file, "--home", run.home.root, "--json").stdout)
    assert told["file"] == str(file)
    assert "--force" in invoke("export", run.id, file, "--home", run.home.root, code=2).stderr
    taken = strict_json(invoke("import", file, "--home", there, "--json").stdout)
    where = ("--home", there)
    [listed] = strict_json(invoke("runs", "list", "--json", *where).stdout)["runs"]
    assert (listed["run"], listed["state"]) == (taken["run"], "done")
    assert listed["imported"] == taken["host"] == os.uname().nodename
    assert "imported from" in invoke("runs", "list", *where).stdout
    assert "not computed here" in invoke("runs", "show", taken["run"], *where).stdout
    assert "not computed here" in invoke("compare", taken["run"], *where).stdout
    compared = strict_json(invoke("compare", taken["run"], "--json", *where).stdout)
    assert compared["imported"] == {taken["run"]: taken["host"]}
    here = strict_json(invoke("compare", run.id, "--json", "--home", run.home.root).stdout)
    assert compared["rows"] == here["rows"]
    for word in ("resume", "stop", "pause", "retry"):
        assert taken["host"] in invoke(word, taken["run"], *where, code=2).stderr
    preset = tmp_path / "mine.toml"
    invoke("presets", "save", taken["run"], preset, *where)
    assert "valid" in invoke("presets", "validate", preset).stdout
    invoke("verify", *where)
    assert "already" in invoke("import", file, *where, code=2).stderr
    assert "results go with it" in invoke("rm", taken["run"], "--yes", *where).stdout


def test_what_is_not_under_way_cannot_be_steered(run: Run) -> None:
    where = ("--home", run.home.root)
    for word in ("stop", "pause"):
        assert "is not running: it is done" in invoke(word, run.id, *where, code=2).stderr
    assert "no stage of it has failed" in invoke("retry", run.id, *where, code=2).stderr


def test_json_holds_no_character_that_a_terminal_obeys(run: Run) -> None:
    facts = json.loads((run.folder / "run.json").read_text())
    title = EVIL + "\x9b31m"
    (run.folder / "run.json").write_text(json.dumps(facts | {"title": title}))
    told = invoke("runs", "list", "--json", "--home", run.home.root).stdout
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(told)
    assert strict_json(told)["runs"][0]["title"] == title
