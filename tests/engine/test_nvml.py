"""The real nvidia-ml-py on a driver library of ours: MIG, a lost GPU, functions that are missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
ASK = """
import dataclasses, json
from engine.jobs.inventory import gpus, inventory
found = inventory()
print(json.dumps({
    "all": [dataclasses.asdict(gpu) | {"strangers": gpu.strangers} for gpu in found.gpus],
    "problems": found.problems, "usable": [gpu.uuid for gpu in gpus()],
}))
"""


def ask(folder: Path, *flags: str, **env: str) -> dict[str, Any]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) for the fake driver library")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", *flags, "-o", str(library), str(SOURCE)], check=True
    )
    ours = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES",)}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=ours | {"LD_LIBRARY_PATH": str(folder)} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_mig_instances_are_devices_and_a_lost_gpu_hides_no_other(tmp_path: Path) -> None:
    found = ask(tmp_path)
    assert [gpu["uuid"] for gpu in found["all"]] == ["GPU-1", "MIG-200", "MIG-202", "GPU-4"]
    assert found["problems"] == ["GPU 2: GPU is lost"]
    whole, part, other, last = found["all"]
    assert (whole["index"], whole["total"], whole["free"]) == (0, 40 << 30, (40 << 30) - (1 << 20))
    assert (part["index"], part["instance"], part["parent"]) == (1, 0, "GPU-2")
    assert (other["instance"], other["total"], other["capability"]) == (2, 5 << 30, [8, 0])
    assert (last["index"], last["capability"]) == (3, [7, 0])  # its number is NVML's
    assert whole["processes"] == [1]
    assert whole["strangers"] == 1
    assert part["processes"] == []
    assert found["usable"] == [gpu["uuid"] for gpu in found["all"]]


def test_the_bound_is_kept(tmp_path: Path) -> None:
    found = ask(tmp_path, CUDA_VISIBLE_DEVICES="MIG-202,0")
    assert found["usable"] == ["MIG-202", "GPU-1"]
    assert ask(tmp_path, CUDA_VISIBLE_DEVICES="2,0")["usable"] == []  # the lost one
    assert ask(tmp_path, CUDA_VISIBLE_DEVICES="")["usable"] == []


def test_an_older_driver_that_lacks_functions(tmp_path: Path) -> None:
    found = ask(tmp_path, "-DOLD")["all"]
    assert [gpu["uuid"] for gpu in found] == ["GPU-1", "GPU-2", "GPU-4"]
    assert [gpu["processes"] for gpu in found] == [[1], [], []]
    found = ask(tmp_path, "-DOLD", "-DOLDEST")["all"]
    assert [gpu["processes"] for gpu in found] == [None] * 3
    assert [gpu["strangers"] for gpu in found] == [0] * 3
