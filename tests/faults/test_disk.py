"""A disk that is full, and files that lost their ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import until
from nursery import Nursery
from trials import LONG, SMALL, Trial, create

from engine.jobs.checkpoints import Checkpoints
from engine.jobs.events import EventWriter

Note = Callable[[str, object], None]
SPACE = 24 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of SPACE bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all room but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
    return ballast


def test_the_fake_is_a_real_full_disk(disk: Path) -> None:
    fill(disk)
    with pytest.raises(OSError, match="No space"):
        (disk / "x").write_bytes(bytes(4096))


@pytest.fixture
def crowded(nursery: Nursery, undisturbed: Callable[[str], object], disk: Path) -> Iterator[Trial]:
    yield Trial(nursery, create(disk / "home", SMALL, "small"), undisturbed("small"))
    nursery.clear()


@pytest.mark.fault(
    "disk full when a stage writes its result", seen="failed: <stage>: … No space left on device"
)
def test_no_room_for_a_result(crowded: Trial, disk: Path, record_property: Note) -> None:
    ballast = fill(disk, leave=200 << 10)  # the digits do not fit
    crowded.start(1)
    assert crowded.await_end() == "failed"
    reasons = [told["reason"] for told in crowded.run.exits().values()]
    assert "No space left on device" in "\n".join(reasons), reasons
    assert not any("\n" in reason for reason in reasons)
    ballast.unlink()
    crowded.complete()
    record_property("happened", "the stage failed and said why; with room again the run went on")


@pytest.mark.fault(
    "disk full for logs, events and leases while a run is under way",
    seen="failed: <stage>: cannot begin: No space left on device, or nothing where none is left for it",
)
def test_no_room_for_anything(crowded: Trial, disk: Path, record_property: Note) -> None:
    crowded.start(1, slow=0.2)
    until(lambda: crowded.under_way("split"))
    ballast = fill(disk)
    crowded.await_end()  # whatever there was room to write
    assert crowded.run.state() in ("failed", "lost")
    ballast.unlink()
    crowded.complete()
    record_property("happened", "the run ended; what was committed stayed whole; run again went on")


@pytest.mark.fault("disk full for events alone", seen="nothing: lines are lost, the stage is not")
def test_no_room_for_events(disk: Path, record_property: Note) -> None:
    with EventWriter(disk / "events.jsonl", "", 1, rate=1e9) as writer:
        writer.emit("phase", name="before")
        ballast = fill(disk)
        for number in range(500):
            writer.emit("phase", name="x" * 400, number=number)
        lost = writer.dropped
        ballast.unlink()
        writer.emit("phase", name="after")
    assert lost > 400
    assert writer.dropped == lost
    record_property("happened", f"{lost} of 502 lines dropped, none torn into another")


@pytest.mark.fault(
    "disk full for a checkpoint", seen="warning: no checkpoint at step <n>: No space left on device"
)
def test_no_room_for_a_checkpoint(
    nursery: Nursery, undisturbed: Callable[[str], object], disk: Path, record_property: Note
) -> None:
    trial = Trial(nursery, create(disk / "home", LONG, "long"), undisturbed("long"))
    # What the result takes is kept free; the checkpoints lie elsewhere, and there is no room.
    small = disk.parent / "small"
    small.mkdir()
    checkpoints = trial.run.home.store / "checkpoints"
    checkpoints.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(checkpoints)], check=True)
    try:
        trial.start(1, checkpoints=True)
        assert trial.await_end() == "done", trial.said()
    finally:
        nursery.clear()
        subprocess.run(["umount", "-l", str(checkpoints)], check=True)
    warnings = [
        line for path in trial.run.folder.glob("attempts/*/events.jsonl")
        for line in path.read_text().splitlines() if "no checkpoint at step" in line
    ]  # fmt: skip
    assert warnings
    assert "No space left on device" in warnings[0]
    trial.as_if_undisturbed()
    record_property("happened", "the training went on without")


@pytest.mark.fault(
    "the newest checkpoint is truncated",
    seen="warning: a checkpoint is damaged; goes on from the one before",
)
def test_a_truncated_checkpoint(long_trial: Trial, record_property: Note) -> None:
    [key] = [s.key for s in long_trial.run.plan.stages.values() if s.kind == "train"]
    kept = Checkpoints(long_trial.run.home.store / "checkpoints", key)
    long_trial.start(1)

    def two() -> bool:
        loops = {path.name.partition(".")[0] for path in kept.folder.glob("[a-z]*")}
        return any(len(kept.of(loop)) > 1 for loop in loops)

    until(two)
    for process in [long_trial.supervisor, *long_trial.workers()]:
        process.kill()
    until(lambda: long_trial.run.state() == "lost")
    time.sleep(0.05)
    newest = max(kept.folder.glob("[a-z]*"), key=lambda path: path.name.split(".")[1])
    for path in newest.iterdir():
        if path.suffix == ".safetensors":
            os.truncate(path, path.stat().st_size // 2)
    long_trial.complete()
    told = "".join(p.read_text() for p in long_trial.run.folder.glob("attempts/*/events.jsonl"))
    assert "checkpoint" in told
    assert long_trial.run.store.record(key).attempt == 2
    record_property(
        "happened", "the next attempt went on from the one before it, to the same bytes"
    )
