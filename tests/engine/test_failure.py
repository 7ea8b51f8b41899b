"""A stage that fails: the rest goes on, and the run says what failed and why."""

from __future__ import annotations

from pathlib import Path

from detached import BREAKS, BROKEN
from harness import (
    NGD,
    TINY,
    Computed,
    called,
    new_kinds,
    objects,
    strict_json,
    unhealthy,
)
from nursery import Nursery


def test_what_does_not_depend_on_a_failed_stage_goes_on(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    home, before = shared.copy(tmp_path), objects(shared.home)
    preset = tmp_path / "wild.toml"
    preset.write_text(TINY + BROKEN + NGD)
    script = tmp_path / "breaks.py"
    script.write_text(BREAKS)
    with forked.starts_all(script=str(script)):
        done = called("run", preset, "--home", home, "--json")
    assert done.returncode == 3
    fault = "ZeroDivisionError: a fault of the method"
    assert f"failed: unlearn gaussian/gd[wild] 0.25 s0: {fault}" in done.stderr
    assert "Traceback" not in done.stderr
    document = strict_json(done.stdout)
    assert document["status"] == "failed"
    assert new_kinds(home, before) == {"unlearn": 4, "audit": 8}  # all of ngd
    assert not unhealthy(home)
    for row in document["rows"]:
        if row["variant"] == "wild":
            assert row["verdict"] == "not-applicable"
            assert f"failed: {fault}" in row["reason"]
            assert row["values"] == [None, None]
        else:
            assert None not in row["values"]
    kept = [
        row["values"]
        for row in document["rows"]
        if row["method"] not in ("ngd",) and not row["variant"]
    ]
    assert kept == [row["values"] for row in shared.document["rows"]]
    forked.until_gone()

    shown = called("runs", "show", document["run"], "--home", home)
    assert f"{document['run']}: failed" in shown.stdout
    assert f"unlearn gaussian/gd[wild] 0.25 s1: {fault}" in shown.stdout
    listed = strict_json(called("runs", "list", "--home", home, "--json").stdout)
    assert {run["run"]: run["state"] for run in listed["runs"]}[document["run"]] == "failed"
    compared = strict_json(called("compare", document["run"], "--home", home, "--json").stdout)
    assert compared["rows"] == document["rows"]
    watched = called("watch", document["run"], "--home", home)
    assert watched.returncode == 3
    assert fault in watched.stderr


def test_a_supervisor_that_cannot_start_is_told(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """Here: its lock is a folder, so it ends with an exception of its own."""
    home = tmp_path / "home"
    run = home / "runs" / shared.run
    run.mkdir(parents=True)
    (run / "supervisor.lock").mkdir()
    done = called("run", shared.preset, "--home", home, "--json")
    assert done.returncode == 3
    assert strict_json(done.stdout)["status"] != "done"
    assert "the supervisor is gone" in done.stderr
    forked.until_gone()
