"""Which places for workers there are, and what a worker on one may see: decided before torch loads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.jobs.inventory import Gpu, gpus
from engine.spec.errors import BadInput

if TYPE_CHECKING:  # pydantic is slow to load, and a supervisor needs none of it
    from engine.spec.experiment import Compute


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker: "cpu" or "cuda", and the one GPU it may see, by UUID.

    `number` counts the places of a GPU, of which there are `limit`.
    """

    name: str
    device: str
    gpu: str | None = None
    number: int = 0
    limit: int = 1

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


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use of a machine: the `compute` table, with the device that was asked for.

    `device`: "auto" (GPUs if there are any), "cpu", "cuda" or "cuda:0,2", counted within
    CUDA_VISIBLE_DEVICES. `min_free_gib` and `settle` (seconds): see placing.py.
    """

    device: str
    workers: int | None = None
    threads: int = 1
    slots_per_device: int = 1
    min_free_gib: float = 1.0
    settle: float = 10.0

    @staticmethod
    def of(compute: Compute, device: str | None = None) -> Resources:
        return Resources(
            device or compute.device, compute.workers, compute.threads, compute.slots_per_device,
            compute.min_free_gib, compute.settle,
        )  # fmt: skip

    def slots(self) -> list[Slot]:
        """The places there are. A GPU has `slots_per_device`; the CPU has `workers`, or one for each
        `threads` cores. Raises BadInput for a GPU that is not there."""
        if self.device == "cpu":
            return self._cpu_slots()
        available = gpus()
        if self.device == "auto":
            return self._gpu_slots(available) if available else self._cpu_slots()
        if not available:
            raise BadInput(
                f"device {self.device!r}: no usable NVIDIA GPU on this machine (`chelate devices` "
                "says what was found); use --device cpu or auto."
            )
        _, _, numbers = self.device.partition(":")
        if numbers:
            wanted = [int(n) for n in numbers.split(",")]
            missing = [n for n in wanted if n not in range(len(available))]
            if missing:
                raise BadInput(
                    f"device {self.device!r}: there is no GPU {missing[0]}; usable: 0 to "
                    f"{len(available) - 1}, counted within CUDA_VISIBLE_DEVICES."
                )
            available = [available[n] for n in wanted]
        return self._gpu_slots(available)

    def width(self, slots: list[Slot]) -> int:
        """How many workers there are at most."""
        return min(len(slots), self.workers or len(slots))

    def _gpu_slots(self, available: list[Gpu]) -> list[Slot]:
        per_device = self.slots_per_device
        return [
            Slot(
                f"{gpu.kind}:{gpu.label}" + (f"/{number}" if per_device > 1 else ""),
                gpu.kind, gpu.uuid, number, per_device,
            )
            for number in range(per_device)
            for gpu in available
        ]  # fmt: skip

    def _cpu_slots(self) -> list[Slot]:
        count = self.workers or max(1, cores() // self.threads)
        return [Slot(f"cpu:{number}", "cpu") for number in range(count)]
