"""What the stages of runs warned of: from their records, so that what was cached or imported says it
again; of stages that have no result (yet), from the events of their latest attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from engine.jobs import bounded_json
from engine.jobs.events import kind_of_event
from engine.jobs.records import Record
from engine.jobs.runs import ATTEMPT, Run
from engine.jobs.stage_warnings import Tally, distinct
from engine.jobs.store import Damaged, Store
from engine.spec.data_report import warnings_in


def warnings_of(found: Iterable[Run]) -> Tally:
    """All warnings of some runs; a stage that several share counts once. Raises BadInput if a plan
    cannot be read."""
    tally = Tally()
    for run in found:
        unfinished = []
        for key in run.plan.stages:
            record = run.store.record(key)
            if record is None:
                unfinished.append(key)
            else:
                tally.add(key, recorded(run.store, record))
        for key, texts in _attempted(run, unfinished):
            tally.add(key, texts)
    return tally


def stored_warnings(store: Store, records: Mapping[str, Record]) -> Tally:
    """Those of stages that are done, by key."""
    tally = Tally()
    for key, record in records.items():
        tally.add(key, recorded(store, record))
    return tally


def recorded(store: Store, record: Record) -> tuple[str, ...]:
    """The warnings of a stage that is done.

    Records of older versions have none. Only data stages warned then, and what they warned of can
    be told from the counts that they left.
    """
    if record.warnings is not None:
        return record.warnings
    return _of_report(store, record.key) if record.kind == "data" else ()


def warnings_of_attempt(folder: Path) -> tuple[str, ...]:
    """Those an attempt has given so far, also the ones about itself only."""
    events = kind_of_event(folder / "events.jsonl", "warning")
    return distinct(str(event["data"].get("text") or "") for event in events)


def _of_report(store: Store, key: str) -> tuple[str, ...]:
    try:
        report = bounded_json.parse(store.open_verified(key, "data.json"))["report"]
        return distinct(text for text in warnings_in(report) if isinstance(text, str))
    except (Damaged, ValueError, TypeError, KeyError, AttributeError):
        return ()  # of an even older version, or not of ours


def _attempted(run: Run, keys: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the latest attempt at each of these stages warned of so far."""
    stages = {key[:16]: key for key in keys}
    latest: dict[str, tuple[int, str]] = {}
    if stages:
        for folder in run.attempts():
            start, _, number = folder.name.partition(".")
            if start in stages and ATTEMPT.fullmatch(folder.name) and number.isdecimal():
                latest[start] = max(latest.get(start, (0, "")), (int(number), folder.path))
    for start, key in stages.items():
        if start in latest:
            yield key, warnings_of_attempt(Path(latest[start][1]))
