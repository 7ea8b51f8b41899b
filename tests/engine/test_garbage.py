"""gc: nothing that a kept run needs ever goes, whatever happens meanwhile; the rest does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import ROOT, Computed, artifact, environment, hashes, objects, unhealthy

from engine.jobs import runs, trash
from engine.jobs.checkpoints import Checkpoints
from engine.jobs.garbage import Collector
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.jobs.survey import survey
from engine.spec.errors import BadInput


@pytest.fixture
def home(shared: Computed, tmp_path: Path) -> Home:
    return Home(shared.copy(tmp_path))


def unneeded(home: Home, count: int, age: float = 0.0) -> list[str]:
    """Results that no plan names, the first the oldest, a minute between them."""
    keys = [f"{number:064x}" for number in range(1, count + 1)]
    for number, key in enumerate(keys):
        with Store(home.store).begin(key, 1) as work:
            (work.path / "model.safetensors").write_bytes(b"x" * 1000)
            work.commit(kind="train", title=f"old {number}", seconds=1.0, tee=1.0)
        then = time.time() - age - 60 * (count - number)
        os.utime(artifact(home.root, key, "DONE.json"), (then, then))
    return keys


def there(home: Home, keys: list[str]) -> list[bool]:
    return [Store(home.store).has(key) for key in keys]


def test_what_a_kept_run_needs_stays_whatever_its_age(shared: Computed, home: Home) -> None:
    for key in objects(home.root):
        os.utime(artifact(home.root, key, "DONE.json"), (1, 1))
    waste = Collector(home, older=0.0, largest=0).look()
    assert waste.objects == waste.spare == ()
    assert waste.kept == len(objects(home.root))
    Collector(home, older=0.0, largest=0).collect()
    assert hashes(home.root) == hashes(shared.home)
    assert not unhealthy(home.root)


def test_looking_removes_nothing_and_tells_what_collecting_removes(home: Home) -> None:
    keys = unneeded(home, 3)
    collector = Collector(home, older=0.0)
    told = collector.look()
    assert [one.key for one in told.objects] == keys  # the oldest first
    assert all(one.size > 1000 for one in told.objects)
    assert there(home, keys) == [True] * 3
    assert {one.key for one in collector.collect().objects} == set(keys)
    assert there(home, keys) == [False] * 3
    assert list((home.store / "quarantine").iterdir()) == []


def test_checkpoints_stay_as_long_as_a_kept_run_needs_their_stage(home: Home) -> None:
    store = Store(home.store)
    [needed, *_] = store.stored()
    store.discard(needed, "as if it were under way")
    for key in (needed, "f" * 64):
        kept = Checkpoints(store.checkpoints, key)
        kept.save("fit", 3, 1, 1.0, lambda folder: (folder / "state").touch())
    waste = Collector(home).look()
    assert [path.name for path in waste.leftovers] == ["f" * 64]
    Collector(home).collect()
    assert [path.name for path in store.checkpoints.iterdir()] == [needed]


def test_by_age(home: Home) -> None:
    keys = unneeded(home, 3, age=3600)
    waste = Collector(home, older=3600 + 90).collect()
    assert [one.key for one in waste.objects] == keys[:2]
    assert there(home, keys) == [False, False, True]


def test_by_size_the_oldest_go_until_it_fits(home: Home) -> None:
    keys = unneeded(home, 4)
    before = Collector(home).look()
    assert before.objects == ()
    assert len(before.spare) == 4
    each = before.spare[0].size
    waste = Collector(home, largest=before.stays - 2 * each + 10).collect()
    assert [one.key for one in waste.objects] == keys[:2]
    assert waste.stays <= before.stays - 2 * each + 10
    assert there(home, keys) == [False, False, True, True]


def test_with_neither_only_leftovers_go(shared: Computed, home: Home) -> None:
    keys = unneeded(home, 1)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for place in ("store/work", "runs"):
        name = f"{keys[0]}.1.1.x" if place == "store/work" else ".import-x"
        folder = home.root / place / name
        folder.mkdir(parents=True)
        owner = {
            "host": os.uname().nodename,
            "boot_id": "an earlier one",
            "pid": 1,
            "start_time": 1,
        }
        (folder / "owner.json").write_text(json.dumps(owner))
    gone = trash.delete(Run(home, shared.run))
    old = gone.rename(gone.with_name(f"{shared.run}.{int((time.time() - 60) * 1000)}"))
    waste = Collector(home).collect()
    assert {path.name for path in waste.leftovers} == {f"{keys[0]}.1.1.x", ".import-x", old.name}
    assert not any(path.exists() for path in waste.leftovers)
    assert there(home, keys) == [True]


def test_a_deleted_runs_results_stay_as_long_as_it_can_come_back(
    shared: Computed, home: Home
) -> None:
    trashed = trash.delete(Run(home, shared.run))
    assert Collector(home, older=0.0).look().objects == ()
    trash.restore(home, trashed)
    assert Collector(home, older=0.0).look().objects == ()
    trashed = trash.delete(Run(home, shared.run))
    trashed.rename(trashed.with_name(f"{shared.run}.{int((time.time() - 60) * 1000)}"))
    waste = Collector(home, older=0.0).collect()
    assert len(waste.objects) == len(hashes(shared.home))
    assert hashes(home.root) == {}


@pytest.mark.parametrize("content", [None, "", "[]", '{"stages": [1]}', "\x00"])
def test_nothing_goes_while_a_plan_cannot_be_read(
    shared: Computed, home: Home, content: str | None
) -> None:
    keys = unneeded(home, 1)
    plan = Run(home, shared.run).folder / "plan.json"
    plan.unlink()
    if content is not None:
        plan.write_text(content)
    with pytest.raises(BadInput, match=f"run {shared.run}: plan.json .* gc cannot tell"):
        Collector(home, older=0.0).collect()
    assert there(home, keys) == [True]


def test_a_store_that_is_a_link_may_be_others_too(home: Home, tmp_path: Path) -> None:
    home.store.rename(tmp_path / "elsewhere")
    home.store.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a link"):
        Collector(home, older=0.0).look()


def test_strangers_in_the_store_are_left_alone(home: Home) -> None:
    odd = home.store / "objects" / "ab" / "notes"
    odd.mkdir(parents=True, exist_ok=True)
    misplaced = home.store / "objects" / "ab" / ("cd" + "0" * 62)
    misplaced.mkdir()
    Collector(home, older=0.0).collect()
    assert odd.exists()
    assert misplaced.exists()


def test_a_run_that_appears_between_looking_and_removing_is_seen(
    shared: Computed, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan comes when gc has chosen its objects already."""
    run = Run(home, shared.run)
    plan, experiment = run.plan, run.experiment
    trashed = trash.delete(run)
    trashed.rename(home.root / "away")  # no undo
    collector = Collector(home, older=0.0)
    look = collector.look

    def look_and_then() -> object:
        waste = look()
        assert len(waste.objects) == len(plan.stages)
        runs.create(home, "tiny", experiment, plan, "cpu", "x")
        return waste

    monkeypatch.setattr(collector, "look", look_and_then)
    assert collector.collect().objects == ()
    assert hashes(home.root) == hashes(shared.home)


