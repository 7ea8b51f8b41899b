"""Which kinds of machine computed a run: the model of the CPU or GPU that a result's record names.

Equal keys promise equal bits on one kind only; another CPU or GPU rounds otherwise. So tables say when
their rows come from several, and `compute.one_kind = true` refuses that: before a run starts, where
the store and the devices here can tell, and in every worker (`claim`), where they cannot, as on a
cluster. What counts is craft, train, unlearn, audit and trial (HEAVY); what only picks rows is the
same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.jobs.devices import Resources
from engine.jobs.inventory import gpus
from engine.jobs.records import Record
from engine.jobs.runs import Run
from engine.jobs.stage_warnings import one_line
from engine.jobs.store import Store
from engine.jobs.survey import survey
from engine.spec.errors import BadInput
from engine.spec.planned import HEAVY, Plan

if TYPE_CHECKING:
    from engine.spec.experiment import Compute

CPUINFO = Path("/proc/cpuinfo")
UNKNOWN = "unknown (older records do not name it)"
CLAIM = "machine.json"  # in a run's folder: the kind that its workers must be of
LONGEST = 120  # characters of a model's name
NAMED = 3  # stages in a refusal


@cache
def cpu_kind() -> str:
    """The CPU's model and, as virtual machines hide much of it, its widest vectors, which decide how
    sums are rounded: "AMD EPYC 9654 (AVX-512)". Costs a millisecond, once."""
    found, flags = "", ""
    with contextlib.suppress(OSError), CPUINFO.open(encoding="utf-8", errors="replace") as file:
        told = _first_processor(file)
        arm = " ".join(told.get(f"CPU {part}", "") for part in ("implementer", "part")).strip()
        found = told.get("model name") or told.get("cpu") or (arm and f"ARM {arm}")
        flags = told.get("flags") or told.get("Features") or ""
    if not found and platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            words = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=5)
            found = done.stdout
    found = one_line(found or platform.processor() or platform.machine())[:LONGEST] or "CPU"
    vectors = {"avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE"}
    widest = next((name for flag, name in vectors.items() if flag in flags.split()), "")
    return f"{found} ({widest})" if widest else found


def _first_processor(lines: Iterable[str]) -> dict[str, str]:
    told: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon and told:
            break  # the first of many, all alike
        told[name.strip()] = value.strip()
    return told


def kind_in(env: Mapping[str, Any]) -> str | None:
    """The kind of machine that a record's `env` names; None in records of before."""
    told = env.get("gpu" if env.get("device") == "cuda" else "cpu")
    return one_line(told)[: 2 * LONGEST] or None if isinstance(told, str) else None


def kinds_here(resources: Resources) -> dict[str, str]:
    """Slot → kind, of the places a run may use on this machine. Raises BadInput as `slots` does."""
    names = {gpu.uuid: one_line(gpu.name) for gpu in gpus()} if resources.device != "cpu" else {}
    return {
        slot.name: cpu_kind() if slot.gpu is None else names.get(slot.gpu, slot.gpu)
        for slot in resources.slots()
    }


