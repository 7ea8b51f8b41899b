"""One open run, read from its files: stages, curves, looks at the poison, log lines."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.viewmodel import ENDED, Curve, Look, OpenRun, RunRow, StageRow, Track
from console.watching.histograms import look_of_probe, look_of_scores, number
from console.watching.series import POINTS, Lines, Points
from console.watching.story import of_stage, of_supervisor
from console.watching.tracks import Route, longest_paths, routes, share_of
from console.watching.trajectory import TrajectoryTail
from console.watching.warnings import FeedWarnings
from engine.jobs.datasets import both_lines, data_sets_of
from engine.jobs.events import strip_control
from engine.jobs.follow import RunTail
from engine.jobs.runs import Run, attempt_folder
from engine.results import margins
from engine.spec.errors import BadInput

STEPPING = ("train", "unlearn")  # kinds of stages that may diverge
MOST = 1 << 19  # bytes of one file in one poll: what arrives elsewhere must not wait
LOOKS = 120  # kept of one track: when there are more, every other one goes
LITTLE = 4_000  # points kept of a curve nobody looks at
IDLE_BUDGET = 0.01  # seconds of a poll for what nobody asked for
METRIC_EVERY = 1.0  # seconds
SCORE = "score"  # the mean score of the probes, as a curve


class Feed:
    """`poll` reads what is new; `told` says what is known. Nothing here raises for bad files."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.problem = ""
        self.lines = Lines()
        self.warnings = FeedWarnings(run)
        self._stages: dict[str, StageRow] = {}
        self._routes: dict[str, Route] = {}
        self._route_of: dict[str, Route] = {}
        self._points: dict[tuple[str, str], Points] = {}
        self._looks: dict[str, list[Look]] = {}
        self._last: dict[str, dict[str, float]] = {}  # track → latest metrics
        self._ends: dict[str, float] = {}  # stage → its last step
        self._spans: dict[str, tuple[float, float]] = {}  # stage → first and last step it told
        self._tails: dict[str, TrajectoryTail] = {}  # attempts being read
        self._read: set[str] = set()  # attempts read to the end
        self._scored: set[str] = set()  # stages whose audit was looked for in vain or found
        self._wanted: tuple[str, ...] = ()
        self._metric = "loss"
        self._supervisor = RunTail(run)
        self._said: dict[str, float] = {}  # stage → when a metric of its was logged
        self._others: deque[str] = deque()  # attempts to read when there is time
        self._parents: dict[str, tuple[str, ...]] = {}
        self._rank: dict[str, float] = {}
        self._data: tuple[tuple[str, str], ...] = ()
        self._margins: tuple[str, ...] = ()
        self._load()
        self._look_at_data()
        with contextlib.suppress(BadInput, OSError, AttributeError, TypeError):  # Compare says it
            self._margins = tuple(margins.lines_of(self.run))

    def _load(self) -> None:
        try:
            plan = self.run.plan
            store = self.run.store
            for key, stage in plan.stages.items():
                title = strip_control(stage.title)
                state, reason = "stored" if store.has(key) else "waiting", ""
                if state == "stored":
                    self.warnings.stored(key)
                    record = store.record(key) if stage.kind in STEPPING else None
                    if record is not None and record.diverged is not None:
                        state, reason = "diverged", strip_control(record.na or "")
                self._stages[key] = StageRow(
                    key, stage.kind, title, state, reason=reason, tee=stage.tee
                )
                self._parents[key] = tuple({*stage.inputs.values(), *stage.after})
            self._rank = longest_paths(plan)
            self._routes = {route.id: route for route in routes(plan)}
        except (BadInput, OSError, AttributeError, TypeError) as error:
            self.problem = strip_control(f"its plan cannot be read: {error}")
        self._route_of = {key: route for route in self._routes.values() for key in route.stages}

    def _look_at_data(self) -> None:
        """What is known of the data: the plan knew little, the data stage tells everything."""
        try:
            self._data = both_lines(data_sets_of([self.run]))
        except (BadInput, OSError, AttributeError, TypeError):
            self._data = ()  # the plan's own problem is told already

    def want(self, tracks: tuple[str, ...], metric: str) -> None:
        """Whose curves and looks to read, the most wanted first. What runs is always read."""
        self._wanted, self._metric = tracks, metric

    # --- reading ---------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Read on; whether anything is new."""
        if not (self.run.folder / "run.json").exists():
            gone = "this run was deleted" if not self.run.folder.exists() else "run.json is gone"
            changed = self.problem != gone
            self.problem = gone
            return changed
        if self.problem in ("this run was deleted", "run.json is gone"):
            self.problem = ""
        changed = False
        for event in self._supervisor.read(MOST):
            self._hear_supervisor(event)
            changed = True
        for key in self._to_read():
            changed |= self._read_attempt(key)
        for name in self._wanted[:1]:
            changed |= self._read_scores(name)
        changed |= self.warnings.read(time.monotonic() + IDLE_BUDGET)
        return self._read_others() or changed

    def _read_others(self) -> bool:
        """A few attempts nobody asked for, so that the list shows how each model ended."""
        changed, until = False, time.monotonic() + IDLE_BUDGET
        while self._others and time.monotonic() < until:
            key = self._others.popleft()
            row = self._stages[key]
            if key in self._read or row.state == "running" or not row.attempt:
                continue
            changed |= self._read_attempt(key)
            if key not in self._read:  # a long one: the rest next time
                self._others.appendleft(key)
                break
        return changed

    @property
    def behind(self) -> bool:
        """Whether there is more to read right now."""
        busy = any(tail.behind for tail in self._tails.values())
        return busy or self._supervisor.behind or self.warnings.behind or bool(self._others)

    def _to_read(self) -> list[str]:
        """Stages under way, then those of the wanted tracks that have not been read."""
        keys = [key for key, row in self._stages.items() if row.state == "running"]
        for name in self._wanted:
            route = self._routes.get(name)
            keys += [key for key in (route.stages if route else []) if key not in self._read]
        return list(dict.fromkeys(keys))

    def _read_attempt(self, key: str) -> bool:
        row = self._stages[key]
        tail = self._tails.get(key)
        if tail is None:
            folder = self._attempt_folder(row)
            if folder is None:
                return False
            tail = self._tails[key] = TrajectoryTail(self.run, key, folder)
        events = tail.read(MOST)
        for event in events:
            self._hear_stage(key, event)
        if row.state != "running" and not tail.behind:
            self._read.add(key)
            del self._tails[key]
        return bool(events)

    def _attempt_folder(self, row: StageRow) -> Path | None:
        """Where the latest attempt at a stage is told: in this run, or, of a result the store had
        already, in the run that made it."""
        if row.attempt:
            return self.run.folder / "attempts" / f"{row.key[:16]}.{row.attempt}"
        if row.state not in ("stored", "diverged"):
            return None
        self._read.add(row.key)  # looked for once
        record = self.run.store.record(row.key)
        if record is None:
            return None
        return attempt_folder(self.run, row.key, record.attempt)

    def _hear_supervisor(self, event: dict[str, Any]) -> None:
        data, kind, t = event["data"], event["kind"], float(event["t"])
        self.lines.add(of_supervisor(kind, data, t))
        key = data.get("key")
        if not isinstance(key, str):
            if kind == "start":  # of a session: what an earlier one left open, it left for good
                for name, one in self._stages.items():
                    if one.state in ("running", "failed", "stopped"):
                        self._stages[name] = replace(one, state="waiting", slot="", reason="")
            return
        row = self._stages.get(key)
        if row is None:
            return
        if kind == "start":
            attempt = data.get("attempt")
            self._stages[key] = replace(
                row,
                state="running",
                slot=strip_control(str(data.get("slot", ""))),
                attempt=attempt if isinstance(attempt, int) else 0,
                since=t,
                done=0,
                total=0,
            )
            self._forget(key)
        elif kind == "end":
            outcome = str(data.get("outcome"))
            if outcome == "cached" and row.state in ENDED:
                return  # another job of this run found it
            state = {"na": "n/a", "cached": "stored"}.get(outcome, outcome)
            self._stages[key] = replace(
                row,
                state=state if state in (*ENDED, "failed", "stopped") else "done",
                seconds=number(data.get("seconds")) if data.get("seconds") is not None else 0.0,
                reason=strip_control(str(data.get("reason") or "")),
            )
            if key in self._route_of:
                self._others.append(key)
            # A short one may be over before anybody reads its events.
            for text in self.warnings.ended(key, row.attempt):
                self._log_warning(row, text, t)
            if row.kind == "data":
                self._look_at_data()

    def _forget(self, key: str) -> None:
        """A stage begins anew: what another attempt said of the same steps would double it."""
        self._tails.pop(key, None)
        self._read.discard(key)
        self._scored.discard(key)
        route, span = self._route_of.get(key), self._spans.pop(key, None)
        if route is not None and span is not None:
            looks = self._looks.get(route.id, [])
            looks[:] = [look for look in looks if not span[0] <= look.step <= span[1]]
            for name, points in self._points.items():
                if name[0] == route.id:
                    points.cut(*span)

    def _hear_stage(self, key: str, event: dict[str, Any]) -> None:
        data, kind, t = event["data"], event["kind"], float(event["t"])
        row = self._stages[key]
        # What led to a checkpoint had its lines at its time.
        own = event["attempt"] == row.attempt
        if row.state == "running" and own and kind == "warning":
            for text in self.warnings.heard(key, data.get("text")):
                self._log_warning(row, text, t)
        elif row.state == "running" and own and self._worth_a_line(key, kind, t):
            line = of_stage(kind, data, t, row.title)
            if line is not None:
                self.lines.add(line)
        if kind == "progress":
            done, total = number(data.get("done")), number(data.get("total"))
            if math.isfinite(done) and math.isfinite(total):
                self._stages[key] = replace(row, done=int(done), total=int(total))
                self._ends[key] = max(self._ends.get(key, 0.0), done)
        route = self._route_of.get(key)
        if route is None:
            return
        if kind in ("metric", "probe") and math.isfinite(number(data.get("step"))):
            self._reach(key, number(data.get("step")))
        if kind == "metric":
            name, step = strip_control(str(data.get("name"))), number(data.get("step"))
            if math.isfinite(step):
                self._point(route, name, step, number(data.get("value")))
                self._ends[key] = max(self._ends.get(key, 0.0), step)
        elif kind == "probe":
            look = look_of_probe(data)
            if look is not None:
                self._keep(route.id, look)
                self._point(route, SCORE, look.step, look.mean)
            else:
                self._plain_probe(route, data)

    def _log_warning(self, row: StageRow, text: str, t: float) -> None:
        line = of_stage("warning", {"text": text}, t, row.title)
        if line is not None:
            self.lines.add(line)

    def _reach(self, key: str, step: float) -> None:
        first, last = self._spans.get(key, (step, step))
        self._spans[key] = min(first, step), max(last, step)

    def _worth_a_line(self, key: str, kind: str, t: float) -> bool:
        """Of a stage's metrics, one a second: the curves have them all."""
        if kind != "metric":
            return True
        if 0 <= t - self._said.get(key, -math.inf) < METRIC_EVERY:
            return False
        self._said[key] = t
        return True

    def _keep(self, track: str, look: Look) -> None:
        """Probes that are too many get fewer from the start on; audits stay."""
        kept = self._looks.setdefault(track, [])
        if len(kept) >= LOOKS:
            kept[:-1] = [one for n, one in enumerate(kept[:-1]) if n % 2 or one.what != "probe"]
        kept.append(look)

    def _plain_probe(self, route: Route, data: dict[str, Any]) -> None:
        """A probe without a histogram: each of its numbers is a curve."""
        step, probe = number(data.get("step")), strip_control(str(data.get("name")))
        if not math.isfinite(step):
            return
        for name, value in data.items():
            if name not in ("step", "name", "count") and math.isfinite(number(value)):
                word = strip_control(name)
                self._point(route, probe if word in (probe, "value") else f"{probe} {word}", step,
                            float(value))  # fmt: skip

    def _point(self, route: Route, name: str, step: float, value: float) -> None:
        points = self._points.get((route.id, name))
        if points is None:
            if len(self._points) > 4_000:
                return
            points = self._points[route.id, name] = Points()
        points.limit = POINTS if route.id in self._wanted else LITTLE
        points.add(step, value)
        self._last.setdefault(route.id, {})[name] = value

    def _read_scores(self, name: str) -> bool:
        """The scores that finished audits of a track left, one audit a poll."""
        route = self._routes.get(name)
        if route is None:
            return False
        for number_, key in enumerate(route.stages):
            audit = route.audits.get(key)
            if audit is None or key in self._scored or self._stages[key].state == "running":
                continue
            if self._tails.get(key) is not None or not self.run.store.has(audit):
                continue
            from console.comparing import read_scores

            self._scored.add(key)
            scores = read_scores(self.run, audit)
            budget = route.budgets[number_]
            what = "audit" if budget is None else f"audit at {budget:g}"
            look = look_of_scores(scores, self._ends.get(key, float(number_)), what)
            if look is None:
                continue
            self._keep(route.id, look)
            self._looks[route.id].sort(key=lambda one: (one.step, one.what != "probe"))
            return True
        return False

    # --- telling ---------------------------------------------------------------------------------

    def told(self, row: RunRow | None) -> OpenRun:
        row = row or RunRow(self.run.id, self.run.id, state="deleted")
        curves = {}
        for name in self._wanted:
            points = self._points.get((name, self._metric))
            if points is not None:
                curves[name, self._metric] = Curve(name, self._metric, *points.arrays())
        looks = {n: tuple(self._looks[n]) for n in self._wanted[:1] if n in self._looks}
        names = list(dict.fromkeys(["loss", *(name for _, name in self._points)]))
        return OpenRun(
            row,
            tuple(self._stages.values()),
            self._queue(),
            tuple(self._track(route) for route in self._routes.values()),
            curves,
            looks,
            tuple(names),
            self.lines.told(),
            self.lines.start,
            not self._supervisor.behind,
            self.problem,
            self.warnings.told,
            self._data,
            self._margins,
        )

    def _queue(self) -> tuple[str, ...]:
        """What waits, in the order in which the supervisor hands it out: what can be done now,
        the longest way to the end first; then the rest."""
        waiting = [key for key, row in self._stages.items() if row.state == "waiting"]
        held = {
            key: sum(self._stages[p].state not in ENDED for p in self._parents.get(key, ())
                     if p in self._stages)
            for key in waiting
        }  # fmt: skip
        return tuple(sorted(waiting, key=lambda key: (held[key], -self._rank.get(key, 0.0))))

    def _track(self, route: Route) -> Track:
        rows = [self._stages[key] for key in route.stages]
        states = [row.state for row in rows]
        state = next((s for s in ("running", "failed", "stopped", "diverged") if s in states), "")
        if not state:
            ended = all(s in ENDED for s in states)
            state = ("n/a" if set(states) == {"n/a"} else "done") if ended else "waiting"
        begun = [n for n, row in enumerate(rows) if row.state != "waiting"]
        segment = states.index("running") if "running" in states else (begun[-1] if begun else 0)
        looks = self._looks.get(route.id)
        z = None
        if looks and looks[-1].count and math.isfinite(looks[-1].mean):
            z = looks[-1].mean * math.sqrt(looks[-1].count)
        return Track(
            id=route.id,
            label=route.label,
            title=route.title,
            role=route.role,
            method=route.method,
            seed=route.seed,
            stages=tuple(route.stages),
            budgets=tuple(route.budgets),
            state=state,
            share=share_of(rows),
            segment=segment,
            metrics=dict(self._last.get(route.id, {})),
            z=z,
        )
