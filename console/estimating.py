"""Estimates of memory and time in words, with the assumptions they rest on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from engine.spec.estimate import PACE
from engine.spec.planned import Plan

LONG = 86400  # seconds; from here on a CPU's time is set beside a GPU's


def estimated(plan: Plan, missing: Collection[str], device: str, width: int) -> list[str]:
    """Memory, disk and time that the stages to do (`missing`, keys) would take, a sentence each;
    [] if nobody can tell."""
    if not plan.estimates:
        return []
    largest = max(plan.estimates, key=lambda found: found.bytes)
    parts = ", ".join(f"{name} {size(count)}" for name, count in largest.memory.items())
    several = " at most" if len(plan.estimates) > 1 else ""
    told = [
        f"Memory{several}: about {size(largest.bytes)} a worker for {_weights(largest.parameters)} "
        f"weights ({parts}); a method that keeps a second model needs more."
    ]
    seconds = {kind: _total(plan, missing, kind)["seconds"] for kind in ("cpu", "cuda")}
    if not seconds[device]:
        return told
    told.append(f"Disk: about {size(_total(plan, missing, device)['disk'])} for their models.")
    rates = sorted({PACE[found.precision] for found in plan.estimates})
    gpu = " or ".join(map(_pace, rates))
    paces = {
        "cpu": f"{width} × cpu at {_pace(PACE['cpu'])} a thread",
        "cuda": f"{width} × cuda at {gpu}",
    }
    times = [f"{duration(seconds[device] / width)} on {paces[device]}"]
    if device == "cpu" and seconds["cpu"] / width > LONG:
        times.append(f"{duration(seconds['cuda'])} on one GPU at {gpu}")
    told.append(
        f"Time: about {', '.join(times)}: assumed, not measured; texts at full length, no audits."
    )
    return told


def estimates(plan: Plan, missing: Collection[str], device: str) -> list[dict[str, Any]]:
    """Each setting's estimate as JSON; disk (bytes) and seconds, on one worker, of its stages to do."""
    told = []
    for found in plan.estimates:
        stages = [plan.stages[key] for key in found.keys & set(missing)]
        fields = {key: value for key, value in asdict(found).items() if key != "keys"}
        told.append(
            fields
            | {
                "bytes": found.bytes,
                "disk": found.stored(stage.kind for stage in stages),
                "seconds": found.seconds(sum(stage.tee for stage in stages), device),
            }
        )
    return told


def _total(plan: Plan, missing: Collection[str], device: str) -> dict[str, float]:
    each = estimates(plan, missing, device)
    return {key: sum(told[key] for told in each) for key in ("disk", "seconds")}


def duration(seconds: float) -> str:
    """40 s, 3 min, 2 h 05 min, 3 d 4 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes: 12 MiB, 1.3 GiB, 2.0 TiB."""
    if count < 10 * 2**20:
        return f"{count / 2**20:.1f} MiB"
    if count < 2**30:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / 2**30:.1f} GiB" if count < 2**40 else f"{count / 2**40:.1f} TiB"


def _weights(count: int) -> str:
    return f"{count / 1e6:.0f} million" if count >= 1e7 else f"{count:,}"


def _pace(flops: float) -> str:
    return f"{flops / 1e9:g} GFLOP/s" if flops < 1e12 else f"{flops / 1e12:g} TFLOP/s"
