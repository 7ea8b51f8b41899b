"""Several supervisors on one machine with two GPUs: never more workers on one than it has places."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from detached import commanded, detached
from harness import (
    TINY,
    called,
    environment,
    hashes,
    processes,
    start,
    strict_json,
    until,
)
from nursery import Nursery

SLOTS = ("--set", "compute.slots_per_device=2", "--set", "compute.settle=0.2")


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """Two GPUs whose workers compute on the CPU."""
    path = tmp_path / "devices.json"
    devices = [{"uuid": f"GPU-{name}", "kind": "cpu"} for name in "ab"]
    path.write_text(json.dumps({"devices": devices}))
    return {"CHELATE_FAKE_DEVICES": str(path), "CHELATE_LOCKS": str(tmp_path)}


def on_devices(tmp_path: Path) -> Counter[str]:
    """Living workers below `tmp_path` by the device they see."""
    seen: Counter[str] = Counter()
    for process in processes(tmp_path, "engine.jobs.worker"):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                seen[process.environ()["CUDA_VISIBLE_DEVICES"]] += 1
        except (psutil.Error, KeyError):
            continue
    return seen


# What a supervisor does with places, without what a worker computes: jobs that sleep and sign a log.
PLACER = """
import os, subprocess, sys, time
from engine.jobs.devices import Resources
from engine.jobs.placing import Pool

log, count = sys.argv[1], int(sys.argv[2])
job = ("import os, sys, time\\n"
       "log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\\n"
       "def sign(sign): os.write(log, f'{time.monotonic()} {sys.argv[2]} {sign}\\\\n'.encode())\\n"
       "sign(1); time.sleep(0.06); sign(-1)")
resources = Resources("cuda", slots_per_device=2, settle=0.0)
pool, running = Pool(resources.slots(), resources), []
while count or running:
    for process, seat in list(running):
        if process.poll() is not None:
            running.remove((process, seat))
            seat.release()
    seat = pool.take([seat for _, seat in running]) if count else None
    if seat is None:
        time.sleep(0.005)
        continue
    count -= 1
    command = [sys.executable, "-S", "-E", "-c", job, log, seat.slot.gpu]
    running.append((subprocess.Popen(command, pass_fds=seat.descriptors), seat))
"""


def test_places_are_never_exceeded_nor_lost_when_a_supervisor_is_killed(
    tmp_path: Path, fake: dict[str, str]
) -> None:
    log = tmp_path / "log"
    log.touch()

    def place(count: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PLACER, str(log), str(count)]
        return subprocess.Popen(command, env=environment(**fake))

    placers = [place(12) for _ in range(3)]
    until(lambda: log.read_text().count("\n") > 20)
    placers[0].kill()
    placers.append(place(12))
    assert [placer.wait(60) for placer in placers] == [-signal.SIGKILL, 0, 0, 0]
    there: Counter[str] = Counter()
    most: Counter[str] = Counter()
    ended = 0
    for line in sorted(log.read_text().splitlines(), key=lambda line: float(line.split()[0])):
        _, device, sign = line.split()
        there[device] += int(sign)
        ended += sign == "-1"
        most |= there
    assert most == {"GPU-a": 2, "GPU-b": 2}  # all places used, and never more
    assert not +there
    assert ended >= 36


@pytest.mark.slow
def test_three_supervisors_one_of_them_killed_and_replaced(
    tmp_path: Path, fake: dict[str, str]
) -> None:
    preset = tmp_path / "tiny.toml"
    preset.write_text(TINY)
    homes = [tmp_path / f"home{n}" for n in range(3)]
    consoles = [start("run", preset, "--home", home, *SLOTS, **fake) for home in homes]
    most: Counter[str] = Counter()
    killed, orphans = False, []
    while any(console.poll() is None for console in consoles):
        seen = on_devices(tmp_path)
        most |= seen
        workers = processes(homes[0], "engine.jobs.worker")
        if not killed and len(workers) > 0 and sum(seen.values()) == 4:
            [supervisor] = processes(homes[0], "engine.jobs.session")
            supervisor.kill()
            killed, orphans = True, workers
            consoles.append(start("run", preset, "--home", homes[0], *SLOTS, **fake))
        time.sleep(0.02)
    assert killed
    assert orphans
    assert most == {"GPU-a": 2, "GPU-b": 2}
    outcomes = [console.wait() for console in consoles]
    assert outcomes[1:] == [0, 0, 0]
    assert hashes(homes[0]) == hashes(homes[1]) == hashes(homes[2])


def test_a_run_waits_for_a_place_and_says_so(
    tmp_path: Path, fake: dict[str, str], forked: Nursery
) -> None:
    from engine.jobs import slotlocks

    def taken() -> list[list[dict[str, Any]]]:
        told = strict_json(called("devices", "--json", **fake).stdout)
        return [device["taken"] for device in told["devices"]]

    preset = tmp_path / "tiny.toml"
    preset.write_text(TINY.split("[[methods]]")[0] + '[[methods]]\nname = "none"\n')
    locks = [slotlocks.take(tmp_path, f"GPU-{name}", 0, 1) for name in "ab"]
    with forked.starts_all(slow=30.0, grace=0.1):
        run = detached(preset, tmp_path / "home", **fake)
    until(lambda: run.events.exists() and "waiting for a device" in run.events.read_text())
    [watching] = forked.processes()
    assert [device[0]["number"] for device in taken()] == [0, 0]
    for lock in locks:
        assert lock is not None
        lock.release()
    [worker] = until(watching.children)
    [[place], []] = until(lambda: any(found := taken()) and found)
    assert place["pid"] == worker.pid  # on the first of the two
    assert "is taken (1 of 1, by" in run.events.read_text()
    commanded("stop", run)
    forked.until_gone()
    assert taken() == [[], []]


def test_devices_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    devices = [{"uuid": f"GPU-{n}", "name": "\x1b[31mA100[bold]"} for n in range(2)]
    path.write_text(json.dumps({"devices": devices, "problems": ["GPU 2: lost"]}))
    env = {"CHELATE_FAKE_DEVICES": str(path), "CHELATE_LOCKS": str(tmp_path), "COLUMNS": "160"}
    done = called("devices", **env, CUDA_VISIBLE_DEVICES="GPU-1")
    assert done.returncode == 0, done.stderr
    assert "\x1b[31m" not in done.stdout
    assert "A100[bold]" in done.stdout
    assert "not ours" in done.stdout
    assert "GPU 2: lost" in done.stdout
    told = strict_json(called("devices", "--json", **env, CUDA_VISIBLE_DEVICES="GPU-1").stdout)
    assert [device["number"] for device in told["devices"]] == [None, 0]
    assert called("devices", "--json").returncode == 0