def test_plans_cannot_appear_while_objects_go(
    shared: Computed, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever creates a run in that moment waits, and finds the store as it is afterwards."""
    run = Run(home, shared.run)
    plan, experiment = run.plan, run.experiment
    trash.delete(run).rename(home.root / "away")
    at_it, found = threading.Event(), []

    def create() -> None:
        at_it.wait(20)
        made = runs.create(home, "tiny", experiment, plan, "cpu", "x")
        found.append(len(survey(plan, made.store).missing))

    set_aside = Store.set_aside

    def slowly(store: Store, key: str) -> Path | None:
        at_it.set()
        time.sleep(0.005)
        return set_aside(store, key)

    monkeypatch.setattr(Store, "set_aside", slowly)
    thread = threading.Thread(target=create)
    thread.start()
    waste = Collector(home, older=0.0).collect()
    thread.join(20)
    assert found == [len(plan.stages)]
    assert len(waste.objects) == len(plan.stages)


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.jobs import garbage
from engine.jobs.home import Home
from engine.jobs.store import Store

left = int(sys.argv[2])
def count():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

real = Store.set_aside
def set_aside(store, key):
    count()
    found = real(store, key)
    count()
    return found

Store.set_aside = set_aside
rmtree = garbage.shutil.rmtree
def torn(path, **options):
    count()
    rmtree(path, **options)

garbage.shutil.rmtree = torn
garbage.Collector(Home(Path(sys.argv[1])), older=0.0).collect()
"""


@pytest.mark.parametrize("survives", [0, 1, 2, 5, 6, 8])
def test_killed_midway_it_leaves_whole_objects_and_the_next_one_finishes(
    shared: Computed, home: Home, survives: int
) -> None:
    keys = unneeded(home, 3)
    words = [sys.executable, "-c", KILLED, str(home.root), str(survives)]
    done = subprocess.run(words, env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not unhealthy(home.root)
    needed = Run(home, shared.run).plan.stages
    assert {key: h for key, h in hashes(home.root).items() if key in needed} == hashes(shared.home)
    Collector(home, older=0.0).collect()
    assert there(home, keys) == [False] * 3
    assert list((home.store / "quarantine").iterdir()) == []
    assert hashes(home.root) == hashes(shared.home)
