"""`logs`: what a stage printed and what it reported, as it comes, safe to print."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from console.output import complain, say
from console.steering import found
from engine.jobs import bounded_json
from engine.jobs.events import EventTail, strip_control
from engine.jobs.lease import is_key
from engine.jobs.run_warnings import warnings_of_attempt
from engine.jobs.runs import Run, attempt_folder
from engine.spec.errors import BadInput
from engine.spec.planned import Stage

POLL = 0.2  # seconds
CHUNK = 1 << 18  # bytes
SHOWN = 10  # titles in an error
SHORTEST = 4  # digits of a key


def show_logs(run_id: str, word: str | None, home: Path | None, events: bool, follow: bool) -> None:
    """Raises BadInput if there is no such stage, more than one, or nothing to show."""
    run = found(run_id, home)
    if word is None:
        _show_supervisor(run, events, follow)
        return
    stage = stage_called(run, word)
    folder = latest_attempt(run, stage.key)
    if folder is None:
        raise BadInput(f"run {run.id}: {strip_control(stage.title)} has not been tried yet.")
    complain(f"{strip_control(stage.title)}, {stage.key[:16]}, attempt {folder.name[17:]}")
    name = "events.jsonl" if events else "output.log"
    shown = 0

    def under_way() -> bool:
        return _end(folder) is None and run.supervised()

    with contextlib.suppress(KeyboardInterrupt):
        for line in lines(folder / name, under_way if follow else never):
            say(line)
            shown += 1
    if not shown:
        complain("no events" if events else "it printed nothing; --events shows what it reported")
    if not events:
        for text in warnings_of_attempt(folder):
            complain(f"warning: {text}")
    end = _end(folder)
    if end is not None:
        reason = f": {end.get('reason')}" if end.get("reason") else ""
        complain(strip_control(f"{end.get('outcome')}{reason}"))


def _show_supervisor(run: Run, events: bool, follow: bool) -> None:
    """What the supervisor did, or with `events` everything it told."""
    from console.watching.story import event_line, of_supervisor

    tail = EventTail(run.events)
    if not run.events.exists():
        raise BadInput(f"run {run.id} has not begun: there is nothing to show.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            over = not (follow and run.supervised())
            for event in tail.read():
                line = of_supervisor(event["kind"], event["data"], event["t"])
                clock = time.strftime("%H:%M:%S", time.localtime(event["t"]))
                say(event_line(event) if events else f"{clock} {line.text}")
            if over:
                return
            time.sleep(POLL)


def stage_called(run: Run, word: str) -> Stage:
    """The stage whose title it is, whose key begins with it, or the only one in whose title it, or
    every word of it, is found. Raises BadInput."""
    stages = list(run.plan.stages.values())
    exact = [stage for stage in stages if word.lower() == stage.title.lower()]
    by_key = [
        stage for stage in stages
        if len(word) >= SHORTEST and is_key(word.ljust(64, "0")) and stage.key.startswith(word)
    ]  # fmt: skip
    words = word.lower().split()
    part = [stage for stage in stages if words and word.lower() in stage.title.lower()]
    some = [stage for stage in stages if words and all(w in stage.title.lower() for w in words)]
    for fit in (exact, by_key, part, some):
        if len(fit) == 1:
            return fit[0]
        if fit:
            titles = [f"{strip_control(stage.title)} ({stage.key[:8]})" for stage in fit]
            more = f" and {len(fit) - SHOWN} more" if len(fit) > SHOWN else ""
            raise BadInput(f"{word!r} names {len(fit)} stages: {', '.join(titles[:SHOWN])}{more}.")
    raise BadInput(
        f"run {run.id} has no stage {word!r}: give a title, words of it, or a key's start."
    )


def latest_attempt(run: Run, key: str) -> Path | None:
    """The folder of the last attempt in this run; else of the one that made what the store has."""
    own = [
        path for path in (run.folder / "attempts").glob(f"{key[:16]}.*")
        if path.name[17:].isdigit()
    ]  # fmt: skip
    if own:
        return max(own, key=lambda path: int(path.name[17:]))
    record = run.store.record(key)
    return attempt_folder(run, key, record.attempt) if record is not None else None


def never() -> bool:
    return False


def lines(path: Path, more: Callable[[], bool]) -> Iterator[str]:
    """The lines of a file, clean; waits for others as long as `more()`. Of a progress bar that
    repaints its line, the last state."""
    from console.watching.textlog import readable

    rest, offset = b"", 0
    while True:
        going_on = more()  # asked first: what is written before the end is read
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK):
                    offset += len(chunk)
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (readable(path, raw) for raw in whole)
                    if len(rest) > CHUNK:
                        yield readable(path, rest)
                        rest = b""
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}.") from None
        if not going_on:
            if rest:
                yield readable(path, rest)
            return
        time.sleep(POLL)


def _end(folder: Path) -> dict[str, Any] | None:
    for name in ("exit.json", "exit.before.json"):
        with contextlib.suppress(OSError, ValueError):
            told = bounded_json.read(folder / name, bounded_json.SMALL)
            return told if isinstance(told, dict) else None
    return None
