"""Leases: one holder at a time, and a dead holder never blocks."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import lease as module
from engine.jobs.lease import (
    TTL,
    Identity,
    Lease,
    holder,
    is_alive,
    process_identity,
    sweep_leases,
)
from engine.spec.errors import BadInput
from tests.small_process import in_a_small_process

KEY = "ab" * 32
ROOT = Path(__file__).resolve().parent.parent


def rewrite(leases: Path, **changes: Any) -> None:
    """Makes the lease file say something else, as if another process had written it."""
    path = leases / f"{KEY}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def acquire(leases: Path) -> Lease:
    lease = Lease.acquire(leases, KEY)
    assert lease is not None
    return lease


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()  # until the last that had its end of the pipe is gone


@contextmanager
def forked(act: Callable[[], object]) -> Iterator[int]:
    """The pid of a child that does `act`; it is killed at the end."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


HOLD = """
import os, sys, time
from pathlib import Path
from engine.jobs.lease import Lease
lease = Lease.acquire(Path(sys.argv[1]), sys.argv[2])
if sys.argv[3] == "with-child":
    child = os.fork()
    if child == 0:
        time.sleep(60)
    print(child, flush=True)
print(lease.attempt, flush=True)
time.sleep(60)
"""


def test_one_holder_then_the_next(tmp_path: Path) -> None:
    assert holder(tmp_path, KEY) is None
    with acquire(tmp_path) as lease:
        assert lease.attempt == 1
        assert lease.still_ours()
        assert Lease.acquire(tmp_path, KEY) is None
        found = holder(tmp_path, KEY)
        assert found is not None
        assert found.identity == process_identity()
        assert (found.attempt, found.token) == (1, lease.token)
        assert os.get_inheritable(lease.fileno())
    assert not lease.still_ours()
    lease.release()
    lease.heartbeat()  # a heartbeat that comes late does not bring it back
    assert holder(tmp_path, KEY) is None
    assert acquire(tmp_path).attempt == 2
    with pytest.raises(ValueError, match="released"):
        lease.fileno()


def test_attempt_has_a_floor(tmp_path: Path) -> None:
    for floor, expected in ((5, 5), (2, 6), (6, 7)):
        lease = Lease.acquire(tmp_path, KEY, attempt=floor)
        assert lease is not None
        assert lease.attempt == expected
        lease.release()


@pytest.mark.parametrize("key", ["", "../../x", "AB" * 32, KEY + "\n"])
def test_only_keys_have_leases(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInput):
        Lease.acquire(tmp_path, key)
    with pytest.raises(BadInput):
        holder(tmp_path, key)


def test_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path, KEY, "alone")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        found = holder(tmp_path, KEY)
        assert found is not None
        assert found.pid == process.pid
        assert is_alive(found.identity)
        assert Lease.acquire(tmp_path, KEY) is None
    finally:
        kill(process)
    assert holder(tmp_path, KEY) is None
    assert not is_alive(found.identity)
    assert acquire(tmp_path).attempt == 2


@pytest.mark.fault(
    "a killed worker's child still computes",
    seen="nothing: its stage is held until the child ends",
    happened="nobody else begins while it inherits the lease",
)
def test_child_of_a_killed_holder_keeps_the_lease(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path, KEY, "with-child")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert process.stdout.readline() == "1\n"
        process.kill()
        process.wait()
        assert holder(tmp_path, KEY) is not None
        assert Lease.acquire(tmp_path, KEY) is None
    finally:
        os.kill(child, signal.SIGKILL)
        kill(process)
    assert acquire(tmp_path).attempt == 2


def test_release_frees_even_if_a_child_lives_on(tmp_path: Path) -> None:
    lease = acquire(tmp_path)
    with forked(lambda: time.sleep(60)):
        lease.release()
        assert holder(tmp_path, KEY) is None
        assert acquire(tmp_path).attempt == 2


