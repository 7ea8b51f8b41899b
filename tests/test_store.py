"""The store and the home folder: whole or absent, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.home import Home, resolve_home, write_atomic, write_json
from engine.jobs.lease import process_identity
from engine.jobs.records import DONE, parse_record
from engine.jobs.store import Damaged, Store, Work
from engine.spec.errors import BadInput
from tests.small_process import in_a_small_process

KEY = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(work: Work, content: bytes = b"weights") -> Work:
    (work.path / "model.safetensors").write_bytes(content)
    (work.path / "log.json").write_text("{}")
    return work


def commit(store: Store, key: str = KEY, content: bytes = b"weights", **more: Any) -> bool:
    work = fill(store.begin(key, attempt=1), content)
    return work.commit(kind="train", title="train it", seconds=1.5, tee=10.0, **more)


def die_at_line(number: int, act: Callable[[], object]) -> bool:
    """Runs `act` in a fork that SIGKILLs itself at its `number`th line of engine.jobs code.

    False if `act` ended before that.
    """
    child = os.fork()
    if child == 0:
        left = number

        def trace(frame: Any, event: str, _: object) -> Any:
            nonlocal left
            if f"engine{os.sep}jobs" not in frame.f_code.co_filename:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


# --- home -------------------------------------------------------------------------------------


def test_home_is_option_then_environment_then_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHELATE_HOME", str(tmp_path / "env"))
    assert resolve_home(tmp_path / "option") == tmp_path / "option"
    assert resolve_home() == resolve_home("") == tmp_path / "env"
    monkeypatch.setenv("CHELATE_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert resolve_home().name == "chelate"
    assert resolve_home("here").is_absolute()


def test_home_is_private_and_clean(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b").create()
    assert home.create() == home
    for folder in (home.root, home.store, home.runs):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path for path in folder.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("place", ["file", "file/below", "nul\0", "n" * 300, "home"])
def test_home_that_cannot_be_is_refused_with_its_path(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "store").write_text("in the way")
    with pytest.raises(BadInput, match=r"cannot use .*--home") as caught:
        Home(tmp_path / place).create()
    assert str(tmp_path) in str(caught.value)


def test_home_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(BadInput, match="not permitted"):
        Home(tmp_path).create()


def test_write_atomic_killed_at_every_line_leaves_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "same file").hardlink_to(path)
    number = 1
    while die_at_line(number, lambda: write_atomic(path, "new")):
        assert path.read_text() in ("old", "new")
        number += 1
    assert number > 5
    assert path.read_text() == "new"
    assert (tmp_path / "same file").read_text() == "old"  # a reader's open file never changes


def test_write_that_fails_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})

    def disk_full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "x.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []


# --- round trip -------------------------------------------------------------------------------


def test_commit_and_read_back(store: Store) -> None:
    assert store.check(KEY) == "absent"
    assert not store.has(KEY)
    assert store.record(KEY) is None
    assert commit(store, env={"torch": "2"}, config={"lr": 0.1}, inputs={"data": OTHER}, na="why")
    assert store.has(KEY)
    assert store.check(KEY) == store.check(KEY, deep=True) == "ok"
    assert store.open_verified(KEY, "model.safetensors") == b"weights"
    assert store.verify_file(KEY, "log.json").read_text() == "{}"
    record = store.record(KEY)
    assert record is not None
    assert (record.kind, record.seconds, record.tee, record.na) == ("train", 1.5, 10.0, "why")
    assert (record.env, record.config) == ({"torch": "2"}, {"lr": 0.1})
    assert set(record.files) == {"model.safetensors", "log.json"}
    assert list((store.root / "work").iterdir()) == []


def test_what_diverged_is_kept_with_its_step_and_old_records_have_none(store: Store) -> None:
    assert commit(store, na="diverged at step 120: the loss is nan", diverged=120)
    record = store.record(KEY)
    assert record is not None and record.diverged == 120
    told = json.loads((store.path(KEY) / DONE).read_text())
    assert parse_record({k: v for k, v in told.items() if k != "diverged"}).diverged is None
    assert parse_record(told | {"na": None}).diverged is None
    for odd in (-1, 1.5, "120", True, 1 << 70):
        with pytest.raises(ValueError, match="not a step"):
            parse_record(told | {"diverged": odd})


def test_second_commit_loses_and_changes_nothing(store: Store) -> None:
    first, second = store.begin(KEY, 1), store.begin(KEY, 2)
    fields: dict[str, Any] = {"kind": "train", "title": "", "seconds": 0, "tee": 0}
    assert fill(second, b"second").commit(**fields)
    assert not fill(first, b"first").commit(**fields)
    assert store.open_verified(KEY, "model.safetensors") == b"second"
    assert list((store.root / "work").iterdir()) == []


def test_lost_lease_forbids_the_commit(store: Store) -> None:
    assert not commit(store, fence=lambda: False)
    assert store.check(KEY) == "absent"


def test_abandoned_work_is_gone(store: Store) -> None:
    with store.begin(KEY, 1) as work:
        fill(work)
    assert not work.path.exists()


# --- hostile or damaged content ---------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "../" * 21 + "x", KEY[:-1], KEY.upper(), KEY + "\n", "/"])
def test_only_keys_are_keys(store: Store, key: str) -> None:
    for use in (store.path, store.has, store.record, store.check):
        with pytest.raises(BadInput):
            use(key)
    with pytest.raises(BadInput):
        store.begin(key, 1)
    with pytest.raises(BadInput):
        store.discard(key, "")


@pytest.mark.parametrize("name", [".hidden", "a b", "DONE.json", "-rf", "a\nb"])
def test_bad_artifact_names_are_refused(store: Store, name: str) -> None:
    work = store.begin(KEY, 1)
    (work.path / name).write_text("x")
    with pytest.raises(ValueError, match="artifact name"):
        work.commit(kind="", title="", seconds=0, tee=0)
    assert store.check(KEY) == "absent"


def test_folders_and_links_are_no_artifacts(store: Store) -> None:
    for make in (Path.mkdir, partial(Path.symlink_to, target="/etc/hostname"), os.mkfifo):
        with store.begin(KEY, 1) as work:
            make(work.path / "thing")  # type: ignore[operator]
            with pytest.raises(ValueError, match="plain file"):
                work.commit(kind="", title="", seconds=0, tee=0)


def test_every_kind_of_damage_is_seen_and_healed(store: Store) -> None:
    path = store.path(KEY) / "model.safetensors"

    def flip_a_bit() -> None:
        path.write_bytes(b"weightt")

    def swap_for_link() -> None:
        path.rename(store.root / "elsewhere")
        path.symlink_to(store.root / "elsewhere")

    def swap_for_fifo() -> None:
        path.unlink()
        os.mkfifo(path)

    def remove_file() -> None:
        path.unlink()

    for harm in (flip_a_bit, swap_for_link, swap_for_fifo, remove_file):
        assert commit(store)
        harm()
        assert store.check(KEY) == "damaged", harm
        with pytest.raises(Damaged):
            store.open_verified(KEY, path.name)
        with pytest.raises(Damaged):
            store.verify_file(KEY, path.name)
        assert store.discard(KEY, harm.__name__)
        assert store.check(KEY) == "absent"
    assert not store.discard(KEY, "again")
    log = (store.root / "quarantine" / "discarded.jsonl").read_text().splitlines()
    assert json.loads(log[0])["reason"] == "flip_a_bit"
    assert commit(store)
    assert store.check(KEY, deep=True) == "ok"


def test_damage_that_keeps_size_and_time_needs_the_deep_check(store: Store) -> None:
    commit(store)
    path = store.path(KEY) / "model.safetensors"
    times = path.stat()
    path.write_bytes(b"weightt")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.check(KEY) == "ok"  # the price of speed
    assert store.check(KEY, deep=True) == "damaged"
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.check(KEY) == "damaged"
    with pytest.raises(Damaged):
        store.verify_file(KEY, path.name)  # which is why every use checks the hash


def test_unreadable_record_is_damage_not_a_traceback(store: Store) -> None:
    commit(store)
    done = store.path(KEY) / "DONE.json"
    good = json.loads(done.read_text())
    climbing = good | {"files": {"../../../../secret": good["files"]["log.json"]}}
    without = {name: value for name, value in good.items() if name != "files"}
    bad: Any
    for bad in (climbing, without, good | {"key": OTHER}, good | {"files": []}, [], None, 3):
        done.write_text(json.dumps(bad))
        assert store.record(KEY) is None, bad
        assert store.check(KEY) == "damaged"
    for garbage in (b"", b"\xff\x00", b"{", b"[" * 100_000, b'{"files":{},"created":1e999}'):
        done.write_bytes(garbage)
        assert store.record(KEY) is None, garbage[:20]
    done.write_text(json.dumps(good | {"v": 9, "novelty": [1], "env": {"x": 1}}))
    assert store.check(KEY) == "ok"  # later versions may add, not change
    done.unlink()
    assert store.check(KEY) == "damaged"


def test_copied_store_is_still_ok(store: Store, tmp_path: Path) -> None:
    commit(store)
    shutil.copytree(store.root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert Store(tmp_path / "copy").check(KEY) == "ok"


# --- crashes ----------------------------------------------------------------------------------


@in_a_small_process
def test_commit_killed_at_every_line_is_whole_or_absent(store: Store, tmp_path: Path) -> None:
    """And what was killed is swept, and the same key can be committed afterwards."""
    (store.root / "objects").mkdir(parents=True)
    number, whole = 1, 0
    while die_at_line(number, partial(commit, store, content=b"%d" % number)):
        state = store.check(KEY, deep=True)
        assert state in ("ok", "absent")
        if state == "ok":
            assert store.open_verified(KEY, "model.safetensors") == b"%d" % number
            assert not commit(store, content=b"late")
            shutil.rmtree(store.path(KEY))
            whole += 1
        number += 1
    assert store.open_verified(KEY, "model.safetensors") == b"%d" % number
    assert number > 80
    assert whole > 3
    store.sweep()
    old = time.time() - 2 * 3600  # those killed before they had named an owner
    for path in (store.root / "work").iterdir():
        assert not (path / "owner.json").exists()
        os.utime(path, (old, old))
    store.sweep()
    assert list((store.root / "work").iterdir()) == []


@in_a_small_process
def test_discard_killed_at_every_line_is_whole_or_absent(store: Store, tmp_path: Path) -> None:
    commit(store)
    number = 1
    while die_at_line(number, lambda: store.discard(KEY, "test")):
        if store.check(KEY, deep=True) != "ok":
            assert store.check(KEY) == "absent"
            commit(store)
        number += 1
    assert store.check(KEY) == "absent"


def test_many_committers_one_result(store: Store) -> None:
    """Without any lease: the rename alone decides."""
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 10 + commit(store, content=b"%d" % number)
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [10] * 7 + [11]
    winner = codes.index(11)
    assert store.open_verified(KEY, "model.safetensors") == b"%d" % winner
    assert list((store.root / "work").iterdir()) == []


def test_sweep_spares_the_living(store: Store) -> None:
    mine = fill(store.begin(KEY, 1))
    here = store.begin(OTHER, 1)
    owner = here.path.parent / "owner.json"
    elsewhere = process_identity()._replace(host="another-machine", boot_id="another")
    write_json(owner, {"v": 1, **elsewhere._asdict()})
    assert store.sweep() == 0
    long_ago = time.time() - 2 * 3600
    os.utime(here.path.parent, (long_ago, long_ago))
    assert store.sweep() == 1  # another machine's, old, and nobody holds its lease
    write_json(mine.path.parent / "owner.json", process_identity()._replace(start_time=1)._asdict())
    assert store.sweep() == 1  # our pid, but another process
    assert not mine.path.exists()
