"""Which devices a run may use, which places they have, and who gets the next one."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import slotlocks
from engine.jobs.devices import Resources, Slot
from engine.jobs.inventory import Gpu, inventory, visible
from engine.jobs.placing import Pool, Room, Seat
from engine.spec.errors import BadInput

GIB = 1 << 30
MIG = [
    Gpu(0, "GPU-aaaa", "A100", 40 * GIB, 40 * GIB),
    Gpu(1, "MIG-1111", "1g.5gb", 5 * GIB, 5 * GIB, instance=0, parent="GPU-bbbb"),
    Gpu(1, "MIG-2222", "1g.5gb", 5 * GIB, 5 * GIB, instance=2, parent="GPU-bbbb"),
    Gpu(2, "GPU-acab", "A100", 40 * GIB, 40 * GIB),
]


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (None, ["0", "1:0", "1:2", "2"]),
        ("", []), (" ", []), ("-1", []), ("NoDevFiles", []),
        ("0", ["0"]), ("2,0", ["2", "0"]), ("0,0", ["0"]),
        ("0,7,2", ["0"]),  # nothing after what is not there
        ("1", ["1:0"]), ("GPU-bb", ["1:0"]),  # of a divided GPU, CUDA shows the first instance
        ("MIG-2222", ["1:2"]), ("MIG-2,MIG-1", ["1:2", "1:0"]), ("MIG-", []),
        ("GPU-aa", ["0"]), ("GPU-a", []), (" GPU-acab , 0", ["2", "0"]),
    ],
)  # fmt: skip
def test_visible_devices_are_a_bound(setting: str | None, shown: list[str]) -> None:
    assert [gpu.label for gpu in visible(MIG, setting)] == shown


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the inventory: devices by UUID with what is to be changed of 16 free GiB."""
    path = tmp_path / "devices.json"
    monkeypatch.setenv("CHELATE_FAKE_DEVICES", str(path))
    monkeypatch.setenv("CHELATE_LOCKS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def set_(**found: dict[str, Any]) -> None:
        path.write_text(json.dumps({"devices": [{"uuid": u, **f} for u, f in found.items()]}))

    set_(A={}, B={})
    return set_


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize(
    ("device", "per_device", "names"),
    [
        ("auto", 1, ["cuda:0", "cuda:1"]), ("cuda", 1, ["cuda:0", "cuda:1"]),
        ("cuda:1", 1, ["cuda:1"]), ("cuda:1,0", 1, ["cuda:1", "cuda:0"]),
        ("cuda:1", 2, ["cuda:1/0", "cuda:1/1"]),
        ("cuda", 2, ["cuda:0/0", "cuda:1/0", "cuda:0/1", "cuda:1/1"]),
        ("cpu", 1, ["cpu:0", "cpu:1", "cpu:2"]),
    ],
)  # fmt: skip
def test_slots(device: str, per_device: int, names: list[str]) -> None:
    resources = Resources(device, workers=3, slots_per_device=per_device)
    slots = resources.slots()
    assert [slot.name for slot in slots] == names
    assert resources.width(slots) == min(3, len(names))


@pytest.mark.usefixtures("devices")
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no GPU 2"):
        Resources("cuda:0,2").slots()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "B")
    assert [slot.gpu for slot in Resources("cuda:0").slots()] == ["B"]
    with pytest.raises(BadInput, match="no GPU 1"):
        Resources("cuda:1").slots()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Resources("auto", workers=1).slots() == [Slot("cpu:0", "cpu")]
    with pytest.raises(BadInput, match="no usable"):
        Resources("cuda").slots()


def test_cpu_slots_share_the_cores(
    devices: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices()
    monkeypatch.setattr("engine.jobs.devices.cores", lambda: 6)
    assert len(Resources("auto").slots()) == 6
    assert len(Resources("cpu", threads=4).slots()) == 1
    assert len(Resources("cpu", threads=8).slots()) == 1


def test_a_worker_sees_one_gpu_and_its_threads() -> None:
    env = Slot("cuda:1", "cuda", "GPU-1").environment(threads=3)
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "3"
    assert Slot("cpu:0", "cpu").environment(1)["CUDA_VISIBLE_DEVICES"] == ""


def test_an_inventory_that_makes_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "[]", '{"devices": [{"uuid": "A", "colour": 1}]}', '{"devices": [1]}'):
        (tmp_path / "fake").write_text(text)
        monkeypatch.setenv("CHELATE_FAKE_DEVICES", str(tmp_path / "fake"))
        with pytest.raises(BadInput, match="not an inventory"):
            inventory()


# --- who gets the next place ---------------------------------------------------------------------


def pool(per_device: int = 1, **options: Any) -> Pool:
    resources = Resources("cuda", slots_per_device=per_device, **{"settle": 0.0} | options)
    return Pool(resources.slots(), resources)


def taken(seats: list[Seat]) -> list[str]:
    return [seat.slot.name for seat in seats]


def fill(pool: Pool) -> list[Seat]:
    seats: list[Seat] = []
    while seat := pool.take(seats):
        seats.append(seat)
    return seats


