"""`gc` and `verify`: what a home holds, what of it nobody needs, and whether it is whole."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from console.output import complain, say, say_json
from engine.jobs import runs
from engine.jobs.events import strip_control
from engine.jobs.garbage import Collector, Waste
from engine.jobs.home import Home, resolve_home
from engine.jobs.lease import Lease
from engine.jobs.store import Store
from engine.spec.errors import BadInput

SIZES = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
UNWHOLE = 1  # exit code


def size_of(text: str, option: str) -> int:
    """Bytes of "500M" or "20G" (powers of ten). Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if found is None:
        raise BadInput(f"{option} {text}: must be a size as in 500M, 20G or 1T.")
    return int(float(found[1]) * SIZES[found[2]])


def seconds_of(text: str, option: str) -> float:
    """Seconds of "12h" or "30d". Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise BadInput(f"{option} {text}: must be an age as in 45m, 12h, 30d or 4w.")
    return float(found[1]) * TIMES[found[2]]


def told_size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


# --- gc ------------------------------------------------------------------------------------------


def collect_garbage(
    home: Path | None, older_than: str | None, max_size: str | None, yes: bool, as_json: bool
) -> None:
    """Tell what would go; with `yes`, remove it. Raises BadInput."""
    place = Home(resolve_home(home))
    older = None if older_than is None else seconds_of(older_than, "--older-than")
    largest = None if max_size is None else size_of(max_size, "--max-size")
    collector = Collector(place, older, largest)
    found = collector.look()
    named = {one.key: _named(Store(place.store), one.key) for one in found.objects}
    if yes:
        try:
            found = collector.collect()
        except OSError as error:
            raise BadInput(f"gc: {error.strerror} ({error.filename}); what went is gone.") from None
    if as_json:
        say_json(_as_json(place, found, named, yes))
        return
    for kind, count, size in _by_kind(found, named):
        say(f"  {count:6} × {kind:9} {told_size(size)}")
    for path in found.leftovers:
        say(f"  {path.relative_to(place.root)}")
    going, spare = len(found.objects), len(found.spare)
    did = "removed" if yes else "would go"
    say(f"{going} results ({told_size(found.size)}) and {len(found.leftovers)} leftovers {did}.")
    said = f"; {spare} more ({told_size(sum(o.size for o in found.spare))}) that no run needs"
    say(
        f"{found.kept} results ({told_size(found.kept_bytes)}) are needed by runs and stay"
        f"{said if spare else ''}."
    )
    if spare and older is None and largest is None:
        say("--older-than 0s or --max-size SIZE takes those, too.")
    if largest is not None and found.stays > largest:
        complain(f"chelate: {told_size(found.stays)} stay, more than --max-size: runs need them.")
    if found.unknown:
        complain(f"chelate: {found.unknown}")
    if not yes and (going or found.leftovers):
        say("Nothing was removed yet: --yes does it.")


def _named(store: Store, key: str) -> tuple[str, str]:
    """(kind, title) of an object, for people."""
    record = store.record(key)
    return (strip_control(record.kind), strip_control(record.title)) if record else ("damaged", "")


def _by_kind(found: Waste, named: dict[str, tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
    counts: dict[str, list[int]] = defaultdict(list)
    for one in found.objects:
        counts[named[one.key][0] if one.key in named else "other"].append(one.size)
    for kind in sorted(counts):
        yield kind, len(counts[kind]), sum(counts[kind])


def _as_json(
    place: Home, found: Waste, named: dict[str, tuple[str, str]], removed: bool
) -> dict[str, Any]:
    objects = []
    for one in found.objects:
        kind, title = named.get(one.key, ("", ""))
        objects.append(
            {"key": one.key, "kind": kind, "title": title, "bytes": one.size, "age": one.age}
        )
    return {
        "home": str(place.root),
        "removed": removed,
        "objects": objects,
        "bytes": found.size,
        "leftovers": [str(path) for path in found.leftovers],
        "kept": {"objects": found.kept, "bytes": found.kept_bytes},
        "unknown": found.unknown,
        "spare": {"objects": len(found.spare), "bytes": sum(one.size for one in found.spare)},
    }


# --- verify --------------------------------------------------------------------------------------


def verify(run_id: str | None, home: Path | None, repair: bool, as_json: bool) -> int:
    """Hash every file of every object, or of those a run needs; the exit code."""
    place = Home(resolve_home(home))
    run = runs.find(place, run_id) if run_id is not None else None
    stores = [run.store] if run else [Store(place.store), *_imported(place)]
    wanted = None if run is None else set(run.plan.stages)
    checked, damaged = 0, []
    unreadable = _unlisted(place) if run is None else []
    if run is None:
        private = [one for one in runs.every(place) if not runs.readable(one)]
        unreadable += [(one.folder, "no access to this run") for one in private]
    for store in stores:
        unreadable += store.unlisted()
        for key in sorted(wanted if wanted is not None else store.stored()):
            state = store.check(key, deep=True)
            if state != "ok" and (why := store.barred(key)):
                unreadable.append((store.path(key), why))  # whole or damaged, nobody can say
                continue
            checked += state != "absent"  # else it went while we looked
            if state == "damaged":
                damaged.append(_Damaged(store, key))
    if not as_json:
        for path, why in unreadable:
            say(f"cannot be read: {path}: {why}")
    for one in damaged:
        if repair:
            one.repair()
        if not as_json:
            say(one.told)
    left = [one for one in damaged if not one.repaired]
    if as_json:
        told = [{"key": one.key, "title": one.title, "repaired": one.repaired} for one in damaged]
        barred = [{"path": str(path), "reason": why} for path, why in unreadable]
        document = {"home": str(place.root), "checked": checked, "damaged": told}
        say_json(document | {"unreadable": barred})
    else:
        whole = checked - len(damaged)
        say(f"{checked} results checked: {whole} whole, {len(damaged)} damaged.")
        if unreadable:
            say("Of what cannot be read nobody knows whether it is whole.")
        if left and not repair:
            say("--repair takes the damaged ones away; the next run computes them again.")
    return UNWHOLE if left or unreadable else 0


def _unlisted(place: Home) -> list[tuple[Path, str]]:
    """The folder of runs, where imported ones have their results, if nobody can look into it."""
    try:
        os.listdir(place.runs)  # noqa: PTH208
    except FileNotFoundError:
        return []
    except OSError as error:
        return [(place.runs, error.strerror or str(error))]
    return []


def _imported(place: Home) -> Iterator[Store]:
    for run in runs.every(place):
        with contextlib.suppress(
            *runs.NOT_SHOWN
        ):  # one that is not ours to read is not ours to check
            if run.imported is not None:
                yield run.store


class _Damaged:
    """A damaged object, and what can be done about it."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key, self.repaired, self._why = store, key, False, ""
        self.title = _named(store, key)[1]

    def repair(self) -> None:
        """Take it away, unless somebody is making it anew or nobody could."""
        if self.store.excerpt:
            self._why = "of an imported run: remove that, and import it again"
            return
        lease = Lease.acquire(self.store.leases, self.key)
        if lease is None:
            self._why = "in use: somebody computes it"
            return
        with lease:
            if self.store.check(self.key, deep=True) == "damaged":
                self.store.discard(self.key, "verify --repair: its content no longer fits its hash")
            self.repaired = True

    @property
    def told(self) -> str:
        where = self.store.path(self.key)
        how = ", taken away" if self.repaired else f", {self._why}" if self._why else ""
        return f"damaged: {self.title or self.key} ({where}){how}"
