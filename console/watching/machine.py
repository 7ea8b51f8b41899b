"""This machine's meters: psutil, and NVML where there is a driver."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from console.viewmodel import Gpu, Machine


class Meters:
    """Reads the meters. NVML takes tens of milliseconds: not for the thread that paints."""

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self._nvml: Any = None
        self._tried = False

    def read(self) -> Machine:
        import psutil

        memory = psutil.virtual_memory()
        load = None
        with contextlib.suppress(OSError, AttributeError):
            load = os.getloadavg()[0]
        return Machine(
            self.host,
            psutil.cpu_percent(),
            psutil.cpu_count() or 1,
            int(memory.total - memory.available),
            int(memory.total),
            load,
            self._gpus(),
        )

    def _gpus(self) -> tuple[Gpu, ...]:
        if not self._tried:
            self._tried = True
            try:
                import pynvml

                pynvml.nvmlInit()
                self._nvml = pynvml
            except Exception:  # no driver, no library: whatever it is, there is no GPU to show
                self._nvml = None
        if self._nvml is None:
            return ()
        nvml, found = self._nvml, []
        try:
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                name = nvml.nvmlDeviceGetName(handle)
                busy = celsius = None
                with contextlib.suppress(nvml.NVMLError):
                    busy = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                with contextlib.suppress(nvml.NVMLError):
                    celsius = int(nvml.nvmlDeviceGetTemperature(handle, 0))
                name = name.decode() if isinstance(name, bytes) else str(name)
                found.append(Gpu(index, name, busy, int(memory.used), int(memory.total), celsius))
        except nvml.NVMLError:
            return ()
        return tuple(found)