def test_the_emptiest_device_comes_first_and_strangers_count(
    devices: Callable[..., None],
) -> None:
    devices(A={"free": 8 * GIB}, B={"free": 12 * GIB}, C={"processes": [1]}, D={"free": GIB // 2})
    assert taken(fill(pool())) == ["cuda:1", "cuda:0", "cuda:2"]
    devices(E={"free": 8 * GIB}, F={"free": 3 * GIB})
    asking = pool(min_free_gib=10)
    assert asking.take([]) is None
    assert "3.0 GiB free, less than 10" in asking.reason


@pytest.mark.usefixtures("devices")
def test_places_are_shared_by_all_pools_and_the_smaller_limit_holds() -> None:
    one, other, strict = pool(2), pool(2), pool(1)
    seats = fill(one)
    assert len(seats) == 4
    assert fill(other) == []
    assert "is taken (2 of 2, by" in other.reason
    seats[3].release()
    assert fill(strict) == []  # one place is free, but somebody sits on each device
    assert len(fill(other)) == 1


@pytest.mark.usefixtures("devices")
def test_free_memory_is_not_trusted_until_the_last_worker_has_settled() -> None:
    settling = pool(2, settle=60.0)
    seats = fill(settling)
    assert {seat.slot.gpu for seat in seats} == {"A", "B"}
    assert len(seats) == 2
    assert "only just came" in settling.reason
    seats[0].release()  # an ended worker is nothing to wait for
    assert settling.take(seats[1:]) is not None
    for lock in Path(os.environ["CHELATE_LOCKS"]).glob("*.lock"):
        os.utime(lock, (1, 1))
    assert len(fill(pool(2, settle=60.0))) == 2


def test_more_room_than_where_it_was_too_little(devices: Callable[..., None]) -> None:
    devices(A={"free": 8 * GIB}, B={"free": 4 * GIB})
    here = Room("A", 8 * GIB)
    asking = pool(2)
    seat = asking.take([], here)
    assert seat is not None  # the same device, now that nobody is on it
    assert seat.slot.gpu == "A"
    assert asking.take([seat], here) is None
    devices(A={"free": 8 * GIB}, B={"free": 9 * GIB})
    roomy = asking.take([seat], here)
    assert roomy is not None
    assert roomy.slot.gpu == "B"


@pytest.mark.fault(
    "a device vanishes",
    seen="no device is left: <device> is gone; `chelate devices` shows them",
    happened="the others go on; with none left the run ends and says so",
)
def test_devices_that_vanish(devices: Callable[..., None]) -> None:
    asking = pool()
    devices(B={})
    assert not asking.gone()
    assert taken(fill(asking)) == ["cuda:1"]
    devices()
    assert asking.gone()
    assert asking.take([]) is None
    assert asking.reason == "cuda:0 is gone; cuda:1 is gone"


# --- the files -----------------------------------------------------------------------------------


def test_the_lock_files_are_everybodys_and_say_who(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lock = slotlocks.take(tmp_path, "MIG-GPU-1/2/3", 0, 1)
    finally:
        os.umask(before)
    assert lock is not None
    [path] = tmp_path.iterdir()
    assert path.name == "chelate.MIG-GPU-1_2_3.0.lock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    [held] = slotlocks.taken(tmp_path, "MIG-GPU-1/2/3")
    assert held.pid == os.getpid()
    path.write_text('{"user": "\\u001b[31m' + "x" * 300)  # anybody may write: a hint, no more
    [held] = slotlocks.taken(tmp_path, "MIG-GPU-1/2/3")
    assert replace(held, since=0.0) == slotlocks.Taken(0, "", 0, 0.0)
    assert slotlocks.take(tmp_path, "MIG-GPU-1/2/3", 0, 1) is None
    lock.release()
    assert slotlocks.taken(tmp_path, "MIG-GPU-1/2/3") == []


def test_nothing_but_a_lock_is_written_to(tmp_path: Path) -> None:
    """In a folder for all, a stranger may have put anything where our file should be."""
    victim = tmp_path / "thesis.txt"
    victim.write_text("mine")
    place = tmp_path / "chelate.A.0.lock"
    for plant in (place.symlink_to, place.hardlink_to):
        plant(victim)
        assert slotlocks.take(tmp_path, "A", 0, 1) is None
        assert victim.read_text() == "mine"
        place.unlink()
    place.mkdir()
    assert slotlocks.take(tmp_path, "A", 0, 1) is None
    place.rmdir()
    os.mkfifo(place)
    assert slotlocks.take(tmp_path, "A", 0, 1) is None


def test_a_swept_lock_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed between opening and locking: the next one would lock another file."""
    real = slotlocks.fcntl.flock

    def sweep_first(descriptor: int, mode: int) -> None:
        (tmp_path / "chelate.A.0.lock").unlink()
        real(descriptor, mode)

    monkeypatch.setattr(slotlocks.fcntl, "flock", sweep_first)
    assert slotlocks.take(tmp_path, "A", 0, 1) is None


def test_a_folder_for_locks_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHELATE_LOCKS", str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="must be a folder"):
        slotlocks.folder()
    monkeypatch.delenv("CHELATE_LOCKS")
    assert slotlocks.folder().stat().st_mode & stat.S_ISVTX
