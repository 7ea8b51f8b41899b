"""Following a run by its files: any number of onlookers, none of which the run notices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.jobs.backends.jobs import event_files
from engine.jobs.events import EventTail
from engine.jobs.runs import ATTEMPT, Run
from engine.spec.planned import Stage

Event = dict[str, Any]
LOOK = 1.0  # seconds between looks for jobs that have begun


class RunTail:
    """Reads what supervisors tell of a run, one of this machine or the jobs of a cluster, as
    `EventTail` reads one file; events of several files come in the order of their times.
    """

    def __init__(self, run: Run) -> None:
        self._run = run.folder
        self._tails = {run.events: EventTail(run.events)}
        self._next = 0.0

    def read(self, most: int | None = None) -> list[Event]:
        """What is new, at most `most` bytes of each file."""
        if time.monotonic() >= self._next and (self._run / "slurm").exists():
            self._next = time.monotonic() + LOOK
            for path in event_files(self._run):
                self._tails.setdefault(path, EventTail(path))
        found = [events for tail in self._tails.values() if (events := tail.read(most))]
        if len(found) == 1:
            return found[0]
        return sorted((e for events in found for e in events), key=lambda event: float(event["t"]))

    @property
    def behind(self) -> bool:
        return any(tail.behind for tail in self._tails.values())


class Follower:
    """Collects the events of a run's supervisor and of the attempts under way.

    `skip` leaves out what the supervisor wrote before now (earlier sessions).
    """

    def __init__(self, run: Run, skip: bool = False) -> None:
        self.run = run
        self._supervisor = RunTail(run)
        self._under_way: dict[str, str] = {}  # stage → name of its attempt's folder
        self._attempts: dict[str, EventTail] = {}  # by that name
        self._caught_up = skip
        if skip:
            self._supervisor.read()

    def poll(self) -> list[Event]:
        """What happened since the last call. Attempts' events carry their stage's key.

        The first call tells all of the past, but what ended attempts said is left in their files:
        of a large run that would be thousands to open.
        """
        events: list[Event] = []
        for event in self._supervisor.read():
            data = event["data"]
            key = data.get("key")
            if event["kind"] == "start" and isinstance(key, str):
                name = f"{key[:16]}.{data.get('attempt')}"
                if ATTEMPT.fullmatch(name):  # who wrote the file need not mean us well
                    self._under_way[key] = name
            elif event["kind"] == "end" and key in self._under_way:
                name = self._under_way.pop(key)
                events += self._attempt(name).read() if self._caught_up else []
                self._attempts.pop(name, None)
            events.append(event)
        self._caught_up = True
        for name in self._under_way.values():
            events += self._attempt(name).read()
        return events

    def _attempt(self, name: str) -> EventTail:
        if name not in self._attempts:
            path = self.run.folder / "attempts" / name / "events.jsonl"
            self._attempts[name] = EventTail(path)
        return self._attempts[name]


@dataclass
class Active:
    """A stage under way."""

    title: str
    kind: str
    slot: str
    since: float
    done: float = 0.0
    total: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


class Progress:
    """Where a run stands, from its events alone. Times are epoch seconds.

    `stages` is the plan's, `done` what the store had before these events. Taking an event and
    asking for the time left cost the same however many stages there are; an event of a later
    version, whose data are not as expected, does no harm.
    """

    def __init__(self, stages: Mapping[str, Stage], done: Iterable[str] = ()) -> None:
        self.total = len(stages)
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.warnings: list[str] = []
        self.active: dict[str, Active] = {}
        self.slots = 1
        self.began = 0.0
        self._stages = stages
        # Kind and sort (with TEE or without) → units that are left: TEE, or 1 for a stage.
        self._left: dict[tuple[str, str], float] = {}
        # Of a kind and of a sort: seconds spent here, and on how many units.
        self._costs: dict[str, tuple[float, float]] = {}
        for stage in stages.values():
            self._count(stage, 1)
        for key in done:
            self._settle(key, self.done.add)

    def take(self, event: Event) -> None:
        kind, data, t = event["kind"], event["data"], float(event["t"])
        if event["stage"]:
            self._take_from_stage(event["stage"], kind, data)
        elif "key" in data:
            self._take_from_supervisor(str(data["key"]), kind, data, t)
        elif kind == "start":
            self._begin(t, max(1, int(finite(data.get("slots")))))
        elif kind == "warning":
            self.warnings.append(str(data.get("text", "")))

    def _begin(self, t: float, slots: int) -> None:
        """A session begins. What the one before left open or failed at is tried again."""
        self.began, self.slots = t, slots
        self.active.clear()
        for key in list(self.failed):
            self._forgive(key)

    def _forgive(self, key: str) -> None:
        """What failed is tried again."""
        del self.failed[key]
        if key in self._stages and key not in self.done:
            self._count(self._stages[key], 1)

    def _take_from_supervisor(self, key: str, kind: str, data: dict[str, Any], t: float) -> None:
        if kind == "start":
            if key in self.failed:
                self._forgive(key)
            self.active[key] = Active(
                str(data.get("title", "")), str(data.get("kind", "")), str(data.get("slot", "")), t
            )
        elif kind == "end":
            self.active.pop(key, None)
            outcome = data.get("outcome")
            if outcome == "failed":
                reason = str(data.get("reason", ""))
                self._settle(key, lambda key: self.failed.update({key: reason}))
            elif outcome != "stopped":
                self._settle(key, self.done.add)
                if outcome != "cached":
                    self._learn(key, finite(data.get("seconds")))

    def _take_from_stage(self, key: str, kind: str, data: dict[str, Any]) -> None:
        active = self.active.get(key)
        if active is None:
            return
        if kind == "progress":
            active.done, active.total = finite(data.get("done")), finite(data.get("total"))
        elif kind == "metric" and isinstance(data.get("value"), int | float):
            active.metrics[str(data.get("name"))] = float(data["value"])
        elif kind == "probe":
            active.probe = data

    # --- how long ----------------------------------------------------------------------------------

    def _settle(self, key: str, note: Callable[[str], None]) -> None:
        if key in self._stages and key not in self.done and key not in self.failed:
            self._count(self._stages[key], -1)
        note(key)

    def _count(self, stage: Stage, times: int) -> None:
        group = stage.kind, _sort(stage)
        self._left[group] = self._left.get(group, 0.0) + times * _units(stage)

    def _learn(self, key: str, seconds: float) -> None:
        stage = self._stages.get(key)
        if stage is not None:
            for name in (stage.kind, _sort(stage)):
                spent, units = self._costs.get(name, (0.0, 0.0))
                self._costs[name] = spent + seconds, units + _units(stage)

    def _rate(self, kind: str, sort: str) -> float | None:
        """Seconds per unit."""
        known = self._costs.get(kind) or self._costs.get(sort)
        return known[0] / known[1] if known is not None else None

    def seconds_left(self) -> float | None:
        """An estimate from what stages took per TEE, or those without TEE each; of a kind that
        has not been seen yet, from all kinds. None before anything can be said."""
        left = 0.0
        for (kind, sort), units in self._left.items():
            rate = self._rate(kind, sort)
            if rate is None and sort == "tee" and units > 1e-9:
                return None
            left += (rate or 0.0) * units  # small ones, of which nothing is known yet, go free
        for key, active in self.active.items():
            stage = self._stages.get(key)
            if stage is not None and key not in self.done:
                rate = self._rate(stage.kind, _sort(stage)) or 0.0
                left -= rate * _units(stage) * active.share
        return max(0.0, left) / self.slots if self._costs else None


def _sort(stage: Stage) -> str:
    return "tee" if stage.tee else "each"


def _units(stage: Stage) -> float:
    return stage.tee or 1.0


def finite(value: Any) -> float:
    """A number of an event's data; 0 for what is no finite number."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) else 0.0
