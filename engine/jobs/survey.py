"""What the store has of a run: which stages are done, how they came out, what they measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.jobs import bounded_json, schema
from engine.jobs.records import Record
from engine.jobs.row_scores import RowScores, read_row_scores
from engine.jobs.runs import Run
from engine.jobs.store import Damaged, Store

if TYPE_CHECKING:
    from engine.spec.planned import Plan, Stage

Outcome = Literal["ok", "n/a", "diverged", "failed", "missing"]


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

    def outcome(self, key: str) -> tuple[Outcome, str]:
        """Of an audit stage: its own, or that of the first input on the way that has no result."""
        found: dict[str, tuple[Outcome, str]] = {}
        opened: set[str] = set()
        pending = [key]
        while pending:  # a plan may be thousands of stages deep, and each has many ways to it
            at = pending[-1]
            if at not in opened:
                opened.add(at)
                if ended := self._ended(at):
                    found[at] = ended
            if at in found:
                pending.pop()
                continue
            stage = self.run.plan.stages[at]
            sources = [*stage.inputs.values(), *stage.after]
            open_ = next((source for source in sources if source not in found), None)
            if open_ is None:
                found[at] = "missing", "not computed"
            elif open_ in opened:  # only a plan that nobody checked goes round in circles
                found[at] = "missing", "its plan goes round in circles"
            else:
                pending.append(open_)
                continue
            for source in sources:
                outcome, reason = found.get(source, ("missing", ""))
                # A failed predecessor segment fails this one, and so does one that diverged; one
                # that was n/a was only too short.
                if outcome in ("failed", "diverged") or (
                    outcome == "n/a" and source in stage.inputs.values()
                ):
                    found[at] = outcome, reason
                    break
        return found[key]

    def _ended(self, key: str) -> tuple[Outcome, str] | None:
        """Of a stage itself; None where it has not ended, and those before it may say why."""
        record = self.run.store.record(key)
        if record is not None:
            if record.na is not None:
                return "n/a" if record.diverged is None else "diverged", record.na
            try:
                if self.run.plan.stages[key].kind == "audit":
                    self.measurements(key)
            except Damaged:
                return "missing", "damaged in the store: run again"
            return "ok", ""
        exit_ = self.exits.get(key)
        if exit_ is not None and exit_.get("outcome") == "failed":
            return "failed", str(exit_.get("reason") or "")
        return None

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
        """Raises Damaged."""
        name = "measurements.json"
        try:
            found = bounded_json.parse(self.run.store.open_verified(key, name))
            schema.MEASUREMENTS(found)
        except ValueError as problem:
            raise Damaged(key, name) from problem
        return dict(found["metrics"])

    def row_scores(self, key: str) -> RowScores | None:
        """Of an audit that scores single rows; None where nothing of them can be read."""
        return read_row_scores(self.run, key)

    def told(self, key: str, name: str) -> dict[str, Any] | None:
        """A JSON artifact, or None where it is absent or damaged, or says what no stage does."""
        try:
            found = bounded_json.parse(self.run.store.open_verified(key, name))
        except (Damaged, ValueError):
            return None
        return found if schema.fits(schema.ARTIFACTS.get(name, schema.free), found) else None

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
