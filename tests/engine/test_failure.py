"""A stage that fails: the rest goes on, and the run says what failed and why."""

from __future__ import annotations

from pathlib import Path

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

DIVERGES = '[[methods]]\nname = "gd"\nlabel = "wild"\nlr = 1e300\n'


def test_what_does_not_depend_on_a_failed_stage_goes_on(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    home, before = shared.copy(tmp_path), objects(shared.home)
    preset = tmp_path / "wild.toml"
    preset.write_text(TINY + DIVERGES + NGD)
    done = called("run", preset, "--home", home, "--json")
    assert done.returncode == 3
    assert "failed: unlearn gaussian/gd[wild] 0.25 s0: diverged at step" in done.stderr
    assert "Traceback" not in done.stderr
    document = strict_json(done.stdout)
    assert document["status"] == "failed"
    assert new_kinds(home, before) == {"unlearn": 4, "audit": 8}  # all of ngd
    assert not unhealthy(home)
    for row in document["rows"]:
        if row["variant"] == "wild":
            assert row["verdict"] == "not-applicable"
            assert "failed: diverged at step" in row["reason"]
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
    assert "unlearn gaussian/gd[wild] 0.25 s1: diverged" in shown.stdout
    listed = strict_json(called("runs", "list", "--home", home, "--json").stdout)
    assert {run["run"]: run["state"] for run in listed["runs"]}[document["run"]] == "failed"
    compared = strict_json(called("compare", document["run"], "--home", home, "--json").stdout)
    assert compared["rows"] == document["rows"]
    watched = called("watch", document["run"], "--home", home)
    assert watched.returncode == 3
    assert "diverged" in watched.stderr


DIVERGES_LATE = """
[[methods]]
name = "gd"
label = "late"
lr = 3.0
weight_decay = 1.0
momentum = 0.0
batch_size = 8
"""


def test_what_diverges_late_keeps_its_earlier_budgets(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """Weight decay alone multiplies weights by -2 a step: after 16 they are large, after 33 lost."""
    home = shared.copy(tmp_path)
    preset = tmp_path / "late.toml"
    preset.write_text(TINY + DIVERGES_LATE)
    done = called("run", preset, "--home", home, "--json")
    assert done.returncode == 3
    for seed in (0, 1):
        assert f"failed: unlearn gaussian/gd[late] 0.5 s{seed}: diverged at step" in done.stderr
    rows = [r for r in strict_json(done.stdout)["rows"] if r["variant"] == "late" and r["primary"]]
    for row in rows:
        if row["budget"] == 0.25:
            assert None not in row["values"]
            assert row["verdict"] not in ("not-applicable", "removed")
        else:
            assert row["values"] == [None, None]
            assert row["verdict"] == "not-applicable"
            assert row["reason"].startswith("failed: diverged at step")
    assert {row["budget"] for row in rows} == {0.25, 0.5}
    assert not unhealthy(home)
    forked.until_gone()


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
