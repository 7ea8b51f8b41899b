"""Following a run by its files: any number of onlookers, none of which the run notices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.jobs.events import EventTail
from engine.jobs.runs import Run

Event = dict[str, Any]


class Follower:
    """Collects the events of a run's supervisor and of the attempts under way.

    `skip` leaves out what the supervisor wrote before now (earlier sessions).
    """

    def __init__(self, run: Run, skip: bool = False) -> None:
        self.run = run
        self._supervisor = EventTail(run.events)
        self._attempts: dict[str, EventTail] = {}
        if skip:
            self._supervisor.read()

    def poll(self) -> list[Event]:
        """What happened since the last call. Attempts' events carry their stage's key."""
        events: list[Event] = []
        for event in self._supervisor.read():
            data = event["data"]
            key = data.get("key")
            if event["kind"] == "start" and isinstance(key, str):
                name = f"{key[:16]}.{data.get('attempt')}"
                path = self.run.folder / "attempts" / name / "events.jsonl"
                self._attempts[key] = EventTail(path)
            elif event["kind"] == "end" and key in self._attempts:
                events += self._attempts.pop(key).read()
            events.append(event)
        for tail in self._attempts.values():
            events += tail.read()
        return events


@dataclass
class Active:
    """A stage under way."""

    title: str
    kind: str
    slot: str
    since: float
    done: int = 0
    total: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass
class Progress:
    """Where a run stands, from its events alone. Times are epoch seconds."""

    total: int
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    active: dict[str, Active] = field(default_factory=dict)
    slots: int = 1
    began: float = 0.0
    _seconds: dict[str, float] = field(default_factory=dict)  # stage → what it took here

    @staticmethod
    def of(run: Run, done: frozenset[str]) -> Progress:
        return Progress(total=len(run.plan.stages), done=set(done))

    def take(self, event: Event) -> None:
        kind, data, t = event["kind"], event["data"], float(event["t"])
        if event["stage"]:
            self._take_from_stage(event["stage"], kind, data)
        elif "key" in data:
            self._take_from_supervisor(str(data["key"]), kind, data, t)
        elif kind == "start":
            self.began = t
            self.slots = max(1, int(data.get("slots", 1)))
        elif kind == "warning":
            self.warnings.append(str(data.get("text", "")))

    def _take_from_supervisor(self, key: str, kind: str, data: dict[str, Any], t: float) -> None:
        if kind == "start":
            self.active[key] = Active(
                str(data.get("title", "")), str(data.get("kind", "")), str(data.get("slot", "")), t
            )
        elif kind == "end":
            self.active.pop(key, None)
            outcome = data.get("outcome")
            if outcome == "failed":
                self.failed[key] = str(data.get("reason", ""))
            elif outcome != "stopped":
                self.done.add(key)
                if outcome != "cached":
                    self._seconds[key] = float(data.get("seconds") or 0.0)

    def _take_from_stage(self, key: str, kind: str, data: dict[str, Any]) -> None:
        active = self.active.get(key)
        if active is None:
            return
        if kind == "progress":
            active.done, active.total = int(data.get("done") or 0), int(data.get("total") or 0)
        elif kind == "metric" and isinstance(data.get("value"), int | float):
            active.metrics[str(data.get("name"))] = float(data["value"])
        elif kind == "probe":
            active.probe = data

    def seconds_left(self, run: Run) -> float | None:
        """An estimate from what stages took per TEE, or those without TEE each; of a kind that
        has not been seen yet, from all kinds. None before anything can be said."""
        costs: dict[str, tuple[float, float]] = {}  # kind, "tee" or "each" → seconds, units
        stages = run.plan.stages
        for key, seconds in self._seconds.items():
            if key in stages:
                kind, unit = stages[key].kind, stages[key].tee or 1.0
                for name in (kind, "tee" if stages[key].tee else "each"):
                    before = costs.get(name, (0.0, 0.0))
                    costs[name] = before[0] + seconds, before[1] + unit
        left = 0.0
        for key, stage in stages.items():
            if key in self.done or key in self.failed:
                continue
            known = costs.get(stage.kind) or costs.get("tee" if stage.tee else "each")
            if known is None and not stage.tee:
                continue  # small ones, of which nothing is known yet
            if known is None:
                return None
            active = self.active.get(key)
            todo = 1 - active.share if active else 1.0
            left += known[0] / known[1] * (stage.tee or 1.0) * todo
        return left / self.slots if costs else None
