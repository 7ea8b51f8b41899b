"""What the store has of a run: which stages are done, how they came out, what they measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.jobs.records import Record
from engine.jobs.row_scores import RowScores, read_row_scores
from engine.jobs.runs import Run
from engine.jobs.store import Damaged, Store

if TYPE_CHECKING:
    from engine.spec.planned import Plan, Stage


@dataclass(frozen=True)
class Survey:
    """What the store has of a plan. `damaged` objects must be computed again."""

    ok: Mapping[str, Record]
    damaged: frozenset[str]
    missing: tuple[Stage, ...]

    @property
    def complete(self) -> bool:
        return not self.missing


def survey(plan: Plan, store: Store) -> Survey:
    """Check every stage's object: sizes and times, and content where those differ.

    Measurements, which no later stage would verify, are always checked by content. A stage below
    one that is n/a will never have an object and is not missing; nor will one that takes more of the
    steps that diverged.
    """
    ok: dict[str, Record] = {}
    damaged, missing = set(), []
    hopeless: set[str] = set()
    diverged: set[str] = set()
    for key, stage in plan.stages.items():
        if any(source in diverged for source in stage.after):
            diverged.add(key)
            hopeless.add(key)
        if any(source in hopeless for source in stage.inputs.values()):
            hopeless.add(key)
        if key in hopeless:
            continue
        state, record = store.look(key, deep=stage.kind == "audit")
        if record is not None:
            ok[key] = record
            if record.na is not None:
                hopeless.add(key)
            if record.diverged is not None:
                diverged.add(key)
            continue
        if state == "damaged":
            damaged.add(key)
        missing.append(stage)
    return Survey(ok, frozenset(damaged), tuple(missing))


class RunReader:
    """What `engine.results` asks of a run: outcomes, measurements and costs by stage key."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.exits = run.exits()

    def outcome(
        self, key: str
    ) -> tuple[Literal["ok", "n/a", "diverged", "failed", "missing"], str]:
        """Of an audit stage: its own, or that of the first input on the way that has no result."""
        record = self.run.store.record(key)
        stage = self.run.plan.stages[key]
        if record is not None:
            if record.na is not None:
                return "n/a" if record.diverged is None else "diverged", record.na
            try:
                if stage.kind == "audit":
                    self.measurements(key)
            except Damaged:
                return "missing", "damaged in the store: run again"
            return "ok", ""
        exit_ = self.exits.get(key)
        if exit_ is not None and exit_.get("outcome") == "failed":
            return "failed", str(exit_.get("reason", ""))
        for source in [*stage.inputs.values(), *stage.after]:
            outcome, reason = self.outcome(source)
            # A failed predecessor segment fails this one, and so does one that diverged; one that
            # was n/a was only too short.
            if outcome in ("failed", "diverged") or (
                outcome == "n/a" and source in stage.inputs.values()
            ):
                return outcome, reason
        return "missing", "not computed"

    def divergence(self, key: str) -> str:
        """Where the steps behind an audit diverged: "step 120"; "step 7 of train gaussian s3" where
        they are not those of the model under audit. Empty where none did."""
        own = _trajectory(self.run.plan, key)
        pending, seen = [key], {key}
        while pending:
            at = pending.pop(0)
            record = self.run.store.record(at)
            if record is not None and record.diverged is not None:
                title = self.run.plan.stages[at].title
                return f"step {record.diverged}" + ("" if at in own else f" of {title}")
            stage = self.run.plan.stages[at]
            sources = [s for s in (*stage.inputs.values(), *stage.after) if s not in seen]
            seen.update(sources)
            pending += sources
        return ""

    def measurements(self, key: str) -> dict[str, float | None]:
        told = json.loads(self.run.store.open_verified(key, "measurements.json"))
        return dict(told["metrics"])

    def row_scores(self, key: str) -> RowScores | None:
        """Of an audit that scores single rows; None where nothing of them can be read."""
        return read_row_scores(self.run, key)

    def told(self, key: str, name: str) -> dict[str, Any] | None:
        """A JSON artifact, or None where it is absent or damaged."""
        try:
            found = json.loads(self.run.store.open_verified(key, name))
        except (Damaged, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        """(TEE, seconds) of some stages, as stored when they were computed."""
        records = [record for record in map(self.run.store.record, keys) if record is not None]
        return sum(r.tee for r in records), sum(r.seconds for r in records)


def _trajectory(plan: Plan, key: str) -> set[str]:
    """The stage that made the model which audit `key` looks at, and those it went on from."""
    model = plan.stages[key].inputs.get("model")
    found: set[str] = set()
    pending = [] if model is None else [model]
    while pending:
        at = pending.pop()
        if at not in found:
            found.add(at)
            pending += plan.stages[at].after
    return found
