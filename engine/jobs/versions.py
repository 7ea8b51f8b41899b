"""Whether what is left of a run can be computed by this installation under the keys of its plan.

A run may be resumed by another virtual environment, or after an upgrade. Every worker looks at each
stage before it computes it; here a whole run is refused before anything starts, with the command
that plans it anew.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.jobs.home import resolve_home, write_json
from engine.jobs.runs import Run
from engine.jobs.survey import survey
from engine.spec.errors import BadInput
from engine.spec.planned import HEAVY, PINS, Stage

if TYPE_CHECKING:
    from engine.spec.experiment import Compute
    from engine.spec.planned import Plan

OF_THE_WORKER = ("device", "threads")  # these pins are for workers to look at


def check_versions(run: Run) -> None:
    """Raise BadInput unless every stage that is left has the key that it would be planned with here:
    with the torch, the other packages and the code of this installation. What the store has is fine
    as it is."""
    from engine.spec.pins import differences, in_words, pinned_here

    stages = run.plan.stages.values()
    here = cache(pinned_here)
    other: dict[str, dict[str, tuple[str | int, str | int]]] = {}
    for stage in stages:
        pins = {name: value for name, value in stage.pins.items() if name not in OF_THE_WORKER}
        if found := differences(pins, here):
            other[stage.key] = found
    if not other and all(stage.pins for stage in stages):
        return
    missing = survey(run.plan, run.store).missing
    _check_unpinned(run, [stage for stage in missing if not stage.pins])
    hit = [stage.key for stage in missing if stage.key in other]
    if hit:
        found = {name: both for key in hit for name, both in other[key].items()}
        planned, now = in_words(found)
        raise _refusal(run, f"was planned with {planned}, but here is {now}", len(hit))


def _refusal(run: Run, why: str, count: int) -> BadInput:
    return BadInput(
        f"run {run.id} {why}. {_stages(count)} left under its keys cannot be computed here. "
        f"`{command_anew(run)}` plans anew, with what is here."
    )


def _stages(count: int) -> str:
    return "The 1 stage" if count == 1 else f"The {count} stages"


# --- plans of before ------------------------------------------------------------------------------


def _check_unpinned(run: Run, missing: Sequence[Stage]) -> None:
    """The same for a plan that says no versions: planning it again must give the same keys. The
    pins that this yields are kept with the run, so that its workers look, too. Raises BadInput."""
    if not missing:
        return
    keys = {stage.key for stage in missing}
    unlike = keys
    for plan in _planned_again(run):
        unlike = min(unlike, keys - plan.stages.keys(), key=len)
        if not unlike:
            _keep_pins(run, {k: s.pins for k, s in plan.stages.items() if k in run.plan.stages})
            return
    why = _torch_of_before(run) or "was planned by another version of chelate or of a package"
    raise _refusal(run, why, len(unlike))


def _planned_again(run: Run) -> Iterable[Plan]:
    """The run's experiment planned here, once for each way in which "auto" may have been decided."""
    from engine.jobs.devices import fast_bf16
    from engine.spec.plan import make_plan

    kind = str(run.facts.get("device") or "cpu")
    fast = fast_bf16(kind)
    try:
        for way in (fast, not fast):
            yield make_plan(run.experiment, kind, str(run.folder / "experiment.toml"), way)
    except BadInput as error:
        raise BadInput(
            f"run {run.id}: its plan does not say with which versions it was made, and planning it "
            f"again, to find out whether they are those here, fails: {error}"
        ) from None


def _torch_of_before(run: Run) -> str:
    """What its results say of torch, where that is not the one here; else ""."""
    from engine.spec.keys import package_version

    here = package_version("torch")
    heavy = [stage.key for stage in run.plan.stages.values() if stage.kind in HEAVY]
    found = {str(r.env.get("torch")).partition("+")[0] for r in run.store.records(heavy).values()}
    told = ", ".join(sorted(found - {here.partition("+")[0], "None"}))
    return f"was computed with torch {told} so far, but here is torch {here}" if told else ""


def _keep_pins(run: Run, pins: dict[str, Any]) -> None:
    with run.home.plans():
        path = run.folder / "plan.json"
        write_json(path, json.loads(path.read_bytes()) | {PINS: pins})


# --- planning anew --------------------------------------------------------------------------------


def command_anew(run: Run) -> str:
    """The command line that asks for the same experiment again: by the preset it came from, where
    that still says the same but for seeds, else by the run's own copy."""
    from engine.spec.presets import load, shipped, to_data

    words = [str(run.folder / "experiment.toml")]
    kind = str(run.facts.get("device") or "cpu")
    origin = str(run.facts.get("origin") or "")
    asked = to_data(run.experiment, full=True)
    seeds = list(run.experiment.seeds)
    try:
        names = {str(path): name for name, path in shipped().items()}
        listed = to_data(load(origin), full=True)
        if listed | {"seeds": asked["seeds"]} == asked:
            words = [names.get(origin, origin)]
            if list(listed["seeds"]) != seeds:
                words += ["--seeds", ",".join(map(str, seeds))]
    except (BadInput, OSError):
        pass  # it has moved, or says something else by now
    if not _gives(run.experiment.compute, kind):
        words += ["--device", kind]
    if run.home.root != resolve_home():
        words += ["--home", str(run.home.root)]
    return shlex.join(["chelate", "run", *words])


def _gives(compute: Compute, kind: str) -> bool:
    """Whether `compute` as it is written asks for this kind of device; it may have been overruled."""
    from engine.jobs.devices import Resources

    if compute.device != "auto" or compute.backend == "slurm":
        return compute.device == "auto" or compute.device.startswith(kind)
    return Resources.of(compute).slots()[0].device == kind
