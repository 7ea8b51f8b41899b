"""Checkpoints on the disk: whole or absent, the newest two, never another stage's, never in the way."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.jobs import checkpoints
from engine.jobs.checkpoints import MANIFEST, CannotResume, Checkpoints, Clock, Keeper
from engine.jobs.events import EventTail, EventWriter
from engine.jobs.store import Store
from engine.spec.errors import BadInput

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", KEY)


def writing(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "state").write_text(text)
        (folder / "state.json").write_text(json.dumps(text))

    return write


def save(kept: Checkpoints, step: int, loop: str = "fit", attempt: int = 1) -> None:
    kept.save(loop, step, attempt, float(step), writing(f"{loop} {step}"))


class Attempt:
    """A keeper with its events."""

    def __init__(self, kept: Checkpoints, folder: Path, every: float = 60.0, number: int = 2):
        self.path = folder / f"events.{number}.jsonl"
        self.clock = Clock()
        self.events = EventWriter(self.path, KEY, number)
        self.keeper = Keeper(
            kept, number, self.events, self.clock, every,
            elsewhere=lambda error: isinstance(error, MemoryError),
        )  # fmt: skip

    def told(self, kind: str) -> list[dict[str, object]]:
        return [event["data"] for event in EventTail(self.path).read() if event["kind"] == kind]

    def resume(self, loop: str = "fit") -> tuple[int | None, str]:
        """The step gone on from, and what was read there."""
        read: list[str] = []
        step = self.keeper.resume(loop, lambda folder: read.append((folder / "state").read_text()))
        return step, "".join(read)


@pytest.fixture
def attempt(kept: Checkpoints, tmp_path: Path) -> Attempt:
    return Attempt(kept, tmp_path)


def test_the_newest_two_of_each_loop_stay(kept: Checkpoints) -> None:
    for step in (9, 10, 100):
        save(kept, step)
    save(kept, 3, loop="ascend")
    assert [found.step for found in kept.of("fit")] == [100, 10]
    assert [found.step for found in kept.of("ascend")] == [3]
    assert sorted(path.name for path in kept.folder.iterdir()) == [
        "ascend.000000003.1", "fit.000000010.1", "fit.000000100.1",
    ]  # fmt: skip
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    kept.clear()
    assert not kept.folder.exists()


def test_an_attempt_goes_on_from_the_newest(kept: Checkpoints, attempt: Attempt) -> None:
    assert attempt.resume() == (None, "")
    save(kept, 10)
    save(kept, 20, attempt=7)
    assert attempt.resume() == (20, "fit 20")
    assert attempt.resume("ascend") == (None, "")
    assert attempt.told("checkpoint") == [{"loop": "fit", "step": 20, "resumed": 7}]
    assert 20 <= attempt.clock.whole() < 21  # seconds of the whole trajectory


def break_file(path: Path) -> None:
    content = (path / "state").read_bytes()
    (path / "state").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(path: Path) -> None:
    (path / "state").write_bytes(b"")


def lose_file(path: Path) -> None:
    (path / "state.json").unlink()


def lose_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def tear_manifest(path: Path) -> None:
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:30])


def change_manifest(path: Path) -> None:
    told = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(told | {"seconds": 1e9}))


def link_file(path: Path) -> None:
    (path / "state").rename(path / "elsewhere")
    (path / "state").symlink_to(path / "elsewhere")


@pytest.mark.parametrize(
    "damage",
    [break_file, truncate, lose_file, lose_manifest, tear_manifest, change_manifest, link_file],
)
def test_a_damaged_one_is_left_out_for_the_one_before(
    kept: Checkpoints, attempt: Attempt, damage: Callable[[Path], None]
) -> None:
    save(kept, 10)
    save(kept, 20)
    damage(kept.of("fit")[0].path)
    assert attempt.resume() == (10, "fit 10")
    [warning] = attempt.told("warning")
    assert "step 20 is damaged" in str(warning["text"])
    assert [found.step for found in kept.of("fit")] == [10]
    damage(kept.of("fit")[0].path)
    assert attempt.resume() == (None, "")  # to the start


def test_another_stages_is_never_taken(kept: Checkpoints, tmp_path: Path) -> None:
    save(kept, 10)
    other = Checkpoints(tmp_path / "checkpoints", OTHER)
    other.folder.mkdir()
    mine = kept.of("fit")[0].path
    mine.rename(other.folder / mine.name)
    assert Attempt(other, tmp_path).resume() == (None, "")


def test_a_renamed_one_is_not_believed(kept: Checkpoints, attempt: Attempt) -> None:
    save(kept, 10)
    mine = kept.of("fit")[0].path
    mine.rename(mine.with_name("fit.000000099.1"))
    assert attempt.resume() == (None, "")


def test_one_that_cannot_be_loaded_is_gone_before_the_stage_begins_anew(
    kept: Checkpoints, attempt: Attempt
) -> None:
    save(kept, 10)
    save(kept, 20)

    def load(folder: Path) -> None:
        raise KeyError("shape")

    for step in (20, 10):
        with pytest.raises(CannotResume, match=f"step {step} cannot be loaded.*KeyError"):
            attempt.keeper.resume("fit", load)
    assert attempt.keeper.resume("fit", load) is None


def test_memory_that_is_short_is_no_fault_of_the_checkpoint(
    kept: Checkpoints, attempt: Attempt
) -> None:
    save(kept, 10)

    def load(folder: Path) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        attempt.keeper.resume("fit", load)
    assert attempt.resume() == (10, "fit 10")


def test_one_that_kills_whoever_loads_it_is_given_up(kept: Checkpoints, tmp_path: Path) -> None:
    """No crash loop: the process that dies while it loads leaves a mark."""
    save(kept, 10)
    save(kept, 20)
    for number in (2, 3):
        child = os.fork()
        if not child:
            Attempt(kept, tmp_path, number=number).keeper.resume("fit", lambda _: os._exit(1))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 1 << 8
    attempt = Attempt(kept, tmp_path, number=4)
    assert attempt.resume() == (10, "fit 10")
    assert "killed 2 attempts" in str(attempt.told("warning"))


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(
    kept: Checkpoints, attempt: Attempt
) -> None:
    save(kept, 10)

    def write(folder: Path) -> None:
        (folder / "state").write_text("half of")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    attempt.keeper.keep("fit", 20, write)
    assert attempt.told("warning") == [
        {"text": "no checkpoint at step 20: No space left on device"}
    ]
    assert attempt.told("checkpoint") == []
    assert [path.name for path in kept.folder.iterdir()] == ["fit.000000010.1"]
    assert attempt.resume() == (10, "fit 10")


def test_when_it_is_time(
    kept: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    keeper = Attempt(kept, tmp_path, every=60.0).keeper

    def after(seconds: float, stopping: bool = False) -> bool:
        now[0] += seconds
        return keeper.due(stopping)

    def slow(folder: Path) -> None:
        now[0] += 2.0

    assert not after(59)
    assert after(2)
    keeper.keep("fit", 1, slow)
    assert not after(199)  # two seconds are a hundredth of two hundred
    assert after(2)
    keeper.keep("fit", 2, writing("quick"))
    assert not after(4, stopping=True)  # less than is worth it
    assert after(2, stopping=True) and not keeper.due(stopping=False)


def test_sweeping_takes_what_nobody_needs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for key in (KEY, OTHER):
        save(Checkpoints(store.checkpoints, key), 10)
    with store.begin(KEY, 1) as work:
        assert work.commit(kind="train", title="t", seconds=1.0, tee=0.0)
    draft = store.checkpoints / OTHER / ".tmp.0123"
    draft.mkdir()
    (store.checkpoints / "notes").mkdir()
    assert store.sweep() == 1  # a draft may be under way
    assert sorted(path.name for path in store.checkpoints.iterdir()) == [OTHER, "notes"]
    long_ago = time.time() - 2 * checkpoints.UNFINISHED
    os.utime(draft, (long_ago, long_ago))
    assert store.sweep() == 1
    assert not draft.exists()
    assert Checkpoints(store.checkpoints, OTHER).of("fit")
    assert [key for key, _ in checkpoints.stages_with_checkpoints(store.checkpoints)] == [OTHER]


def test_they_are_no_results(kept: Checkpoints, tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(Checkpoints(store.checkpoints, KEY), 10)
    assert not store.has(KEY) and store.record(KEY) is None and store.check(KEY) == "absent"


@pytest.mark.parametrize("loop", ["", "../x", "a/b", "fit.1", "X"])
def test_names_that_leave_the_folder_are_refused(kept: Checkpoints, loop: str) -> None:
    with pytest.raises(ValueError, match="name of a loop"):
        save(kept, 1, loop=loop)
    with pytest.raises(BadInput):
        Checkpoints(kept.folder, "../" + KEY)
