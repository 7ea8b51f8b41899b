"""Following a run by its files: any number of onlookers, none of which the run notices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.jobs.backends.jobs import event_files
from engine.jobs.events import STARTING, WAITING, EventTail
from engine.jobs.forecast import Forecast
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

    def poll(self, most: int | None = None) -> list[Event]:
        """What happened since the last call. Attempts' events carry their stage's key. At most `most`
        bytes of each file.

        The first call tells all of the past, but what ended attempts said is left in their files:
        of a large run that would be thousands to open.
        """
        events: list[Event] = []
        told = self._supervisor.read(most)
        for event in told:
            data = event["data"]
            key = data.get("key")
            if event["kind"] == "start" and isinstance(key, str):
                name = f"{key[:16]}.{data.get('attempt')}"
                if ATTEMPT.fullmatch(name):  # who wrote the file need not mean us well
                    self._under_way[key] = name
            elif event["kind"] == "end" and isinstance(key, str) and key in self._under_way:
                name = self._under_way.pop(key)
                events += self._attempt(name).read(most) if self._caught_up else []
                self._attempts.pop(name, None)
            events.append(event)
        # A line cut off at the end, after which nothing comes, is not waited for.
        self._caught_up = self._caught_up or not (told and self._supervisor.behind)
        for name in self._under_way.values() if self._caught_up else ():
            events += self._attempt(name).read(most)
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
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 0.0


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
        self.forecast = Forecast(stages)
        self._stages = stages
        self._starting: dict[str, float] = {}  # slot → since when a worker starts there
        self._waiting = ""  # for what, where nothing is under way because of it
        self._shown = 0.0  # the largest share that was told
        self._working = False  # whether a session is under way, and has begun a stage
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
        elif kind in ("end", "stopped"):
            self._rest()
        elif kind == "phase":
            self._take_phase(str(data.get("name", "")), data, t)
        elif kind == "warning":
            text = str(data.get("text", ""))
            self.warnings.append(text)
            if text.startswith(WAITING):
                self._waiting = text

    def _begin(self, t: float, slots: int) -> None:
        """A session begins. What the one before left open or failed at is tried again."""
        self.began, self.slots, self._shown = t, slots, 0.0
        self._rest()
        for key in list(self.failed):
            self._forgive(key)

    def _rest(self) -> None:
        """Nobody works: a session has ended, or has not begun a stage yet."""
        self.active.clear()
        self._starting.clear()
        self._waiting, self._working = "", False

    def _take_phase(self, name: str, data: dict[str, Any], t: float) -> None:
        if name == STARTING:
            self._starting[str(data.get("slot", ""))] = t
            self._waiting = ""
        elif name.startswith(WAITING) or name == "pausing":
            self._waiting = name
        elif name == "going on":
            self._waiting = ""

    def _forgive(self, key: str) -> None:
        """What failed is tried again."""
        del self.failed[key]
        if key not in self.done:
            self.forecast.reopen(key)

    def _take_from_supervisor(self, key: str, kind: str, data: dict[str, Any], t: float) -> None:
        if kind == "start":
            if key in self.failed:
                self._forgive(key)
            slot = str(data.get("slot", ""))
            self._starting.pop(slot, None)
            self._working = True
            if self._waiting != "pausing":
                self._waiting = ""
            self.active[key] = Active(
                str(data.get("title", "")), str(data.get("kind", "")), slot, t
            )
        elif kind == "end":
            if self.active.pop(key, None) is None:
                self._starting.clear()  # its worker never got so far
            outcome = data.get("outcome")
            if outcome == "failed":
                reason = str(data.get("reason", ""))
                self._settle(key, lambda key: self.failed.update({key: reason}))
            elif outcome != "stopped":
                self._settle(key, self.done.add)
                if outcome != "cached":
                    self.forecast.learn(key, finite(data.get("seconds")))

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

    def settle(self, done: Iterable[str], failed: Mapping[str, str]) -> None:
        """Stages that have ended as somebody else has read. `failed`: why."""
        for key in done:
            self._settle(key, self.done.add)
        for key, reason in failed.items():
            self._settle(key, lambda key, why=reason: self.failed.update({key: why}))  # type: ignore[misc]

    def _settle(self, key: str, note: Callable[[str], None]) -> None:
        if key not in self.done and key not in self.failed:
            self.forecast.settle(key)
        note(key)

    # --- how far, how long -------------------------------------------------------------------------

    @property
    def _shares(self) -> dict[str, float]:
        """Of the stages under way that are still counted as left."""
        return {
            key: active.share for key, active in self.active.items()
            if key not in self.done and key not in self.failed
        }  # fmt: skip

    @property
    def share(self) -> float:
        """Of the planned compute, what is done or given up, 0 to 1."""
        # What has not been seen yet may turn out dear; what is done does not become less for it.
        self._shown = max(self._shown, self.forecast.share(self._shares))
        return self._shown

    def seconds_left(self) -> float | None:
        """With all slots at work; None before anything can be said."""
        left = self.forecast.seconds(self._shares)
        waiting = self.total - len(self.done) - len(self.failed)
        return left / max(1, min(self.slots, waiting)) if left is not None else None

    # --- what the slots do -------------------------------------------------------------------------

    def idle(self) -> list[tuple[str, str]]:
        """Slots without a stage, and why: (slot, words); the slot is "" where it is not known which.
        For a run that somebody works at: one that nobody does has no slots."""
        left = self.total - len(self.done) - len(self.failed) - len(self.active)
        if self._waiting:
            return [("", self._waiting)]
        starting = [(slot, STARTING) for slot in sorted(self._starting)]
        if starting or left <= 0:
            return starting
        if not self._working:
            return [("", "starting workers")]
        if not self.active or len(self.active) >= self.slots:
            return []
        titles = sorted(active.title for active in self.active.values())
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        return [("", f"waiting for {titles[0]}{more}")]


def progress_of(run: Run, done: Iterable[str] | None = None) -> Progress:
    """Of a run before its events are taken. `done`: what the store has, where that is known already.
    Raises BadInput if its plan cannot be read."""
    stages, store = run.plan.stages, run.store
    found = list(filter(store.has, stages) if done is None else done)
    progress = Progress(stages, found)

    def took(key: str) -> float | None:
        record = store.record(key)
        return record.seconds if record is not None else None

    progress.forecast.recall(found, took)
    return progress


def finite(value: Any) -> float:
    """A number of an event's data; 0 for what is no finite number."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) else 0.0
