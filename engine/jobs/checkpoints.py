"""Checkpoints: where a stage under way can go on from, whoever computes it next.

    checkpoints/<key>/<loop>.<step>.<attempt>/   what the loop saved, and CHECKPOINT.json

They lie beside the results and are keyed by the stage: another attempt, worker, run or node of the
same key goes on from them, and other code or another config never can. A checkpoint appears whole,
by a rename; the newest KEPT of each loop stay, the others go; at the commit all go. What a stage
has so far is never taken for its result: nothing reads this folder but the stage itself.

No lock is needed beyond the lease: a holder that lost it writes the same steps with the same bytes
under its own attempt's name.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.jobs.crashpoints import crash_here
from engine.jobs.events import EventWriter
from engine.jobs.home import fsync_folder, hash_file, make_private, read_plain, write_json
from engine.jobs.lease import check_key
from engine.jobs.stage_warnings import StageWarnings, parse_warnings
from engine.spec.errors import BadInput
from engine.spec.keys import digest

MANIFEST = "CHECKPOINT.json"
KEPT = 2  # of each loop: the newest may turn out damaged
DEATHS = 2  # of processes while they loaded a checkpoint, after which it is to blame
EVERY = 60.0  # seconds between two checkpoints of a stage, unless the preset says otherwise
WORTH = 5.0  # seconds of work that are worth a checkpoint when the stage is asked to stop
MOST_SHARE = 0.01  # of a stage's time that checkpoints may take
UNFINISHED = 3600.0  # seconds after which a folder that never got its name is a leftover

_NAME = re.compile(r"(?P<loop>[a-z][a-z-]{0,40})\.(?P<step>\d{1,18})\.(?P<attempt>\d{1,18})")
_TEMPORARY, _LOADING = ".tmp.", "loading."


class CannotResume(Exception):
    """A checkpoint was whole but could not be loaded; it is gone. Compute the stage anew, from the
    one before it or from the start: what was loaded so far is in an unknown state."""


class Progress(NamedTuple):
    """How far a stage had come: seconds of work, and what it had warned of."""

    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """One on the disk. `attempt` wrote it."""

    path: Path
    loop: str
    step: int
    attempt: int

    def verified(self, key: str) -> Progress:
        """What led here, of a checkpoint that is whole. Raises OSError or ValueError with the
        reason why it is not."""
        if len(list(self.path.glob(f"{_LOADING}*"))) >= DEATHS:
            raise ValueError(f"killed {DEATHS} attempts that loaded it")
        try:
            told = json.loads(read_plain(self.path / MANIFEST))
            expected = told.pop("sha256")
            mine = {"key": key, "loop": self.loop, "step": self.step, "attempt": self.attempt}
            if digest(told) != expected or any(told[name] != mine[name] for name in mine):
                raise ValueError("another checkpoint's manifest")
            for name, content in told["files"].items():
                if Path(name).name != name or hash_file(self.path / name) != content:
                    raise ValueError(f"{name} is not what was written")
            return Progress(float(told["seconds"]), parse_warnings(told.get("warnings", [])))
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
            raise ValueError(f"its manifest makes no sense ({problem})") from None

    @contextlib.contextmanager
    def being_loaded(self, attempt: int) -> Iterator[Path]:
        """The folder to load from. A process that dies in here leaves a mark on it."""
        mark = self.path / f"{_LOADING}{attempt}"
        with contextlib.suppress(OSError):
            mark.touch()
        try:
            yield self.path
        finally:
            with contextlib.suppress(OSError):
                mark.unlink()

    def drop(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Checkpoints:
    """Those of one stage, below `root`. BadInput if `key` is none."""

    def __init__(self, root: Path, key: str) -> None:
        self.key = check_key(key)
        self.folder = root / key

    def of(self, loop: str) -> list[Checkpoint]:
        """The newest first; none of them verified."""
        with contextlib.suppress(OSError):
            found = [_parse(path) for path in self.folder.iterdir()]
            mine = [one for one in found if one is not None and one.loop == loop]
            return sorted(mine, key=lambda one: (one.step, one.attempt), reverse=True)
        return []

    def save(
        self,
        loop: str,
        step: int,
        attempt: int,
        seconds: float,
        write: Callable[[Path], None],
        warnings: tuple[str, ...] = (),
    ) -> int:
        """Make what `write(folder)` writes the newest checkpoint of a loop, durably; its bytes.

        Raises OSError when the disk fails; the older ones are then untouched.
        """
        name = f"{loop}.{step:09d}.{attempt}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"name of a loop {loop!r}: use small letters and -")
        make_private(self.folder)
        draft = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        draft.mkdir(mode=0o700)
        try:
            write(draft)
            files = {path.name: hash_file(path, durable=True) for path in sorted(draft.iterdir())}
            size = sum((draft / name).stat().st_size for name in files)
            told = {
                "v": 1, "key": self.key, "loop": loop, "step": step, "attempt": attempt,
                "seconds": seconds, "files": files, "warnings": list(warnings),
            }  # fmt: skip
            write_json(draft / MANIFEST, told | {"sha256": digest(told)})
            crash_here("checkpoint written")
            # Ours and of the same step: only where this attempt had to begin anew.
            shutil.rmtree(self.folder / name, ignore_errors=True)
            draft.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        fsync_folder(self.folder)
        for old in self.of(loop)[KEPT:]:
            old.drop()
        return size

    def clear(self) -> None:
        """The stage is committed: nobody needs them any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Clock:
    """Seconds of work behind a stage: in this attempt, in those it goes on from, and `carried` ones
    of the snapshot before it."""

    def __init__(self, carried: float = 0.0) -> None:
        self._carried = carried
        self._zero = time.perf_counter()

    def own(self) -> float:
        return time.perf_counter() - self._zero

    def whole(self) -> float:
        return self.own() + self._carried

    def set(self, whole: float) -> None:
        """Go on where so many had passed; what this attempt did before is done twice."""
        self._zero = time.perf_counter() - max(0.0, whole - self._carried)


