"""From the command line's words to a plan: shared by `run`, `plan` and `presets validate`."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from console.estimating import estimated, estimates
from console.output import console, say, say_json
from console.warnings_view import warning_lines
from engine.jobs.backends.slurm import width as on_slurm
from engine.jobs.datasets import data_sets
from engine.jobs.datasets import lines as data_lines
from engine.jobs.devices import Resources, fast_bf16
from engine.jobs.home import Home, resolve_home
from engine.jobs.machines import check_one_kind
from engine.jobs.stage_warnings import one_line
from engine.jobs.store import Store
from engine.jobs.survey import survey
from engine.results import margins
from engine.results.tidy import Audits, registered_audits
from engine.spec.data_report import warnings_in
from engine.spec.errors import BadInput, cut
from engine.spec.experiment import Experiment
from engine.spec.plan import make_plan
from engine.spec.planned import REPORTS, Plan
from engine.spec.presets import load, locate
from engine.spec.registry import component_name


@dataclass(frozen=True)
class Planned:
    """A validated preset, expanded for this machine."""

    name: str
    origin: Path
    experiment: Experiment
    plan: Plan
    resources: Resources  # as asked for
    kind: str  # of device: "cpu" or "cuda"
    width: int  # workers at once


def prepare(
    preset: str, overrides: list[str] | None, seeds: str | None, device: str | None
) -> Planned:
    """Raises BadInput for anything wrong, before anything is written."""
    origin = locate(preset)
    experiment = load(preset, overrides, parse_seeds(seeds))
    wanted = device or experiment.compute.device
    if device is not None:
        # The preset's own check, for its message.
        load(preset, [*(overrides or []), f"compute.device='{device}'"])
    return expand(experiment, _name(origin), origin, wanted)


def _name(origin: Path) -> str:
    """What a run of this preset is called: as its file or, asked for anew by a run's own copy, as
    that run."""
    if origin.name == "experiment.toml":
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((origin.parent / "run.json").read_bytes())["name"])
    return origin.stem


def expand(experiment: Experiment, name: str, origin: Path, device: str) -> Planned:
    """A valid experiment, planned for this machine. Raises BadInput."""
    resources = Resources.of(experiment.compute, device)
    if experiment.compute.backend == "slurm":
        kind, width = on_slurm(experiment.compute.slurm, resources)
        fast = kind == "cuda" or fast_bf16(kind)  # GPUs are not seen from here: Ampere or later
    else:
        slots = resources.slots()
        kind, width = slots[0].device, resources.width(slots)
        fast = fast_bf16(kind)
    plan = make_plan(experiment, kind, where=str(origin), fast_bf16=fast)
    return Planned(name, origin, experiment, plan, resources, kind, width)


def parse_seeds(text: str | None) -> list[int] | None:
    """The numbers of `--seeds 0,1,2`. Raises BadInput."""
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(
            f"--seeds {cut(text)}: must be whole numbers with commas, as in 0,1,2."
        ) from None


def show_plan(
    preset: str,
    overrides: list[str] | None,
    seeds: str | None,
    home: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    from rich.table import Table

    from console.expecting import LikeRuns, expected, power_lines

    planned = prepare(preset, overrides, seeds, device)
    plan = planned.plan
    place = Home(resolve_home(home))
    store = Store(place.store)
    check_one_kind(plan, store, planned.experiment.compute, planned.resources)
    found = survey(plan, store)
    data = data_sets(plan, store)
    power = expected(plan, LikeRuns(place), audits_of(planned.experiment))
    todo = sum(stage.tee for stage in found.missing)
    missing = {stage.key for stage in found.missing}
    if as_json:
        told = plan.to_json()
        for stage in told["stages"]:
            stage["cached"] = stage["key"] in found.ok
        told |= {"preset": str(planned.origin), "tee": plan.tee, "tee_todo": todo}
        told["search_tee"] = search_tee(plan)
        told["estimates"] = estimates(plan, missing, planned.kind)
        told["starts_anew"] = starting_anew(planned.experiment)
        told["remarks"] = plan.remarks
        names = {cell.audit for cell in plan.cells}
        told["margins"] = margins.document(audits_of(planned.experiment), names)
        told.pop(REPORTS, None)  # the same again, by stage
        told["data"] = [one.to_json() for one in data]
        told["power"] = [one.to_json() for one in power]
        say_json(told)
        return
    table = Table(title=f"{planned.name}: {planned.experiment.title}", title_justify="left")
    for heading in ("stage", "all", "in store", "to do", "TEE to do"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    kinds = Counter(stage.kind for stage in plan.stages.values())
    for kind, count in kinds.items():
        todo_of_kind = [s for s in plan.stages.values() if s.kind == kind and s.key in missing]
        cost = sum(stage.tee for stage in todo_of_kind)
        left = len(todo_of_kind)
        table.add_row(
            kind, str(count), str(count - left), str(left), f"{cost:.4g}" if cost else "-"
        )
    console().print(table)
    for text in data_lines(data):
        say(text)
    for text in warning_lines(Counter(t for one in data for t in warnings_in(one.report))):
        say(one_line(text))
    for text in margins.lines(audits_of(planned.experiment)):
        say(text)
    say(
        f"{len(plan.cells)} measurements; {plan.tee:.4g} TEE in all, {todo:.4g} to do, on "
        f"{planned.width} × {planned.kind}. "
        "1 TEE = one epoch of the training, forward and backward."
    )
    for sentence in estimated(plan, missing, planned.kind, planned.width):
        say(sentence)
    if plan.searches:
        trials = sum(len(search.trials) for search in plan.searches)
        say(
            f"Tuning: {len(plan.searches)} searches, {trials} settings, {search_tee(plan):.4g} TEE of "
            "these."
        )
    anew = starting_anew(planned.experiment)
    if anew:
        say(
            f"Every budget starts anew for {', '.join(anew)}: what they do depends on the budget's "
            "end. The others continue one trajectory."
        )
    for remark in plan.remarks:
        say(remark)
    if not any(method.role == "retrain" for method in planned.experiment.methods):
        say("There is no `retrain` among the methods: gaps and recoveries will be undefined.")
    for text in power_lines(power):
        say(text)


def audits_of(experiment: Experiment) -> Audits:
    """All audits, with the margins that the preset sets."""
    return margins.with_margins(registered_audits(), experiment.verdicts)


def search_tee(plan: Plan) -> float:
    """What choosing hyper-parameters costs, of the plan's TEE."""
    return sum(stage.tee for stage in plan.stages.values() if stage.kind == "trial")


def starting_anew(experiment: Experiment) -> list[str]:
    """Methods whose budgets are no stops on one trajectory; [] with a single budget."""
    if len(experiment.budgets) < 2:
        return []
    names = [
        component_name(type(method))
        for method in experiment.methods
        if method.role == "unlearn" and not method.continues
    ]
    return list(dict.fromkeys(names))


def validate_preset(preset: str, overrides: list[str] | None) -> None:
    planned = prepare(preset, overrides, None, "cpu")
    say(f"{planned.origin}: valid; {len(planned.plan.stages)} stages, {planned.plan.tee:.4g} TEE.")
