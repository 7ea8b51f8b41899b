"""Several runs at once in one home: they share, and nothing is computed or committed twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from harness import (
    NGD,
    TINY,
    Computed,
    exits,
    finish,
    hashes,
    start,
    strict_json,
    unhealthy,
    until_gone,
)

from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.store import Store


def committed(home: Path) -> Counter[str]:
    return Counter(end["stage"] for end in exits(home) if end["outcome"] == "done")


@pytest.mark.slow  # two runs on one store: faults/test_kills.py, without the command line
def test_the_same_preset_twice_at_once(shared: Computed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("run", shared.preset, "--home", home, "--json", "--seeds", "0")
    both = [finish(process) for process in [start(*words) for _ in range(2)]]
    assert [done.returncode for done in both] == [0, 0], both[0].stderr + both[1].stderr
    rows, others = (strict_json(done.stdout)["rows"] for done in both)
    assert rows == others
    assert [r["values"] for r in rows] == [r["values"][:1] for r in shared.document["rows"]]
    until_gone(home)
    assert hashes(home).items() <= hashes(shared.home).items()
    assert not unhealthy(home)
    assert committed(home) == dict.fromkeys(hashes(home), 1)
    assert len(list((home / "runs").iterdir())) == 1


def test_two_presets_that_share_stages_at_once(shared: Computed, tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other.toml"
    other.write_text(TINY.replace('name = "gd"', 'name = "gd"\nlr = 0.02') + NGD)
    words = ("--home", home, "--json", "--set", "compute.workers=1", "--seeds", "0")
    both = [start("run", preset, *words) for preset in (shared.preset, other)]
    mine, theirs = (finish(process) for process in both)
    assert mine.returncode == theirs.returncode == 0, mine.stderr + theirs.stderr
    rows = strict_json(mine.stdout)["rows"]
    assert [r["values"] for r in rows] == [r["values"][:1] for r in shared.document["rows"]]
    common = [r["values"] for r in strict_json(theirs.stdout)["rows"] if r["budget"] is None]
    assert common == [r["values"] for r in rows if r["budget"] is None]
    until_gone(home)
    assert committed(home) == dict.fromkeys(hashes(home), 1)
    plan = Run(Home(home), strict_json(mine.stdout)["run"]).plan
    found, expected = hashes(home), hashes(shared.home)
    assert [found[key] for key in plan.stages] == [expected[key] for key in plan.stages]
    assert not unhealthy(home)
    assert Store(home / "store").sweep() == 0  # nothing was left lying about
