"""What a live screen costs: bytes to the terminal, CPU, and the time from a key to its repaint.

    python benchmarks/console/chart.py [--seconds 10] [--size 160x45] [--plain] [--idle] [--gate]

An app in a pseudo-terminal shows three charts of 40,000 points (two growing curves with their
smoothed line, and a z histogram that moves) and a table of 24 rows, all updated five times a
second. Bytes are counted at the terminal's end and are exact; CPU is of the app's process; a key
(j: the cursor of the table) is repainted when its answer has arrived. `--plain` leaves out
SpanApp, for comparison.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
POINTS, ROWS, RATE = 40_000, 24, 5
MOST = 15  # KiB/s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", default="160x45")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--idle", action="store_true", help="no updates: what stillness costs")
    parser.add_argument("--gate", action="store_true", help=f"fail above {MOST} KiB/s")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        screen(plain=options.plain, idle=options.idle)
    else:
        found = measure(options)
        print(json.dumps(found, indent=1))
        if options.gate and found["KiB_per_second"] > MOST:
            raise SystemExit(f"more than {MOST} KiB/s to the terminal")


# --- the terminal's end ---


def measure(options: argparse.Namespace) -> dict[str, float]:
    columns, lines = map(int, options.size.split("x"))
    started = time.perf_counter()
    app, terminal = launch(columns, lines, options)
    try:
        first = drain(terminal, 4.0)
        before, cpu, clock = len(drain(terminal, 0)), cpu_seconds(app.pid), time.perf_counter()
        painted = len(drain(terminal, options.seconds)) + before
        elapsed = time.perf_counter() - clock
        used = cpu_seconds(app.pid) - cpu
        delays = sorted(key_delay(terminal, "j" if n % 2 else "k") for n in range(40))
        memory = int(Path(f"/proc/{app.pid}/statm").read_text().split()[1]) * 4 / 1024
    finally:
        os.killpg(app.pid, signal.SIGKILL)
        app.wait()
    return {
        "seconds": round(elapsed, 2),
        "first_paint_bytes": len(first),
        "KiB_per_second": round(painted / elapsed / 1024, 2),
        "cpu_percent": round(100 * used / elapsed, 1),
        "key_ms_median": round(delays[len(delays) // 2], 1),
        "key_ms_p95": round(delays[int(len(delays) * 0.95)], 1),
        "memory_MB": round(memory, 1),
        "started_s": round(clock - started, 2),
    }


def launch(
    columns: int, lines: int, options: argparse.Namespace
) -> tuple[subprocess.Popen[bytes], int]:
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TEXTUAL_ANIMATIONS": "none"}
    flags = [flag for flag in ("plain", "idle") if getattr(options, flag)]
    app = subprocess.Popen(
        [sys.executable, str(HERE), "--inside", *(f"--{flag}" for flag in flags)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=env,
        start_new_session=True,
    )
    os.close(inner)
    return app, terminal


def drain(terminal: int, seconds: float) -> bytes:
    """Everything that arrives within `seconds`."""
    received, until = [], time.perf_counter() + seconds
    while True:
        left = until - time.perf_counter()
        if not select.select([terminal], [], [], max(0.0, left))[0]:
            return b"".join(received)
        received.append(os.read(terminal, 65536))


def key_delay(terminal: int, key: str) -> float:
    """Milliseconds from a key until a bell: the app rings after it has painted the answer."""
    drain(terminal, 0.07)  # keys fall anywhere between two updates
    started = time.perf_counter()
    os.write(terminal, key.encode())
    while b"\a" not in os.read(terminal, 65536):
        if time.perf_counter() - started > 5:
            raise SystemExit("no answer to a key within 5 s")
    return 1000 * (time.perf_counter() - started)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the app ---


def screen(plain: bool, idle: bool) -> None:
    import numpy as np
    from textual.app import App, ComposeResult
    from textual.containers import Horizontal

    from console.charts import NEUTRAL, Series, bins, gaussian_histogram
    from console.widgets import Cell, Column, Row, SpanApp
    from console.widgets.chart import Chart
    from console.widgets.table import Table

    base: type[App[None]] = App if plain else SpanApp  # type: ignore[type-abstract]
    rng = np.random.default_rng(0)
    steps = np.arange(2.0 * POINTS)
    loss = 2.3 * np.exp(-steps / 20000) + 0.1 + rng.gamma(2, 0.04, len(steps))
    accuracy = 0.95 - 0.85 * np.exp(-steps / 15000) + rng.normal(0, 0.01, len(steps))
    retrain = 2.2 * np.exp(-steps / 18000) + 0.15
    noise = rng.normal(0, 1, 400)

    class Live(base):  # type: ignore[misc, valid-type]
        CSS = "Horizontal { height: 20; } Chart { border: round $primary; } Table { height: 25; }"
        BINDINGS: ClassVar = [("j", "down", ""), ("k", "up", "")]
        ticks = 0

        def compose(self) -> ComposeResult:
            with Horizontal():
                for name in ("loss", "accuracy", "z"):
                    yield Chart(id=name)
            columns = [Column("method", "method", 14), Column("state", "state", 12)]
            columns += [Column(f"c{n}", f"measure {n}", 15, align="right") for n in range(6)]
            yield Table([*columns, Column("left", "time left", 10, align="right")])

        def on_mount(self) -> None:
            for name in ("loss", "accuracy"):
                self.query_one(f"#{name}", Chart).smoothing = 0.99
            self.query_one("#loss", Chart).logy = True
            self.advance()
            self.query_one(Table).focus()
            if not idle:
                self.set_interval(1 / RATE, self.advance)

        def advance(self) -> None:
            self.ticks += 1
            n = POINTS - 500 + 5 * self.ticks
            band = slice(0, 2 * POINTS, 800)
            lines = [
                Series("scrub", steps[:n], loss[:n]),
                Series("retrain", steps[:n:50], retrain[:n:50], NEUTRAL, pattern="dashed"),
                Series(
                    "", steps[band], ink=2, kind="band", lo=retrain[band] * 0.9,
                    hi=retrain[band] * 1.1,
                ),
            ]  # fmt: skip
            self.query_one("#loss", Chart).show(lines)
            self.query_one("#accuracy", Chart).show([Series("scrub", steps[:n], accuracy[:n])])
            scores = noise * 1.05 + 2 * np.exp(-self.ticks / 100)
            mean = float(scores.mean())
            drawn = gaussian_histogram(*bins(scores), mean, (mean - 0.1, mean + 0.1))
            self.query_one("#z", Chart).show(drawn, title=f"z n=400 mean {mean:+.2f}")
            self.query_one(Table).update([self.row(i) for i in range(ROWS)])

        def row(self, i: int) -> Row:
            """Four runs of the 24 are running: they change at every update."""
            at = self.ticks if i < 4 else 0
            left = 9000 - at // RATE - 60 * i
            cells: dict[str, str | Cell] = {
                "method": f"method-{i}",
                "state": Cell("running", "good") if i < 4 else Cell("queued", "muted"),
                "left": f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}",
            }
            cells |= {f"c{k}": f"{loss[5 * at + 997 * i + k]:.4f} ± .01" for k in range(6)}
            return Row(f"{i}", cells)

        def action_down(self) -> None:
            self.query_one(Table).action_move(1)
            self.call_after_refresh(self.bell)

        def action_up(self) -> None:
            self.query_one(Table).action_move(-1)
            self.call_after_refresh(self.bell)

    Live().run()


if __name__ == "__main__":
    main()
