"""What the console costs, on a pseudo-terminal: start, memory, idle bytes, keys under a flood.

    python benchmarks/console/shell.py

Bytes are exact; times depend on the machine and on what else it does.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "console"))
from homes import WrittenRun, running_run
from terminal import Terminal, console

RATE = 5_000  # events a second
MANY = 5_000  # runs


def flood(run: WrittenRun, over: threading.Event) -> None:
    """Metrics of the stage under way, as fast as RATE."""
    key = run.key("gd")
    path = run.folder / "attempts" / f"{key[:16]}.1" / "events.jsonl"
    began, number = time.monotonic(), 0
    with path.open("ab", buffering=0) as file:
        while not over.wait(0.02):
            lines = []
            while number < (time.monotonic() - began) * RATE:
                number += 1
                data = {"name": "loss", "step": 50 + number, "value": 1 / number}
                event = {"v": 1, "seq": number, "t": time.time(), "stage": key, "attempt": 1,
                         "kind": "metric", "data": data}  # fmt: skip
                lines.append(json.dumps(event) + "\n")
            file.write("".join(lines).encode())


def start(home: Path) -> None:
    paints, lists = [], []
    for _ in range(5):
        (home / "console.json").unlink(missing_ok=True)
        with Terminal(*console(home)) as terminal:
            terminal.until("quit")
            paints.append(time.monotonic() - terminal.began)
            terminal.until("toy-1")
            lists.append(time.monotonic() - terminal.began)
            terminal.read(1.0)
            memory = psutil.Process(terminal.pid).memory_info().rss >> 20
            before = terminal.bytes
            terminal.read(5.0)
            idle = (terminal.bytes - before) / 5
    print(f"first paint {statistics.median(paints):.2f} s, runs {statistics.median(lists):.2f} s, "
          f"{memory} MiB, idle {idle:.0f} B/s")  # fmt: skip


def under_flood(home: Path, run: WrittenRun) -> None:
    over = threading.Event()
    thread = threading.Thread(target=flood, args=(run, over))
    thread.start()
    with Terminal(*console(home), size=(160, 45), env={"SSH_TTY": "x"}) as terminal:
        terminal.until("toy-1")
        terminal.send("2")
        terminal.until("gd")
        terminal.read(3.0)
        process = psutil.Process(terminal.pid)
        times, before = process.cpu_times(), terminal.bytes
        terminal.read(5.0)
        now = process.cpu_times()
        share = (now.user + now.system - times.user - times.system) / 5
        rate = (terminal.bytes - before) / 5 / 1024
        print(f"live at 160x45, 5 Hz, {RATE} events/s: {rate:.1f} KiB/s, {share:.0%} of a core, "
              f"{process.memory_info().rss >> 20} MiB")  # fmt: skip
        waits = []
        for _ in range(40):
            terminal.read(0.05)
            was, began = terminal.screen.display[3:8], time.monotonic()
            terminal.send("y")
            while terminal.screen.display[3:8] == was:
                terminal.read(0.004)
            waits.append((time.monotonic() - began) * 1000)
        waits.sort()
        print(f"key to repaint: median {waits[20]:.0f} ms, p95 {waits[37]:.0f} ms")
    over.set()
    thread.join()


def many(home: Path) -> None:
    for number in range(MANY):
        run = WrittenRun(home, f"run-{number:05}", created=1.7e9 + number, planned=False)
        run.event("start", run=run.id, stages=13, slots=1, cached=0, todo=13)
        run.ended("done")
    with Terminal(*console(home), size=(140, 40)) as terminal:
        terminal.until(f"done {MANY}")
        print(f"{MANY} runs listed after {time.monotonic() - terminal.began:.2f} s")
        terminal.until("run-04999")


def main() -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        run = running_run(Path(folder))
        start(Path(folder))
        under_flood(Path(folder), run)
        run.release()
    with tempfile.TemporaryDirectory() as folder:
        many(Path(folder))


if __name__ == "__main__":
    main()
