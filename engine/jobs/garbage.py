"""What of a home nobody needs: results that no plan names, deleted runs, what dead processes left.

A run that is kept (or was deleted seconds ago, and can be brought back) needs every stage of its
plan, so no object of those goes, whatever its age. Runs may start meanwhile: objects go while no
plan can appear (`Home.plans`), so a run either is seen, or finds them gone and computes them.
Each object goes by one rename, so a crash on the way leaves whole objects, and leftovers that the
next sweep takes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.jobs import bounded_json, trash
from engine.jobs.checkpoints import stages_with_checkpoints
from engine.jobs.home import Home
from engine.jobs.imports import half_imported
from engine.jobs.records import DONE
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.spec.errors import BadInput

BATCH = 100  # objects


@dataclass(frozen=True, slots=True)
class Object:
    """One result that no kept run needs. `age` in seconds since its commit."""

    key: str
    size: int  # bytes
    age: float


@dataclass(frozen=True)
class Waste:
    """`objects` go and `spare` could; `kept_bytes` are those of objects that kept runs need.

    `unknown` says whose plan cannot be read: then every object counts as needed.
    """

    objects: tuple[Object, ...]
    spare: tuple[Object, ...]
    kept: int
    kept_bytes: int
    leftovers: tuple[Path, ...]
    unknown: str = ""

    @property
    def size(self) -> int:
        """Bytes of the objects that go."""
        return sum(one.size for one in self.objects)

    @property
    def stays(self) -> int:
        """Bytes of the objects that stay."""
        return self.kept_bytes + sum(one.size for one in self.spare)


@dataclass
class Collector:
    """`look`, tell people, then `collect`.

    `older` (seconds since the commit) and `largest` (bytes of all objects, the oldest go first)
    each add to what goes; with neither only leftovers do.
    """

    home: Home
    older: float | None = None
    largest: int | None = None
    _plans: dict[Path, tuple[tuple[int, ...], frozenset[str]]] = field(default_factory=dict)

    def look(self) -> Waste:
        """Raises BadInput if a plan cannot be read and results are to go: then nobody knows what its
        run needs. Leftovers go all the same."""
        store = self._store()
        needed: frozenset[str] | None = None
        unknown = ""
        try:
            needed = self._needed()
        except BadInput as error:
            if self.older is not None or self.largest is not None:
                raise
            unknown = str(error)
        kept = kept_bytes = 0
        free: list[Object] = []
        now = time.time()
        for key in store.stored():
            size, since = _measure(store.path(key))
            if needed is None or key in needed:
                kept, kept_bytes = kept + 1, kept_bytes + size
            else:
                free.append(Object(key, size, now - since))
        free.sort(key=lambda one: (-one.age, one.key))
        going = self._choose(free, kept_bytes + sum(one.size for one in free))
        return Waste(
            tuple(free[:going]),
            tuple(free[going:]),
            kept,
            kept_bytes,
            tuple(self._leftovers(needed)),
            unknown,
        )

    def collect(self) -> Waste:
        """Look again, and remove what goes; returns that. Raises BadInput, OSError."""
        store = self._store()
        waste = self.look()
        gone: list[Object] = []
        for start in range(0, len(waste.objects), BATCH):
            # Not longer than this at a time: whoever starts a run waits.
            with self.home.plans(alone=True):
                needed = self._needed()
                batch = [o for o in waste.objects[start : start + BATCH] if o.key not in needed]
                aside = [path for one in batch if (path := store.set_aside(one.key)) is not None]
            gone += batch
            for path in aside:
                shutil.rmtree(path, ignore_errors=True)
        for path in waste.leftovers:
            shutil.rmtree(path, ignore_errors=True)
        store.sweep()
        return replace(waste, objects=tuple(gone))

    def _store(self) -> Store:
        if self.home.store.is_symlink():
            raise BadInput(
                f"{self.home.store} is a link: other homes may use that store, and gc cannot know "
                "what their runs need."
            )
        return Store(self.home.store)

    def _choose(self, free: list[Object], total: int) -> int:
        """How many of `free`, the oldest first, go."""
        going = 0
        for one in free:
            old = self.older is not None and one.age >= self.older
            if not (old or (self.largest is not None and total > self.largest)):
                break
            total -= one.size
            going += 1
        return going

    def _needed(self) -> frozenset[str]:
        """Every key of every plan. A plan that did not change is not read again."""
        found: set[str] = set()
        try:
            os.listdir(self.home.runs)  # noqa: PTH208  # glob finds nothing where nobody may look
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BadInput(
                f"{self.home.runs} cannot be read ({error.strerror}), so gc cannot tell which results "
                "runs need."
            ) from None
        for folder in _kept_runs(self.home):
            path = folder / "plan.json"
            try:
                stat = path.stat()
                mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                known = self._plans.get(path)
                if known is None or known[0] != mark:
                    known = self._plans[path] = (mark, _keys(bounded_json.read(path)))
            except FileNotFoundError:
                if (folder / "run.json").exists():
                    raise _unknown(folder, "is missing") from None
                continue  # no run, or not yet one
            except (OSError, ValueError, TypeError, KeyError) as error:
                why = getattr(error, "strerror", None) or error
                raise _unknown(folder, f"cannot be read ({why})") from None
            found |= known[1]
        return frozenset(found)

    def _leftovers(self, needed: frozenset[str] | None) -> Iterator[Path]:
        store = self._store()
        yield from store.leftovers()
        for key, folder in stages_with_checkpoints(store.checkpoints):
            # A run that asks for the stage meanwhile begins it anew: no result is lost.
            if needed is not None and key not in needed and not store.has(key):
                yield folder
        yield from (path for path, age in trash.deleted(self.home) if age > trash.UNDO)
        yield from half_imported(self.home)


def _kept_runs(home: Home) -> Iterator[Path]:
    """Folders of runs that count on this home's store; deleted ones while they can come back."""
    for path in home.runs.glob("*"):
        if (
            path.is_dir()
            and not path.name.startswith(".")
            and Run(home, path.name).imported is None
        ):
            yield path
    yield from (path for path, age in trash.deleted(home) if age <= trash.UNDO)


def _unknown(folder: Path, what: str) -> BadInput:
    return BadInput(
        f"run {folder.name}: plan.json {what}, so gc cannot tell which results it needs; "
        f"`chelate rm {folder.name}` gives it up."
    )


def _keys(told: Any) -> frozenset[str]:
    return frozenset(str(stage["key"]) for stage in told["stages"])


def _measure(folder: Path) -> tuple[int, float]:
    """(bytes, when it was committed in epoch seconds) of an object; of a damaged one, its folder's
    time."""
    size, since = 0, 0.0
    with contextlib.suppress(OSError):
        since = folder.lstat().st_mtime
        with os.scandir(folder) as entries:
            for entry in entries:
                stat = entry.stat(follow_symlinks=False)
                size += stat.st_size
                if entry.name == DONE:
                    since = stat.st_mtime
    return size, since