@pytest.mark.parametrize("first", [True, False])
def test_rival_in_the_narrowest_window_wins_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Between our looking for a file and linking ours; between our open and our flock."""
    if not first:
        acquire(tmp_path).release()
    place: Any
    place, name = (os, "link") if first else (module, "_try_flock")
    real = getattr(place, name)
    rivals: list[Lease] = []

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(place, name, real)
        rivals.append(acquire(tmp_path))
        return real(*arguments)

    monkeypatch.setattr(place, name, late)
    assert Lease.acquire(tmp_path, KEY) is None
    assert len(rivals) == 1
    assert rivals[0].still_ours()


def test_stale_owner_learns_it_and_cannot_disturb(tmp_path: Path) -> None:
    """As after a long pause on another machine: the heartbeat was old, somebody took over."""
    stale = acquire(tmp_path)
    path = tmp_path / f"{KEY}.json"
    # Its flock vanishes, as on a file system that does not carry it across machines.
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    rewrite(tmp_path, host="another-machine", boot_id="another")
    os.utime(path, (time.time() - TTL - 1,) * 2)
    fresh = acquire(tmp_path)
    assert fresh.attempt == 2
    assert not stale.still_ours()
    os.utime(path, (1000, 1000))
    stale.heartbeat()
    assert path.stat().st_mtime == 1000
    stale.release()
    assert fresh.still_ours()


def test_another_machine_lives_by_its_heartbeat(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    path = tmp_path / f"{KEY}.json"
    rewrite(tmp_path, host="another-machine", boot_id="another")
    found = holder(tmp_path, KEY)
    assert found is not None
    assert found.host == "another-machine"
    assert Lease.acquire(tmp_path, KEY) is None
    os.utime(path, (time.time() - TTL - 1,) * 2)
    assert holder(tmp_path, KEY) is None
    assert acquire(tmp_path).attempt == 2


def test_released_elsewhere_is_free_at_once(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    path = tmp_path / f"{KEY}.json"
    left = path.stat().st_mtime
    rewrite(tmp_path, host="another-machine", boot_id="another")
    os.utime(path, (left, left))
    assert holder(tmp_path, KEY) is None
    assert acquire(tmp_path).attempt == 2


@pytest.mark.fault(
    "the machine restarted (another boot id)",
    seen="nothing: what was held before is free",
    happened="the lease of before counts for nothing",
)
def test_reboot_frees_the_lease(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    rewrite(tmp_path, boot_id="before")
    assert holder(tmp_path, KEY) is None
    assert acquire(tmp_path).attempt == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"pid":1e999}', b"null"])
def test_unreadable_lease_blocks_only_for_a_while(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{KEY}.json"
    path.write_bytes(content)
    assert holder(tmp_path, KEY) is None
    assert Lease.acquire(tmp_path, KEY) is None  # may be another machine's: be patient
    os.utime(path, (time.time() - TTL - 1,) * 2)
    assert acquire(tmp_path).still_ours()


@pytest.mark.fault(
    "another process has the pid of a dead one",
    seen="nothing: start time and boot id tell them apart",
    happened="it is not taken for the dead one",
)
def test_identity_tells_recycled_pids_and_zombies_from_the_living() -> None:
    me = process_identity()
    assert is_alive(me)
    assert not is_alive(me._replace(start_time=me.start_time - 1))
    assert not is_alive(me._replace(boot_id="before"))
    assert is_alive(me._replace(host="another-machine", pid=1))  # cannot be known
    assert Identity.parse(me._asdict()) == me
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie
    start = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
    assert not is_alive(me._replace(pid=child, start_time=start))
    os.waitpid(child, 0)


def test_acquirer_waits_for_a_passing_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(tmp_path).release()
    with (tmp_path / f"{KEY}.json").open() as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)

        def pass_on(delay: float) -> None:
            if delay:
                fcntl.flock(probe, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", pass_on)
        assert acquire(tmp_path).attempt == 2


def test_probes_do_not_disturb_the_acquirer(tmp_path: Path) -> None:
    def look() -> None:
        while True:
            holder(tmp_path, KEY)

    with forked(look):
        for _ in range(40):
            acquire(tmp_path).release()


@in_a_small_process
def test_acquire_killed_at_every_line(tmp_path: Path) -> None:
    """Whatever it leaves, the next one gets the lease at once, with a greater attempt."""
    last, number = 0, 0
    killed = True
    while killed:
        number += 1
        child = os.fork()
        if child == 0:
            left = number

            def trace(frame: Any, event: str, _: object) -> Any:
                nonlocal left
                left -= event == "line" and frame.f_code.co_filename.endswith("lease.py")
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace

            try:
                sys.settrace(trace)
                with acquire(tmp_path) as lease:
                    lease.heartbeat()
            finally:
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if number == 1:
            continue  # so that the first creation too is killed once
        with acquire(tmp_path) as lease:
            assert lease.attempt > last
            last = lease.attempt
        if number % 3 == 0:  # the first creation, again and again
            (tmp_path / f"{KEY}.json").unlink()
            last = 0
    assert number > 60
    for path in tmp_path.glob(".*.tmp"):
        os.utime(path, (0, 0))
    assert sweep_leases(tmp_path) > 0
    assert [path.name for path in tmp_path.iterdir()] in ([], [f"{KEY}.json"])


RACE = """
import os, random, sys, time
from pathlib import Path
from engine.jobs.lease import Lease
leases, key, log = Path(sys.argv[1]), sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)
while True:
    lease = Lease.acquire(leases, key)
    if lease is None:
        time.sleep(random.random() * 0.002)
        continue
    os.write(log, f"{lease.attempt} enter\\n".encode())
    time.sleep(random.random() * 0.002)
    assert lease.still_ours()
    os.write(log, f"{lease.attempt} leave\\n".encode())
    lease.release()
"""


def test_race_with_kills_has_one_holder_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    def start() -> subprocess.Popen[str]:
        return python(RACE, tmp_path / "leases", KEY, log)

    chance = random.Random(7)
    racers = [start() for _ in range(6)]
    try:
        for _ in range(10):
            time.sleep(0.1 + 0.1 * chance.random())
            victim = chance.randrange(len(racers))
            assert racers[victim].poll() is None
            kill(racers[victim])
            racers[victim] = start()
    finally:
        for racer in racers:
            kill(racer)
    inside = 0
    entered = []
    for line in log.read_text().splitlines():
        attempt, what = line.split()
        if what == "enter":
            inside = int(attempt)
            entered.append(inside)
        else:
            assert int(attempt) == inside, "two were inside at once"
    assert len(entered) > 20
    assert entered == sorted(set(entered)), "an attempt was given out twice"
