"""Which stage of a plan comes next: fates, and what they make possible. No processes, no clocks."""

from __future__ import annotations

import heapq
from typing import Literal

from engine.spec.planned import Plan, Stage

Fate = Literal["done", "n/a", "diverged", "failed"]


class Schedule:
    """Ready stages go out longest way to the end first. A stage whose input failed is not tried; the
    others go on.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fate: dict[str, Fate] = {}
        self.under_way: set[str] = set()  # queued, held or with a worker
        self._ready: list[tuple[float, int, str]] = []
        self._held: list[tuple[float, str]] = []
        self._order = {key: number for number, key in enumerate(plan.stages)}
        self._children: dict[str, list[str]] = {}
        for key, stage in plan.stages.items():
            for source in {*stage.inputs.values(), *stage.after}:
                self._children.setdefault(source, []).append(key)
        self._path: dict[str, float] = {}  # TEE from here to the end of the longest way down
        for key, stage in reversed(plan.stages.items()):
            below = (self._path[child] for child in self._children.get(key, []))
            self._path[key] = stage.tee + max(below, default=0.0) + 1e-3

    def begin(self, known: dict[str, Fate]) -> None:
        """Queue what can be done, given what the store has."""
        self.fate |= known
        for key in self.plan.stages:
            self.consider(key)

    def consider(self, key: str) -> None:
        """Queue a stage when all it waits for is settled; settle it when its input has no result."""
        if key in self.fate or key in self.under_way:
            return
        stage = self.plan.stages[key]
        fates = [self.fate.get(source) for source in stage.inputs.values()]
        before = [self.fate.get(source) for source in stage.after]
        if "failed" in fates or "failed" in before:
            self.settle(key, "failed")
        elif (
            "diverged" in fates or "diverged" in before
        ):  # a longer way leads through the same step
            self.settle(key, "diverged")
        elif "n/a" in fates:
            self.settle(key, "n/a")
        elif None not in fates and None not in before:
            self.under_way.add(key)
            heapq.heappush(self._ready, (-self._path[key], self._order[key], key))

    def settle(self, key: str, fate: Fate) -> None:
        self.fate[key] = fate
        self.under_way.discard(key)
        for child in self._children.get(key, []):
            self.consider(child)

    def again(self, key: str) -> None:
        """Back into the queue."""
        self.under_way.discard(key)
        self.consider(key)

    def forgive(self) -> None:
        """What failed, and what was not tried because of that, is to be computed after all."""
        failed = [key for key in self.plan.stages if self.fate.get(key) == "failed"]
        for key in failed:
            del self.fate[key]
        for key in failed:
            self.consider(key)

    def wait_for(self, key: str, source: str) -> bool:
        """`key` waits for `source`, which must be computed again; False if that is known already."""
        self.under_way.discard(key)
        if source in self.under_way:
            return False
        self.fate.pop(source, None)
        return True

    def hold(self, key: str, until: float) -> None:
        """Somebody else computes it: look again at the time `until`."""
        heapq.heappush(self._held, (until, key))

    def let_go(self, now: float) -> list[str]:
        """The held stages whose time has come; still under way."""
        keys = []
        while self._held and self._held[0][0] <= now:
            keys.append(heapq.heappop(self._held)[1])
        return [key for key in keys if key not in self.fate]

    def first(self) -> Stage | None:
        """The stage to hand out now; None if there is none. It stays in the queue until `take`."""
        while self._ready and self._ready[0][2] in self.fate:  # settled meanwhile by others
            heapq.heappop(self._ready)
        return self.plan.stages[self._ready[0][2]] if self._ready else None

    def take(self) -> None:
        """Take the first stage out of the queue."""
        heapq.heappop(self._ready)

    @property
    def has_ready(self) -> bool:
        return self.first() is not None

    @property
    def waits(self) -> bool:
        """Whether anything is queued or held by others."""
        return self.has_ready or any(key not in self.fate for _, key in self._held)
