"""Runs on disk: identity, states, finding; without any process."""

from __future__ import annotations

import fcntl
import json
import os
import tomllib
from pathlib import Path

import pytest
from harness import TINY, Computed, flip_byte, on_folder, save_images

from engine.jobs import runs
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.survey import RunReader, survey
from engine.spec import presets
from engine.spec.errors import BadInput
from engine.spec.keys import digest
from engine.spec.plan import make_plan


def created(home: Path, text: str, name: str = "tiny", title: str = "") -> Run:
    experiment = presets.validate(tomllib.loads(text) | ({"title": title} if title else {}), name)
    plan = make_plan(experiment, "cpu")
    return runs.create(Home(home).create(), name, experiment, plan, "cpu", f"{name}.toml")


def test_the_same_experiment_is_the_same_run(tmp_path: Path) -> None:
    first = created(tmp_path, TINY)
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    assert created(tmp_path, TINY) == first
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    other = created(tmp_path, TINY.replace("seeds = [0, 1]", "seeds = [0]"))
    assert other.id != first.id
    assert first.experiment == presets.validate(tomllib.loads(TINY), "tiny")
    assert list(Run(first.home, first.id).plan.stages) == list(first.plan.stages)
    assert first.facts["origin"] == "tiny.toml"


def test_where_and_how_it_is_computed_is_as_asked_last_and_makes_no_other_run(
    tmp_path: Path,
) -> None:
    """Checkpoints change no result, so how often they are kept is in no key."""
    first = created(tmp_path, TINY)
    assert first.checkpoint_seconds == 60.0
    often = created(tmp_path, TINY + "[compute]\ncheckpoint_seconds = 5\n", title="again")
    assert often == first
    fresh = Run(first.home, first.id)
    assert fresh.checkpoint_seconds == 5.0 and fresh.experiment.compute.checkpoint_seconds == 5.0
    assert fresh.experiment.title == first.experiment.title
    (first.folder / "experiment.toml").write_text("compute = 3")
    assert Run(first.home, first.id).checkpoint_seconds is None
    assert Run(first.home, created(tmp_path, TINY).id).checkpoint_seconds == 60.0


def test_another_margin_is_another_run_under_the_same_keys(tmp_path: Path) -> None:
    first = created(tmp_path, TINY)
    plan = first.plan.to_json()
    # The id of before there were margins, which homes are full of.
    assert first.id == f"tiny-{digest([sorted(first.plan.stages), plan['cells']])[:10]}"
    other = created(tmp_path, TINY + "[verdicts.gaussian]\nmean_score = 0.3\n")
    third = created(tmp_path, TINY + "[verdicts.gaussian]\nmean_score = 0.4\n")
    assert len({first.id, other.id, third.id}) == 3
    assert Run(other.home, other.id).margins == {"gaussian": {"mean_score": 0.3}}
    assert other.plan.to_json() == plan, "and nothing else is"
    assert created(tmp_path, TINY + "[verdicts.gaussian]\nmean_score = 0.3\n") == other
    assert created(tmp_path, TINY + "[verdicts]\ngaussian.mean_score = 0.15\n") == first
    assert created(tmp_path, TINY + "[verdicts.gaussian]\n") == first
    assert Run(first.home, first.id).margins == {}
    assert "verdicts" not in (first.folder / "experiment.toml").read_text()


@pytest.mark.parametrize("text", [None, "not TOML", "verdicts = 3"])
def test_a_run_whose_margins_cannot_be_read_says_so(tmp_path: Path, text: str | None) -> None:
    run = created(tmp_path, TINY)
    path = run.folder / "experiment.toml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(BadInput, match=rf"^run {run.id}: experiment\.toml"):
        _ = run.margins


def test_a_run_whose_data_moved_reads_them_from_the_new_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = save_images(tmp_path / "here")
    first = created(tmp_path / "home", on_folder(TINY, here))
    there = here.rename(tmp_path / "there")
    again = created(tmp_path / "home", on_folder(TINY, there))
    assert again.id == first.id
    [data] = [stage for stage in again.plan.stages.values() if stage.kind == "data"]
    assert data.config["data"]["path"] == str(there)
    assert again.experiment.data.path == str(there)


@pytest.mark.parametrize("name", ["../up", "a b/c", "", "💧", "x" * 300, "-rf", "."])
def test_a_runs_id_is_a_plain_name(tmp_path: Path, name: str) -> None:
    run = created(tmp_path / "home", TINY, name=name)
    assert run.folder.parent == tmp_path / "home" / "runs"
    assert runs.find(run.home, run.id) == run
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_states_come_from_files(tmp_path: Path) -> None:
    run = created(tmp_path, TINY)
    assert run.state() == "queued"
    run.events.touch()
    assert run.state() == "lost"
    with (run.folder / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.state() == "running"
        assert run.state() == "running"
    for outcome in ("done", "failed", "stopped"):
        (run.folder / "session.json").write_text(json.dumps({"outcome": outcome}))
        assert run.state() == outcome
    for nonsense in ("", "[]", '{"outcome": "glorious"}', '{"outcome": []}'):
        (run.folder / "session.json").write_text(nonsense)
        assert run.state() == "lost"


def test_runs_are_found_by_their_start(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    with pytest.raises(BadInput, match="no runs"):
        runs.find(home, "tiny")
    first = created(tmp_path, TINY)
    assert runs.find(home, "ti") == first
    second = created(tmp_path, TINY.replace("epochs = 2", "epochs = 3"))
    with pytest.raises(BadInput, match="ambiguous"):
        runs.find(home, "tiny")
    assert runs.find(home, second.id) == second
    (home.runs / "stray").mkdir()
    (home.runs / "a file").touch()
    os.utime(first.folder, (1, 1))
    assert list(runs.every(home)) == [second, first]


# --- surveys of a store --------------------------------------------------------------------------


def test_a_survey_of_a_healthy_store(shared: Computed) -> None:
    run = runs.find(Home(shared.home), "tiny")
    found = survey(run.plan, run.store)
    assert found.complete
    assert found.ok.keys() == run.plan.stages.keys()
    assert not found.damaged


@pytest.mark.parametrize("quietly", [False, True])
def test_a_survey_finds_damaged_measurements_however_they_came(
    shared: Computed, tmp_path: Path, quietly: bool
) -> None:
    run = Run(Home(shared.copy(tmp_path)), shared.run)
    cell = run.plan.cells[-1]
    flip_byte(run.store.path(cell.key) / "measurements.json", quietly=quietly)
    found = survey(run.plan, run.store)
    assert found.damaged == {cell.key}
    assert [stage.key for stage in found.missing] == [cell.key]


def test_damaged_measurements_count_as_missing(shared: Computed, tmp_path: Path) -> None:
    """Tables are read also while a run is under way, or after it: they must not fall over."""
    run = Run(Home(shared.copy(tmp_path)), shared.run)
    reader = RunReader(run)
    flip_byte(run.store.path(run.plan.cells[-1].key) / "measurements.json", quietly=True)
    (run.store.path(run.plan.cells[-2].key) / "DONE.json").write_text("{}")
    for cell in run.plan.cells[-2:]:
        outcome, reason = reader.outcome(cell.key)
        assert outcome == "missing", reason
    assert reader.outcome(run.plan.cells[0].key) == ("ok", "")
