"""Which slot the next worker gets: the emptiest device that has a place, and not too soon.

Free memory says nothing about a worker that has only just been placed, by us or by anybody: it has
not allocated yet. So a device counts as full until its latest worker has had time to settle.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from engine.jobs import slotlocks
from engine.jobs.devices import Resources, Slot
from engine.jobs.inventory import Gpu, inventory
from engine.jobs.slotlocks import SlotLock

REFRESH = 3600.0  # seconds between looks at our locks
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Room:
    """Where a stage ran out of memory: the device, and what was free on it before that worker."""

    gpu: str | None
    free: int


@dataclass
class Seat:
    """A slot that is ours. `free`: bytes free on the device when it was taken."""

    slot: Slot
    lock: SlotLock | None = None
    free: int = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the worker must inherit, so that the place is taken as long as it lives."""
        return (self.lock.descriptor,) if self.lock is not None else ()

    def tell(self, pid: int) -> None:
        """Say which worker sits here."""
        if self.lock is not None:
            self.lock.tell(pid)

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None


class Pool:
    """The slots one supervisor may use; `reason` says why the last `take` gave none."""

    def __init__(self, slots: list[Slot], resources: Resources) -> None:
        self.slots = slots
        self.reason = ""
        self._min_free = resources.min_free_gib * GIB
        self._settle = resources.settle
        self._locks = slotlocks.folder() if any(slot.gpu for slot in slots) else None
        self._refreshed = time.monotonic()

    def take(self, seats: Collection[Seat], roomier: Room | None = None) -> Seat | None:
        """A slot beside those we have. With `roomier`: only one with more room than there was.

        A device is taken where `min_free` GiB are free and no worker was placed within `settle`
        seconds: rather one on which nobody else computes, then the one with most free memory.
        """
        used = {seat.slot.name for seat in seats}
        rest = [slot for slot in self.slots if slot.name not in used]
        if self._locks is None:
            crowded = roomier is not None and seats  # the cores share one memory
            return Seat(rest[0]) if rest and not crowded else None
        by_device: dict[str, list[Slot]] = {}
        for slot in rest:
            by_device.setdefault(slot.gpu or "", []).append(slot)
        found = {gpu.uuid: gpu for gpu in inventory().gpus}
        reasons = [f"{by_device[u][0].name} is gone" for u in by_device if u not in found]
        present = [found[uuid] for uuid in by_device if uuid in found]
        for gpu in sorted(present, key=lambda gpu: (gpu.strangers > 0, -gpu.free)):
            slots = by_device[gpu.uuid]
            why = self._unfit(gpu, slots[0].limit, roomier)
            if why:
                reasons.append(f"{slots[0].name} {why}")
                continue
            for slot in slots:
                lock = slotlocks.take(self._locks, gpu.uuid, slot.number, slot.limit)
                if lock is not None:
                    self.reason = ""
                    return Seat(slot, lock, gpu.free)
            reasons.append(f"{slots[0].name} was just taken")
        self.reason = "; ".join(reasons)
        return None

    def _unfit(self, gpu: Gpu, limit: int, roomier: Room | None) -> str:
        """Why no worker should start on this device now; "" if one may."""
        assert self._locks is not None
        there = slotlocks.taken(self._locks, gpu.uuid)
        if len(there) >= limit:
            who = ", ".join(sorted({one.user or "somebody" for one in there}))
            return f"is taken ({len(there)} of {limit}, by {who})"
        if any(0 <= time.time() - one.since < self._settle for one in there):
            return "has a worker that only just came"
        if gpu.free < self._min_free:
            return f"has {gpu.free / GIB:.1f} GiB free, less than {self._min_free / GIB:g}"
        if roomier is None:
            return ""
        # On the same device: only alone. A new process starts without what the old one had cached.
        if gpu.uuid == roomier.gpu:
            return "has others on it" if there else ""
        return "has no more room" if gpu.free <= roomier.free else ""

    def gone(self) -> bool:
        """Whether not one of our devices is there any more."""
        if self._locks is None:
            return False
        there = {gpu.uuid for gpu in inventory().gpus}
        return not any(slot.gpu in there for slot in self.slots)

    def refresh(self, seats: Collection[Seat]) -> None:
        """Once an hour, keep sweepers of old files off our locks."""
        if time.monotonic() - self._refreshed > REFRESH:
            self._refreshed = time.monotonic()
            for seat in seats:
                if seat.lock is not None:
                    seat.lock.refresh()