# --- what a table tells ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """One kind of machine behind the rows of a table. `rows` are (run, method), in the table's order;
    `stages` counts those behind the rows; `kind` is None where records do not name it."""

    kind: str | None
    stages: int
    rows: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        rows = [{"run": run, "method": method} for run, method in self.rows]
        return {"machine": self.kind, "stages": self.stages, "rows": rows}


def machines_of(found: Sequence[Run]) -> list[Machine]:
    """The kinds behind all rows of some runs: a row counts for each that computed a stage it comes
    from. Raises BadInput if a plan cannot be read."""
    rows: dict[str | None, dict[tuple[str, str], None]] = {}
    counted: dict[str | None, set[str]] = {}
    for run in found:
        own = _kinds(run.plan, run.store)
        behind: dict[str, frozenset[str | None]] = {}
        for key, stage in run.plan.stages.items():  # sources come first
            sources = (
                behind.get(key, frozenset()) for key in (*stage.inputs.values(), *stage.after)
            )
            behind[key] = frozenset().union({own[key]} if key in own else (), *sources)
        for cell in run.plan.cells:
            if cell.key in own:
                for kind in behind[cell.key]:
                    rows.setdefault(kind, {})[run.id, cell.method] = None
        for key, kind in own.items():
            counted.setdefault(kind, set()).add(key)
    return [Machine(kind, len(counted[kind]), tuple(told)) for kind, told in rows.items()]


def _kinds(plan: Plan, store: Store) -> dict[str, str | None]:
    """Stage → the kind that computed it, of those that are done and whose bytes depend on it."""
    heavy = (key for key, stage in plan.stages.items() if stage.kind in HEAVY)
    return {
        key: kind_in(record.env)
        for key, record in store.records(heavy).items()
        if record.na is None
    }


def mixed(machines: Sequence[Machine]) -> str:
    """One sentence where rows come from several kinds; else ""."""
    if len(machines) < 2:
        return ""
    several = len({run for machine in machines for run, _ in machine.rows}) > 1
    told = []
    for machine in machines:
        of_run: dict[str, list[str]] = {}
        for run, method in machine.rows:
            of_run.setdefault(run, []).append(method)
        lists = [
            f"{run} {', '.join(names)}" if several else ", ".join(names)
            for run, names in of_run.items()
        ]
        told.append(f"{machine.kind or UNKNOWN}: {'; '.join(lists)}")
    known = all(machine.kind is not None for machine in machines)
    how = f"were computed on {len(machines)}" if known else "may have been computed on different"
    return f"rows {how} kinds of machine, which round differently: " + " | ".join(told)


# --- compute.one_kind -----------------------------------------------------------------------------


def check_one_kind(plan: Plan, store: Store, compute: Compute, resources: Resources) -> None:
    """Raise BadInput where `compute.one_kind` forbids to begin: results of several kinds in the store,
    of another kind than this machine's, or devices of several kinds here.

    Results whose record names no machine count as a kind of their own.
    """
    if not compute.one_kind:
        return
    found = survey(plan, store)
    stored = _stored(plan, found.ok)
    if len(stored) > 1:
        told = "; ".join(f"{kind or UNKNOWN}: {_titles(titles)}" for kind, titles in stored.items())
        raise _refusal(f"the store has results of {len(stored)} kinds of machine: {told}")
    if compute.backend == "slurm" or not any(stage.kind in HEAVY for stage in found.missing):
        return
    here = kinds_here(resources)
    if len(set(here.values())) > 1:
        told = ", ".join(f"{slot} {kind}" for slot, kind in here.items())
        raise BadInput(
            f"compute.one_kind = true: the devices here are of {len(set(here.values()))} kinds "
            f"({told}); name those of one, as in --device cuda:0."
        )
    [kind] = set(here.values())
    for other, titles in stored.items():
        if other != kind:
            raise _refusal(
                f"this machine is {kind}, and the store has results of {other or UNKNOWN}: "
                f"{_titles(titles)}"
            )


def _refusal(why: str) -> BadInput:
    return BadInput(
        f"compute.one_kind = true: {why}. Go on where those were computed, compute all of it in a home "
        "of its own (--home DIR), or set compute.one_kind = false."
    )


def _stored(plan: Plan, records: Mapping[str, Record]) -> dict[str | None, list[str]]:
    """Kind → titles of the stages that are done."""
    stored: dict[str | None, list[str]] = {}
    for key, record in records.items():
        if plan.stages[key].kind in HEAVY and record.na is None:
            stored.setdefault(kind_in(record.env), []).append(plan.stages[key].title)
    return stored


def _titles(titles: Sequence[str]) -> str:
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return ", ".join(titles[:NAMED]) + more


def renew_claim(run: Run) -> None:
    """What a session of a run with `compute.one_kind` begins with: the kind that its results so far
    are of is the one that it goes on with. Whose workers begin first decides otherwise."""
    path = run.folder / CLAIM
    path.unlink(missing_ok=True)
    if run.one_kind:
        for kind in set(_kinds(run.plan, run.store).values()) - {None}:
            claim(run.folder, str(kind))


def claim(run_folder: Path, kind: str) -> str:
    """The kind that this run is computed on: `kind`, unless another was faster."""
    path = run_folder / CLAIM
    temporary = path.with_name(f".{CLAIM}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_text(json.dumps({"v": 1, "kind": kind}) + "\n", encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # whole, or not at all
        return str(json.loads(path.read_bytes())["kind"])
    finally:
        temporary.unlink(missing_ok=True)
