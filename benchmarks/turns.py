"""Ways of doing the same, timed in turn, so that a machine's moods fall on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way in each round, after one warm-up of all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if round_:
                times[name].append(time.process_time() - began)
    return times


def ratios(what: str, above: list[float], below: list[float]) -> None:
    report(what, [a / b for a, b in zip(above, below, strict=True)])


def report(what: str, values: list[float]) -> None:
    middle = statistics.median(values)
    print(f"{what:42} median {middle:8.3f}   range {min(values):.3f} … {max(values):.3f}")
