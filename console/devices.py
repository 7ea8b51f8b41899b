"""`chelate devices`: what is there, what we may use, and who sits where."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from console.output import console, say, say_json
from engine.jobs import slotlocks
from engine.jobs.devices import cores
from engine.jobs.events import strip_control
from engine.jobs.inventory import Gpu, inventory, visible


def show_devices(as_json: bool) -> None:
    """Raises BadInput where places on devices cannot be locked."""
    found = inventory()
    bound = os.environ.get("CUDA_VISIBLE_DEVICES")
    usable = visible(found.gpus, bound)
    locks = slotlocks.folder()
    devices = [_facts(gpu, usable, slotlocks.taken(locks, gpu.uuid)) for gpu in found.gpus]
    told = {
        "cores": cores(),
        "cuda_visible_devices": bound,
        "locks": str(locks),
        "devices": devices,
        "problems": found.problems,
    }
    if as_json:
        say_json(told)
        return
    say(f"cpu     {told['cores']} cores usable")
    if found.gpus:
        _print_table(devices)
    elif not found.problems:
        say("cuda    no NVIDIA driver here")
    for problem in found.problems:
        say(f"problem {strip_control(problem)}")
    if bound is not None:
        say(f"CUDA_VISIBLE_DEVICES={strip_control(bound)!r}: only what it names is used.")


def _facts(gpu: Gpu, usable: list[Gpu], taken: list[slotlocks.Taken]) -> dict[str, Any]:
    return {
        "device": f"{gpu.kind}:{gpu.label}",
        # The number that `--device cuda:N` means: counted within the bound.
        "number": usable.index(gpu) if gpu in usable else None,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "total": gpu.total,
        "free": gpu.free,
        "capability": list(gpu.capability),
        "mig_parent": gpu.parent,
        "strangers": gpu.strangers if gpu.processes is not None else None,
        "taken": [asdict(one) for one in taken],
    }


def _print_table(devices: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(pad_edge=False)
    for heading in ("device", "--device", "name", "free", "others", "taken by", "uuid"):
        table.add_column(heading, justify="right" if heading in ("free", "others") else "left")
    for gpu in devices:
        number = "not ours" if gpu["number"] is None else f"cuda:{gpu['number']}"
        free = f"{gpu['free'] / 2**30:.1f} of {gpu['total'] / 2**30:.1f} GiB"
        others = "?" if gpu["strangers"] is None else str(gpu["strangers"])
        taken = ", ".join(_who(one) for one in gpu["taken"]) or "-"
        words = (gpu["device"], number, gpu["name"], free, others, taken, gpu["uuid"])
        table.add_row(*(Text(strip_control(word)) for word in words))
    console().print(table)


def _who(taken: dict[str, Any]) -> str:
    if not taken["pid"]:
        return f"place {taken['number']}: somebody"
    since = time.strftime("%d %b %H:%M", time.localtime(taken["since"]))
    return f"place {taken['number']}: {taken['user']}, pid {taken['pid']}, since {since}"