class Keeper:
    """When an attempt keeps a checkpoint, and from which one it goes on.

    `elsewhere` tells errors of the device from those of the checkpoint that is loaded onto it.
    `warnings` of the stage go into its checkpoints, for whoever goes on from one does not come by
    the steps again at which they were given.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        attempt: int,
        events: EventWriter,
        clock: Clock,
        every: float,
        elsewhere: Callable[[Exception], bool] = lambda error: False,
        warnings: StageWarnings | None = None,
    ) -> None:
        self._checkpoints = checkpoints
        self._attempt = attempt
        self._events = events
        self._clock = clock
        self._every = every
        self._elsewhere = elsewhere
        self._warnings = warnings or StageWarnings(events)
        self._last = time.monotonic()  # when one was kept or loaded
        self._cost = 0.0  # seconds that the last one took
        self._refused = False  # whether the disk did not take the last one

    def due(self, stopping: bool) -> bool:
        lost = time.monotonic() - self._last
        if stopping:
            return lost > max(min(WORTH, self._every), self._cost)
        return lost > max(self._every, self._cost / MOST_SHARE)

    def keep(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        """Keep one now. Where the disk has no room the stage goes on, and the older ones stay.

        What else `save` raises passes through; the next one is due as if this one had been kept.
        """
        began = time.monotonic()
        try:
            seconds, warned = self._clock.whole(), self._warnings.texts
            size = self._checkpoints.save(loop, step, self._attempt, seconds, save, warned)
        except OSError as problem:
            if not self._refused:  # once, not every minute for days
                told = problem.strerror or problem
                self._events.emit("warning", text=f"no checkpoint at step {step}: {told}")
            self._refused = True
        else:
            self._refused = False
            took = time.monotonic() - began
            self._events.emit("checkpoint", loop=loop, step=step, bytes=size, seconds=took)
        finally:
            self._last = time.monotonic()
            self._cost = self._last - began

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        """Load the newest that is whole; its step. Raises CannotResume where that fails."""
        for found in self._checkpoints.of(loop):
            name = f"the checkpoint at step {found.step}"
            try:
                progress = found.verified(self._checkpoints.key)
            except (OSError, ValueError) as problem:
                found.drop()
                self._events.emit("warning", text=f"{name} is damaged and left out: {problem}")
                continue
            try:
                with found.being_loaded(self._attempt) as folder:
                    load(folder)
            except Exception as problem:
                if self._elsewhere(problem):
                    raise
                found.drop()
                told = f"{type(problem).__name__}: {problem}"
                told = f"{name} cannot be loaded and is left out: {told}"
                self._events.emit("warning", text=told)
                raise CannotResume(told) from problem
            self._clock.set(progress.seconds)
            for text in progress.warnings:
                self._warnings.give(text)
            self._last = time.monotonic()
            self._events.emit("checkpoint", loop=loop, step=found.step, resumed=found.attempt)
            return found.step
        return None


def stages_with_checkpoints(root: Path) -> Iterator[tuple[str, Path]]:
    """Key and folder of each."""
    with contextlib.suppress(OSError):
        for folder in root.iterdir():
            with contextlib.suppress(BadInput):  # a stranger's folder is not a key's
                yield check_key(folder.name), folder


def leftover_checkpoints(root: Path, done: Callable[[str], bool]) -> Iterator[Path]:
    """Those of stages that are `done`, and what killed writers left."""
    for key, folder in stages_with_checkpoints(root):
        if done(key):
            yield folder
            continue
        for draft in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                if time.time() - draft.stat().st_mtime > UNFINISHED:
                    yield draft


def _parse(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    return match and Checkpoint(path, match["loop"], int(match["step"]), int(match["attempt"]))
