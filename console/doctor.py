"""`chelate doctor`: what this machine has, asked the way the engine asks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from chelate.neighbours import neighbours, on_the_path
from console.output import FAILED, say
from engine.jobs.devices import cores
from engine.jobs.home import Home, resolve_home
from engine.jobs.inventory import gpus
from engine.spec.component import KINDS
from engine.spec.errors import BadInput
from engine.spec.registry import registered, skipped

# In a process of its own: the console never imports torch, and a broken torch must not end it.
PROBE = (
    "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, "
    "torch.cuda.device_count() if torch.cuda.is_available() else 0]))"
)


def examine(home: Path | None) -> int:
    """Print what was found; the exit code is 0 when a run could start."""
    fine = True
    say(f"chelate   {version('chelate')}, Python {sys.version.split()[0]}")
    for neighbour in neighbours():
        say(f"names     {neighbour}")
        fine = fine and not neighbour.harms
    for path in on_the_path():
        say(f"names     {path} is on Python's path, too; chelate uses its own")
    for name in KINDS:
        say(f"{name:9} {', '.join(registered(name))}")
    for name in KINDS:
        for plugin in skipped(name):
            say(f"skipped   {plugin}")
    say(f"cpu       {cores()} cores usable")
    found = gpus()
    for gpu in found:
        say(f"gpu {gpu.index}     {gpu.name}, {gpu.free >> 20} of {gpu.total >> 20} MiB free")
    if not found:
        say("gpu       none that NVML and CUDA_VISIBLE_DEVICES show")
    done = subprocess.run([sys.executable, "-P", "-c", PROBE], capture_output=True, text=True)
    if done.returncode == 0:
        torch, cuda, count = json.loads(done.stdout)
        say(f"torch     {torch}, built for CUDA {cuda or 'none'}, sees {count} GPUs")
        if found and not count:
            say("          NVML shows GPUs, but this torch cannot use them")
            fine = False
    else:
        say(f"torch     does not import: {done.stderr.strip().splitlines()[-1:]}")
        fine = False
    try:
        place = Home(resolve_home(home)).create()
        free = shutil.disk_usage(place.root).free >> 30
        say(f"home      {place.root}, writable, {free} GiB free")
    except BadInput as error:
        say(f"home      {error}")
        fine = False
    say("ready" if fine else "not ready: see above")
    return 0 if fine else FAILED
