"""Which devices there are and what a worker on one of them may see: decided before torch is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from engine.spec.errors import BadInput


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as NVML names it. Memory in bytes."""

    index: int
    uuid: str
    name: str
    total: int
    free: int
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker: "cpu" or "cuda", and the one GPU it may see."""

    name: str
    device: str
    gpu: str | None = None

    def environment(self, threads: int) -> dict[str, str]:
        """Variables a worker must have before it imports torch.

        OpenMP threads that spin while waiting starve each other where workers share cores, so they
        sleep instead; cuBLAS needs a fixed workspace to be deterministic.
        """
        count = str(threads)
        return {
            "CUDA_VISIBLE_DEVICES": self.gpu or "",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "OMP_WAIT_POLICY": "PASSIVE",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "PYTHONHASHSEED": "0",
        }


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine that CUDA_VISIBLE_DEVICES leaves us; [] without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            uuid, name = (
                _text(pynvml.nvmlDeviceGetUUID(handle)),
                _text(pynvml.nvmlDeviceGetName(handle)),
            )
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            found.append(
                Gpu(index, uuid, name, int(memory.total), int(memory.free), (major, minor))
            )
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
    return _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _visible(found: list[Gpu], setting: str | None) -> list[Gpu]:
    """What CUDA would show: named in order, and nothing after the first unknown name."""
    if setting is None:
        return found
    chosen: list[Gpu] = []
    for word in setting.split(","):
        word = word.strip()
        match = [g for g in found if word == str(g.index) or (word and g.uuid.startswith(word))]
        if len(match) != 1:
            break
        chosen.append(match[0])
    return chosen


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def fast_bf16(device: str) -> bool:
    """Whether the device kind has matrix units for bf16: AMX on a CPU, Ampere or later on GPUs."""
    if device == "cpu":
        try:
            return "amx_bf16" in Path("/proc/cpuinfo").read_text()
        except OSError:
            return False
    return all(gpu.capability >= (8, 0) for gpu in gpus())


def cores() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def slots(device: str, workers: int | None, threads: int) -> list[Slot]:
    """Places for workers on the device asked for: "auto", "cpu", "cuda" or "cuda:0,2".

    auto takes the GPUs if there are any. A GPU gives one slot; the CPU gives one for each `threads`
    cores. `workers` bounds or sets the number. Raises BadInput for a GPU that is not there.
    """
    if device == "cpu":
        return _cpu_slots(workers, threads)
    available = gpus()
    if device == "auto":
        return _gpu_slots(available, workers) if available else _cpu_slots(workers, threads)
    if not available:
        raise BadInput(
            f"device {device!r}: no usable NVIDIA GPU on this machine (`chelate doctor` says what "
            "was found); use --device cpu or auto."
        )
    _, _, numbers = device.partition(":")
    if numbers:
        wanted = [int(n) for n in numbers.split(",")]
        missing = [n for n in wanted if n not in range(len(available))]
        if missing:
            raise BadInput(
                f"device {device!r}: there is no GPU {missing[0]}; usable: 0 to "
                f"{len(available) - 1}, counted within CUDA_VISIBLE_DEVICES."
            )
        available = [available[n] for n in wanted]
    return _gpu_slots(available, workers)


def _gpu_slots(available: list[Gpu], workers: int | None) -> list[Slot]:
    chosen = available[: workers or len(available)]
    return [Slot(f"cuda:{gpu.index}", "cuda", gpu.uuid) for gpu in chosen]


def _cpu_slots(workers: int | None, threads: int) -> list[Slot]:
    count = workers or max(1, cores() // threads)
    return [Slot(f"cpu:{number}", "cpu") for number in range(count)]
