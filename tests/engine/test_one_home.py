"""One home, many runs: one that cannot be shown is a line, and hides no other."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import ROOT, environment

from console.comparing import show_comparison
from console.expecting import LikeRuns
from console.keeping import collect_garbage, verify
from console.listing import list_runs
from console.steering import remove_run
from console.watching.feed import Feed
from console.watching.index import Index
from engine.jobs import runs
from engine.jobs.archive import export
from engine.jobs.home import Home
from engine.jobs.imports import import_run
from engine.jobs.runs import Run
from engine.spec.errors import BadInput

FIRST = Path(__file__).parent / "archives" / "first-release.tar.gz"
LONG_AGO = (1e9, 1e9)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("one") / "home").create()
    import_run(home, FIRST).folder.rename(home.runs / "good")
    return home


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def says(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def a_folder(folder: Path) -> None:
    (folder / "run.json").unlink()
    (folder / "run.json").mkdir()


ILL: dict[str, Callable[[Path], object]] = {
    "half-deleted": gone("run.json"),
    "no-plan": gone("plan.json"),
    "no-preset": gone("experiment.toml"),
    "folder": a_folder,
    "garbage": says("run.json", "{{{"),
    "list": says("run.json", "[]"),
    "newer": says("run.json", '{"v": 9, "chelate": "9.9.9", "created": 1}'),
    "late": says("run.json", '{"v": 1, "created": 1e308}'),
    "early": says("run.json", '{"v": 1, "created": -1e18}'),
    "digits": says("run.json", '{"v": 1, "created": 1' + "0" * 400 + "}"),
    "deep": says("run.json", "[" * 900 + "]" * 900),
    "title": says("run.json", '{"v": 1, "created": 1, "title": 7}'),
    "plan": says("plan.json", '{"stages": [[]], "cells": 3}'),
    "plan-deep": says("plan.json", "[" * 900 + "]" * 900),
    "imported": says("imported.json", '{"host": [], "archive": {}}'),
    "session": says("session.json", '{"outcome": [], "reason": {}, "t": 1e400}'),
    "events": says("events.jsonl", '{"v":1,"seq":0,"t":1,"stage":"","attempt":1,"kind":"end",'
                   '"data":{"key":["a"],"stages":1' + "0" * 400 + "}}\n"),
}  # fmt: skip


def with_ill(taken: Home, tmp_path: Path, kind: str) -> Home:
    home = Home(tmp_path / "home")
    shutil.copytree(taken.root, home.root)
    shutil.copytree(home.runs / "good", home.runs / kind)
    ILL[kind](home.runs / kind)
    os.utime(home.runs / kind, LONG_AGO)
    return home


@pytest.mark.parametrize("kind", ILL)
def test_one_that_cannot_be_shown_hides_no_other(
    taken: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    home = with_ill(taken, tmp_path, kind)
    list_runs(home.root, True)
    told = {run["run"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert set(told) == {"good", kind}
    assert told["good"]["state"] == "done"
    list_runs(home.root, False)
    assert kind in capsys.readouterr().out
    index = Index(home)
    for _ in range(5):
        index.scan()
    assert {row.id: row.state for row in index.rows} == {n: one["state"] for n, one in told.items()}
    Feed(Run(home, kind)).poll()
    show_comparison(["good"], home.root, ["csv"])
    verify(None, home.root, False, True)
    collect_garbage(home.root, None, None, False, True)
    list(LikeRuns(home).on(Run(home, "good").plan))
    export(Run(home, "good"), tmp_path / "good.tar.gz")
    with pytest.raises(BadInput, match="is here already"):
        import_run(home, FIRST)
    for act in (lambda: show_comparison([kind], home.root, []),
                lambda: export(Run(home, kind), tmp_path / "ill.tar.gz")):  # fmt: skip
        try:  # itself it is shown, or refused in a line
            act()
        except BadInput as error:
            assert kind in str(error)
            assert len(str(error).splitlines()) == 1
    remove_run(kind, home.root, yes=True)
    assert [run.id for run in runs.every(home)] == ["good"]


def test_a_run_being_made_is_not_yet_one(taken: Home, tmp_path: Path) -> None:
    home = with_ill(taken, tmp_path, "half-deleted")
    os.utime(home.runs / "half-deleted")
    assert [run.id for run in runs.every(home)] == ["good"]


def obeys_modes() -> None:
    """A child of root that obeys the modes of files as everybody else does."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_somebody_elses_private_run(taken: Home, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(taken.root, home.root)
    shutil.copytree(home.runs / "good", home.runs / "private")
    (home.runs / "private").chmod(0)

    def called(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "chelate", *words, "--home", str(home.root)],
            cwd=ROOT, env=environment(), capture_output=True, text=True, preexec_fn=obeys_modes,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    try:
        done = called("runs", "list", "--json")
        told = {run["run"]: run for run in json.loads(done.stdout)["runs"]}
        if told["private"]["state"] == "done":
            pytest.skip("nobody is kept from reading here")
        assert (told["good"]["state"], told["private"]["state"]) == ("done", "unreadable")
        assert "Permission denied" in told["private"]["reason"]
        done = called("verify")
        assert done.returncode == 1, "it was not all looked at"
        assert "private: no access to this run" in done.stdout
        done = called("runs", "show", "private")
        assert done.returncode == 2
        assert "Permission denied" in done.stderr
        done = called("gc", "--json")
        assert done.returncode == 0, done.stderr
        assert "private" in json.loads(done.stdout)["unknown"]
        assert called("gc", "--older-than", "0s", "--yes").returncode == 2
    finally:
        (home.runs / "private").chmod(0o700)


def test_an_ambiguous_word_names_a_few(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for number in range(500):
        folder = home.runs / f"run-{number:03}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"v": 1}')
    with pytest.raises(BadInput, match=r"ambiguous: run-000, .*run-009 and 490 more") as error:
        runs.find(home, "run")
    assert len(str(error.value)) < 200
