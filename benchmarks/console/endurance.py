"""What the console lives through on a pseudo-terminal: a terminal that nobody reads for a minute,
a storm of resizes, a hang-up; and whether it is back where it was.

    python benchmarks/console/endurance.py [--frozen 60]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "console"))
from homes import WrittenRun, running_run
from shell import flood
from terminal import Terminal, console

from console import state

SIZES = ((40, 10), (250, 80))
STORM = 200  # resizes


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def opened(home: Path) -> Terminal:
    terminal = Terminal(*console(home), size=(160, 45))
    terminal.until("toy-1")
    terminal.send("2")
    terminal.until("2 Live")
    return terminal


def frozen(terminal: Terminal, run: WrittenRun, seconds: float) -> None:
    """Nobody reads while events go on arriving."""
    process, over = psutil.Process(terminal.pid), threading.Event()
    thread = threading.Thread(target=flood, args=(run, over))
    thread.start()
    before = used(process)
    time.sleep(seconds)
    share = (used(process) - before) / seconds
    alive = process.is_running()
    terminal.send("1")
    since = time.monotonic()
    terminal.until("1 Runs", 60)
    over.set()
    thread.join()
    print(f"frozen {seconds:g} s: alive {alive}, {share:.1%} of a core, "
          f"{process.memory_info().rss >> 20} MiB, back {time.monotonic() - since:.2f} s after "
          "somebody read again")  # fmt: skip
    terminal.send("2")
    terminal.until("2 Live")


def storm(terminal: Terminal) -> None:
    process, chance = psutil.Process(terminal.pid), random.Random(0)
    before, began, most = used(process), time.monotonic(), 0
    for _ in range(STORM):
        terminal.resize(*(chance.randint(low, high) for low, high in zip(*SIZES, strict=True)))
        terminal.read(0.03)
        most = max(most, process.memory_info().rss >> 20)
    went = time.monotonic() - began
    terminal.resize(160, 45)
    since = time.monotonic()
    terminal.read(0.3)
    terminal.send("1")
    terminal.until("1 Runs", 60)
    print(f"{STORM} resizes in {went:.1f} s: alive, {used(process) - before:.1f} s of CPU, at most "
          f"{most} MiB, answers a key {time.monotonic() - since:.2f} s after the last")  # fmt: skip
    terminal.read(1.0)
    idle = terminal.bytes
    terminal.read(3.0)
    print(f"idle afterwards: {(terminal.bytes - idle) / 3:.0f} B/s")


def hung_up(home: Path) -> None:
    terminal = opened(home)
    terminal.send("y")  # a logarithmic axis, to be remembered
    terminal.read(2.0)
    os.kill(terminal.pid, signal.SIGHUP)
    ended = terminal.ended(5.0)
    os.close(terminal.fd)
    told = state.load(home)
    with Terminal(*console(home), size=(160, 45)) as again:
        again.until("2 Live")
        again.until("gd")
        print(f"hung up: ended {ended}, remembered {told['mode']}, run {told['run']}, "
              f"log y {told['screens']['live']['chart'].get('logy')}; "
              f"there again after {time.monotonic() - again.began:.2f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frozen", type=float, default=60.0)
    seconds = parser.parse_args().frozen
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        run = running_run(Path(folder))
        with opened(Path(folder)) as terminal:
            frozen(terminal, run, seconds)
            storm(terminal)
        hung_up(Path(folder))
        run.release()


if __name__ == "__main__":
    main()
