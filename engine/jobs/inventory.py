"""Which GPUs there are: NVML's answer, and the part of it that CUDA_VISIBLE_DEVICES leaves us.

A GPU in MIG mode counts as its instances, for that is what a process can use. A GPU that does not
answer is left out and named among the problems; it does not hide the others.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.spec.errors import BadInput

# For tests: a JSON file in place of NVML, read anew at every look.
# {"devices": [{"uuid": …, "total": bytes, "free": bytes, …}], "problems": […]}; the other keys are
# the fields of Gpu. `"kind": "cpu"` makes workers of that device compute on the CPU.
FAKE = "CHELATE_FAKE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or an instance of one in MIG mode, as NVML names it. Memory in bytes.

    `index` counts GPUs in the order of their PCI bus, `instance` the MIG instances of one.
    `processes` are the pids that compute on it; None if NVML does not tell.
    """

    index: int
    uuid: str
    name: str
    total: int
    free: int
    capability: tuple[int, int] = (0, 0)
    processes: tuple[int, ...] | None = ()
    instance: int | None = None
    parent: str | None = None  # UUID of the GPU that a MIG instance is part of
    kind: str = "cuda"  # what a worker on it computes on

    @property
    def label(self) -> str:
        """ "0" for a GPU, "0:1" for a MIG instance."""
        return str(self.index) if self.instance is None else f"{self.index}:{self.instance}"

    @property
    def strangers(self) -> int:
        """How many processes compute on it that are no workers of ours."""
        return sum(not _is_worker(pid) for pid in self.processes or ())


@dataclass(frozen=True)
class Inventory:
    """What was found, and what could not be asked."""

    gpus: list[Gpu] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inventory() -> Inventory:
    """All NVIDIA devices of this machine, whatever CUDA_VISIBLE_DEVICES says; none without a driver.

    Raises BadInput for an inventory file for tests that makes no sense.
    """
    fake = os.environ.get(FAKE)
    if fake:
        return _from_file(Path(fake))
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        # No library is how a machine without GPUs looks; anything else is worth a word.
        absent = isinstance(error, pynvml.NVMLError_LibraryNotFound)
        return Inventory(problems=[] if absent else [f"NVML: {error}"])
    found = Inventory()
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                found.gpus.extend(_read(pynvml, index))
            except pynvml.NVMLError as error:
                found.problems.append(f"GPU {index}: {error}")
    except pynvml.NVMLError as error:
        found.problems.append(f"NVML: {error}")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found


def gpus() -> list[Gpu]:
    """The devices we may use, in CUDA's order."""
    return visible(inventory().gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(found: list[Gpu], setting: str | None) -> list[Gpu]:
    """What CUDA would show: named in order, and nothing after the first name that is none.

    Names are numbers, UUIDs and their beginnings. Of a GPU in MIG mode that is named as a whole,
    CUDA shows the first instance. None is no bound, an empty setting leaves nothing.
    """
    if setting is None:
        return found
    chosen: list[Gpu] = []
    for word in setting.split(","):
        gpu = _named(found, word.strip())
        if gpu is None:
            break
        if gpu not in chosen:
            chosen.append(gpu)
    return chosen


def _named(found: list[Gpu], word: str) -> Gpu | None:
    if not word:
        return None
    if word.isdecimal():
        return next((gpu for gpu in found if gpu.index == int(word)), None)
    matches = [gpu for gpu in found if gpu.uuid.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    wholes = {gpu.parent for gpu in found if gpu.parent and gpu.parent.startswith(word)}
    if matches or len(wholes) != 1:
        return None  # no such device, or several
    return next(gpu for gpu in found if gpu.parent in wholes)


def _read(nvml: Any, index: int) -> list[Gpu]:
    """One GPU, or its MIG instances. Raises NVMLError."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    capability = tuple(map(int, nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    whole = _device(nvml, handle, index, (capability[0], capability[1]))
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # too old for MIG: the GPU, or the driver
        return [whole]
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return [whole]
    parts = []
    for instance in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, instance)
        except nvml.NVMLError_NotFound:
            continue  # instances are numbered with gaps
        parts.append(_device(nvml, part, index, whole.capability, instance, whole.uuid))
    return parts  # none: a GPU in MIG mode that nobody has divided cannot compute


def _device(
    nvml: Any,
    handle: Any,
    index: int,
    capability: tuple[int, int],
    instance: int | None = None,
    parent: str | None = None,
) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index,
        _text(nvml.nvmlDeviceGetUUID(handle)),
        _text(nvml.nvmlDeviceGetName(handle)),
        int(memory.total),
        int(memory.free),
        capability,
        _processes(nvml, handle),
        instance,
        parent,
    )


def _processes(nvml: Any, handle: Any) -> tuple[int, ...] | None:
    """By the newest function the driver has; nvidia-ml-py's own choice fails on older drivers."""
    for name in (
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetComputeRunningProcesses_v2",
    ):
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            return tuple(int(process.pid) for process in getattr(nvml, name)(handle))
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is_worker(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # gone, or in another container
        return False
    return b"engine.jobs.worker" in words


def _from_file(path: Path) -> Inventory:
    try:
        told = json.loads(path.read_bytes())
        devices = [
            Gpu(
                **{"index": number, "name": "fake", "total": 1 << 34, "free": 1 << 34}
                | raw
                | {
                    "capability": tuple(raw.get("capability", (8, 0))),
                    "processes": tuple(raw.get("processes", ())),
                }
            )
            for number, raw in enumerate(told["devices"])
        ]
        return Inventory(devices, [str(problem) for problem in told.get("problems", [])])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{FAKE}={path}: not an inventory of devices: {error!r}.") from None
