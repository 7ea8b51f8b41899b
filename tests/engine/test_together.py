"""Several runs at once in one home: they share, and nothing is computed or committed twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from detached import detached
from harness import (
    NGD,
    TINY,
    Computed,
    called,
    exits,
    finish,
    hashes,
    start,
    strict_json,
    unhealthy,
    until_gone,
)
from nursery import Nursery

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


def test_two_presets_that_share_stages_at_once(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    home, other = tmp_path / "home", tmp_path / "other.toml"
    other.write_text(TINY.replace('name = "gd"', 'name = "gd"\nlr = 0.02') + NGD)
    with forked.starts_all(slow=0.03):  # so that they meet
        mine, theirs = (
            detached(preset, home, "--seeds", "0", "--set", "compute.workers=1")
            for preset in (shared.preset, other)
        )
    assert mine.supervised()
    assert theirs.supervised()
    forked.until_gone()
    rows, others = (
        strict_json(called("compare", run.id, "--home", home, "--json").stdout)["rows"]
        for run in (mine, theirs)
    )
    assert [r["values"] for r in rows] == [r["values"][:1] for r in shared.document["rows"]]
    common = [r["values"] for r in others if r["budget"] is None]
    assert common == [r["values"] for r in rows if r["budget"] is None]
    assert committed(home) == dict.fromkeys(hashes(home), 1)
    assert mine.state() == theirs.state() == "done"
    found, expected = hashes(home), hashes(shared.home)
    assert [found[key] for key in mine.plan.stages] == [expected[key] for key in mine.plan.stages]
    assert not unhealthy(home)
    assert Store(home / "store").sweep() == 0  # nothing was left lying about
