"""Runs on disk: what was asked, what was planned, what happened. Every status comes from files.

runs/<id>/experiment.toml   what was asked, every default written out, paths absolute
runs/<id>/paths.json        those of them that were written otherwise (asked.py)
runs/<id>/plan.json         its stages and cells
runs/<id>/run.json          name, device, versions
runs/<id>/events.jsonl      the supervisor's view: stages started and ended
runs/<id>/session.json      how the last session ended
runs/<id>/supervisor.lock   flocked by a living supervisor
runs/<id>/machine.json      with compute.one_kind: the kind of machine that computes it
runs/<id>/slurm/<n>/        jobs on a cluster (backends/jobs.py)
runs/<id>/{paused,stop,retry}     what it was asked to do (orders.py)
runs/<id>/attempts/<key16>.<n>/   events.jsonl, output.log, exit.json of one attempt
runs/<id>/imported.json, store/   only of a run that was computed elsewhere (imports.py)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.jobs import bounded_json
from engine.jobs.backends.jobs import JobsState, submissions
from engine.jobs.events import strip_control
from engine.jobs.home import Home, make_private, write_atomic, write_json
from engine.jobs.lease import Identity, process_identity
from engine.jobs.orders import Order
from engine.jobs.store import Store
from engine.spec.errors import BadInput, unknown
from engine.spec.keys import canonical, digest
from engine.spec.margins import Margins, changed, read_margins
from engine.spec.planned import PINS, REPORTS

if TYPE_CHECKING:  # pydantic costs half a second, which a list of runs can do without
    from engine.spec.experiment import Experiment
    from engine.spec.planned import Plan

RunState = Literal["queued", "running", "paused", "stopped", "failed", "done", "lost"]
ENDS: tuple[RunState, ...] = ("done", "failed", "stopped", "paused")  # of a session
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
ATTEMPT = re.compile(r"[0-9a-f]{16}\.[0-9a-z]{1,20}")
IMPORTED = "imported.json"
# What reading one run of a list may raise, whatever its files say: it gets a line that says why, and
# the others theirs. BadInput is what is expected; the others are what nobody has thought of.
NOT_SHOWN = (BadInput, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
             RecursionError, AssertionError)  # fmt: skip
NAMED = 10  # runs that a message names
LONGEST = 1_000  # characters of a reason
MADE = 10.0  # seconds that making a run's folder takes at the very most


@dataclass(frozen=True)
class Run:
    """One run's folder. The same experiment in the same home is the same run."""

    home: Home
    id: str

    @property
    def folder(self) -> Path:
        return self.home.runs / self.id

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @cached_property
    def store(self) -> Store:
        if self.imported is not None:
            return Store(self.folder / "store", excerpt=True)
        return Store(self.home.store)

    @cached_property
    def imported(self) -> dict[str, Any] | None:
        """Where a run comes from that was not computed here: `run` and `host`; else None."""
        if not os.path.lexists(self.folder / IMPORTED):
            return None
        from engine.jobs import schema

        unknown = {"run": self.id, "host": "another machine"}
        with contextlib.suppress(BadInput):
            found = self._json(IMPORTED)
            if schema.fits(schema.IMPORTED, found):
                return unknown | found
        return unknown

    @cached_property
    def facts(self) -> dict[str, Any]:
        """run.json. Raises BadInput if it cannot be read, or could not be shown."""
        from engine.jobs import schema

        facts = self._json("run.json")
        version = facts.get("v")
        if isinstance(version, int) and version > schema.FORMAT:
            by = strip_control(str(facts.get("chelate") or f"format {version}"))[:40]
            raise BadInput(f"run {self.id}: was written by a newer chelate ({by}).")
        self._fitting(schema.RUN, facts, "run.json")
        return facts

    @cached_property
    def plan(self) -> Plan:
        """Raises BadInput if plan.json cannot be read."""
        from engine.jobs import schema
        from engine.spec.planned import Plan

        found = self._json("plan.json")
        self._fitting(schema.PLAN, found, "plan.json")
        return Plan.from_json(found)

    def _fitting(self, check: Callable[[Any], None], value: Any, name: str) -> None:
        try:
            check(value)
        except ValueError as error:
            raise BadInput(
                f"run {self.id}: {name} is of another version or damaged: {error}."
            ) from None

    @cached_property
    def experiment(self) -> Experiment:
        from engine.spec.presets import read_toml, validate

        path = self.folder / "experiment.toml"
        return validate(read_toml(path), where=str(path))

    @cached_property
    def margins(self) -> Margins:
        """What its preset sets in place of the margins that audits ship, read without pydantic.

        Raises BadInput if it cannot be read: verdicts by other margins would be another run's.
        """
        path = self.folder / "experiment.toml"
        try:
            asked = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise BadInput(f"run {self.id}: experiment.toml cannot be read: {why}.") from None
        return read_margins(asked, f"run {self.id}: experiment.toml")

    @cached_property
    def checkpoint_seconds(self) -> float | None:
        """compute.checkpoint_seconds, read without pydantic; None if it cannot be read."""
        try:
            return float(self._compute["checkpoint_seconds"])
        except (ValueError, KeyError, TypeError):
            return None

    @cached_property
    def one_kind(self) -> bool:
        """compute.one_kind, read without pydantic."""
        return self._compute.get("one_kind") is True

    @cached_property
    def _compute(self) -> dict[str, Any]:
        try:
            told = tomllib.loads((self.folder / "experiment.toml").read_text("utf-8"))["compute"]
        except (OSError, ValueError, KeyError):
            return {}
        return told if isinstance(told, dict) else {}

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = bounded_json.read(self.folder / name)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise BadInput(f"run {self.id}: {name} cannot be read: {why}.") from None
        if not isinstance(found, dict):
            raise BadInput(f"run {self.id}: {name} holds no table.")
        return found

    # --- state -----------------------------------------------------------------------------------

    def supervised(self) -> bool:
        """Whether somebody computes it, or will: a supervisor here, or jobs on a cluster, which may
        still wait in its queue."""
        return self.supervised_here() or self._on_cluster()[0] in ("queued", "running")

    def _on_cluster(self) -> tuple[JobsState | None, str]:
        """How the latest submission to a cluster stands; None unless that is the latest word."""
        if not _there(self.folder / "slurm") or _there(self.folder / "session.json"):
            return None, ""
        found = submissions(self.folder)
        return found[-1].state(Order.STOP.given(self.folder)) if found else (None, "")

    def supervised_here(self) -> bool:
        """Whether a supervisor lives on this machine: it holds the lock as long as it does."""
        try:
            descriptor = os.open(self.folder / "supervisor.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def session(self) -> dict[str, Any]:
        """How the last session ended; {} if none ever did."""
        from engine.jobs import schema

        try:
            found = bounded_json.read(self.folder / "session.json", bounded_json.SMALL)
        except (OSError, ValueError):
            return {}
        return found if schema.fits(schema.SESSION, found) else {}

    def state(self) -> RunState:
        if self.supervised_here():
            return "running"
        cluster, _ = self._on_cluster()
        if cluster is not None:
            return cluster  # type: ignore[return-value]
        outcome = self.session().get("outcome")
        if outcome in ENDS:
            return outcome  # type: ignore[no-any-return]
        if Order.PAUSE.given(self.folder):
            return "paused"
        return "lost" if _there(self.events) else "queued"

    def reason(self) -> str:
        """Why it is in its state, in one line for people; "" where nothing need be said."""
        state = self.state()
        if state == "running":
            orders = [order for order in (Order.STOP, Order.PAUSE) if order.given(self.folder)]
            return orders[0].told if orders else ""
        cluster, why = self._on_cluster()
        if cluster is not None:
            return _line(why)
        told = str(self.session().get("reason") or "")
        if state in ("lost", "paused") and not told:
            told = self._lost()
        return _line(told)

    def _lost(self) -> str:
        """What became of a supervisor that did not say how it ended."""
        see = f"see {self.folder / 'supervisor.log'}"
        try:
            last = Identity.parse(self._json("supervisor.json"))
        except (BadInput, KeyError, TypeError, ValueError, OverflowError):
            return f"its supervisor is gone; {see}"
        here = process_identity()
        if last.host != here.host:
            return f"its supervisor on {last.host} is gone; {see}"
        if last.boot_id != here.boot_id:
            return "the machine was restarted under its supervisor"
        return f"its supervisor (pid {last.pid}) was killed or crashed; {see}"

    def exits(self, keys: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Stage key → exit.json of its latest attempt in this run; of `keys` only, if given."""
        from engine.jobs import schema

        latest: dict[str, dict[str, Any]] = {}
        # A large run has thousands of attempts, few of which matter.
        starts = None if keys is None else {key[:16] for key in keys}
        for folder in self.attempts():
            if starts is not None and folder.name.partition(".")[0] not in starts:
                continue
            try:
                found = bounded_json.read(f"{folder.path}/exit.json", bounded_json.SMALL)
                schema.EXIT(found)
                key = found["stage"]
                if key not in latest or latest[key]["attempt"] < found["attempt"]:
                    latest[key] = found
            except (OSError, ValueError, KeyError):
                continue
        return latest

    def forget_failures(self) -> None:
        """What failed is computed again: from now on it has not failed."""
        for folder in self.attempts():
            path = Path(folder.path, "exit.json")
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if bounded_json.read(path, bounded_json.SMALL).get("outcome") == "failed":
                    path.rename(path.with_name("exit.before.json"))

    def attempts(self) -> list[os.DirEntry[str]]:
        """The folders of all attempts at its stages here, in no order."""
        try:
            with os.scandir(self.folder / "attempts") as folders:
                return list(folders)
        except OSError:
            return []


def attempt_folder(run: Run, key: str, attempt: int) -> Path | None:
    """Where an attempt at a stage is told: in this run or, of a result that the store had already,
    in the run that made it. None if nobody tells it (any more).

    An imported run tells of its own attempts only, and never of another run's.
    """
    name = f"{key[:16]}.{attempt}"
    own = run.folder / "attempts" / name
    if own.is_dir():
        return own
    if run.imported is None:
        with contextlib.suppress(OSError), os.scandir(run.home.runs) as folders:
            for folder in folders:
                found = Path(folder.path, "attempts", name)
                if found.is_dir() and not Path(folder.path, IMPORTED).exists():
                    return found
    return None


def create(
    home: Home, name: str, experiment: Experiment, plan: Plan, device: str, origin: str
) -> Run:
    """The run of this plan in this home: made now, or found from last time."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "run"
    told = plan.to_json()
    # Margins as they are shipped are no part of it, written out or not: runs of before had no others.
    margins = changed(experiment.verdicts)
    decisive = [sorted(plan.stages), told["cells"], *([margins] if margins else [])]
    run = Run(home, f"{slug}-{digest(decisive)[:10]}")
    with home.plans():
        _write(run, name, experiment, told, device, origin)
    return run


def _write(
    run: Run, name: str, experiment: Experiment, plan: dict[str, Any], device: str, origin: str
) -> None:
    from engine.jobs.asked import PATHS, paths_of
    from engine.spec.experiment import in_place
    from engine.spec.presets import to_toml

    as_written, experiment = experiment, in_place(experiment)
    make_private(run.folder / "attempts")
    # The same results may be asked for in other words: another title, data that moved.
    before = _told(run.folder / "plan.json")
    if not (run.folder / "run.json").exists() or not _same_plan(before, plan):
        write_atomic(run.folder / "experiment.toml", to_toml(experiment, full=True))
        write_json(run.folder / PATHS, paths_of(as_written))
        write_json(run.folder / "plan.json", plan)
        write_json(
            run.folder / "run.json",
            {
                "v": 1,
                "id": run.id,
                "name": name,
                "title": experiment.title,
                "origin": origin,
                "created": time.time(),
                "device": device,
                "chelate": version("chelate"),
            },
        )
    else:
        if any(before.get(told) != plan.get(told) for told in (REPORTS, PINS)):  # of before: none
            write_json(run.folder / "plan.json", plan)
        try:  # where and how is as asked last
            asked = Run(run.home, run.id).experiment.model_copy(
                update={"compute": experiment.compute}
            )
        except BadInput:
            asked = experiment
        path, text = run.folder / "experiment.toml", to_toml(asked, full=True)
        if not path.exists() or path.read_bytes() != text.encode():
            write_atomic(path, text)


def _told(path: Path) -> dict[str, Any]:
    """The plan that a run has; {} where it cannot be read."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _same_plan(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whatever they tell of the data, which decides nothing, and of versions, which keys hold."""
    decides_nothing = (REPORTS, PINS)
    bare = [{key: told[key] for key in told if key not in decides_nothing} for told in (one, other)]
    return canonical(bare[0]) == canonical(bare[1])


def find(home: Home, word: str) -> Run:
    """The run called `word`, or the only one whose id starts with it. Raises BadInput."""
    ids = [run.id for run in every(home)]
    if word in ids:
        return _readable(Run(home, word))
    matches = [name for name in ids if name.startswith(word)] if ID.fullmatch(word) else []
    if len(matches) == 1:
        return _readable(Run(home, matches[0]))
    if matches:
        named = ", ".join(sorted(matches)[:NAMED])
        more = f" and {len(matches) - NAMED:,} more" if len(matches) > NAMED else ""
        raise BadInput(f"run {word!r} is ambiguous: {named}{more}.")
    if not ids:
        raise BadInput(f"no runs in {home.root}: start one with `chelate run quickstart`.")
    raise BadInput(unknown("run", word, ids))


def _readable(run: Run) -> Run:
    """Raises BadInput for a run that this user may not look into."""
    if not readable(run):
        raise BadInput(
            f"run {run.id}: its folder cannot be read: Permission denied ({run.folder})."
        )
    return run


def readable(run: Run) -> bool:
    """Whether this user may look into a run's folder, which may be somebody else's."""
    return os.access(run.folder, os.R_OK | os.X_OK)


def every(home: Home) -> Iterator[Run]:
    """All runs of a home, latest first; also those that cannot be read, or not by this user, and what
    is left of one that somebody deleted in part. Who shows a list shows each of them as a line."""
    found = []
    with contextlib.suppress(OSError), os.scandir(home.runs) as folders:
        for folder in folders:
            if ID.fullmatch(folder.name) and (time_ := _changed(folder)) is not None:
                found.append((time_, folder.name))
    for _, name in sorted(found, key=lambda pair: pair[0], reverse=True):
        yield Run(home, name)


def listed(run: Run) -> bool:
    """Whether there is a run, or what is left of one, that a list shows."""
    return _changed(run.folder) is not None


def _changed(folder: os.DirEntry[str] | Path) -> float | None:
    """When a run's folder last changed; None of one that is none, or not yet."""
    changed = None
    try:
        changed = folder.stat().st_mtime
        Path(folder, "run.json").stat()
    except PermissionError:
        return time.time() if changed is None else changed
    except OSError as error:
        # run.json comes last: half a run is one being made, or one that was deleted in part.
        if changed is None or not isinstance(error, FileNotFoundError):
            return None
        parts = (Path(folder, name) for name in ("plan.json", "experiment.toml"))
        halved = any(map(os.path.lexists, parts)) and abs(time.time() - changed) > MADE
        return changed if halved else None
    return changed


def why_not_shown(error: BaseException) -> str:
    """Why a run is a line without facts, for people."""
    if isinstance(error, BadInput):
        return _line(str(error))
    if isinstance(error, OSError):
        return _line(f"cannot be read: {error.strerror or error}")
    return _line(f"cannot be shown: {type(error).__name__}: {error}")


def _there(path: Path) -> bool:
    """Whether there is such a file, as far as this user may know."""
    return os.path.exists(path)  # noqa: PTH110 (which raises where a folder is somebody else's)


def _line(text: str) -> str:
    """One line for people, safe to print."""
    line = " ".join(strip_control(text[: 2 * LONGEST]).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
