"""Which models a run makes, and by which stages: a training, a retraining, an unlearning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from console.viewmodel import StageRow
from engine.jobs.events import strip_control
from engine.spec.planned import Cell, Plan


@dataclass
class Route:
    """The stages that lead to one model, or to one at each budget, and the audits of each."""

    id: str
    label: str  # as short as it tells the routes of this plan apart
    title: str
    role: str
    method: str
    seed: int
    stages: list[str] = field(default_factory=list)
    budgets: list[float | None] = field(default_factory=list)
    audits: dict[str, str] = field(default_factory=dict)  # stage → its Gaussian audit


def routes(plan: Plan) -> list[Route]:
    """All routes of a plan: trainings, retrainings, then unlearnings, in the plan's order."""
    found: dict[str, Route] = {}
    attacks = len({cell.attack for cell in plan.cells})
    settings = len({cell.setting for cell in plan.cells})
    several = {cell.attack for cell in plan.cells if cell.unit}
    shorter = _short_variants(plan)
    for cell in plan.cells:
        stage = plan.stages.get(cell.key)
        model = stage.inputs.get("model") if stage is not None else None
        if model is None or model not in plan.stages:
            continue
        if cell.role == "unlearn":
            words = (cell.setting, cell.attack, cell.method, cell.variant, cell.seed, cell.unit)
            name = strip_control("/".join(map(str, words if cell.unit else words[:-1])))
        else:
            name = model
        route = found.get(name)
        if route is None:
            unit = cell.attack in several
            label = strip_control(_label(cell, attacks > 1, settings > 1, unit, shorter))
            title = strip_control(_label(cell, True, True, unit, {}))
            role = "train" if cell.role == "none" else cell.role
            route = found[name] = Route(
                name, label, title, role, strip_control(cell.method), cell.seed
            )  # fmt: skip
        if model not in route.stages:
            route.stages.append(model)
            route.budgets.append(cell.budget)
        if cell.audit == "gaussian":
            route.audits.setdefault(model, cell.key)
    used = {key for route in found.values() for key in route.stages}
    for key, stage in plan.stages.items():
        if stage.kind in ("train", "unlearn") and key not in used:
            title = strip_control(stage.title)
            found[key] = Route(key, title, title, "other", title, -1, [key], [None])
    _tell_apart(found)
    for route in found.values():
        order = sorted(range(len(route.stages)), key=lambda n: (route.budgets[n] or 0.0, n))
        route.stages = [route.stages[n] for n in order]
        route.budgets = [route.budgets[n] for n in order]
    ranks = {"train": 0, "retrain": 1, "retrain-fresh": 2, "other": 3}
    return sorted(found.values(), key=lambda route: ranks.get(route.role, 4))


def _short_variants(plan: Plan) -> dict[tuple[str, str], str]:
    """(method, variant) → the values alone, where all variants of the method set the same keys."""
    by_method: dict[str, set[str]] = {}
    for cell in plan.cells:
        if cell.variant:
            by_method.setdefault(cell.method, set()).add(cell.variant)
    short = {}
    for method, variants in by_method.items():
        keys = {tuple(word.partition("=")[0] for word in v.split(",")) for v in variants}
        if len(keys) == 1 and all("=" in word for v in variants for word in v.split(",")):
            for variant in variants:
                values = ",".join(word.partition("=")[2] for word in variant.split(","))
                short[method, variant] = values
    return short


def _label(
    cell: Cell,
    with_attack: bool,
    with_setting: bool,
    with_unit: bool,
    shorter: dict[tuple[str, str], str],
) -> str:
    words = [cell.setting] if with_setting and cell.setting else []
    if with_attack and cell.role in ("none", "unlearn"):
        words.append(cell.attack)
    words.append("train" if cell.role == "none" else cell.method)
    if cell.variant:
        words.append(shorter.get((cell.method, cell.variant), cell.variant))
    # A retraining may serve several poisons; a training or an unlearning is one poison's.
    if with_unit and cell.role in ("none", "unlearn"):
        words.append(f"t{cell.unit}")
    return " ".join([*words, f"s{cell.seed}"])


def _tell_apart(found: dict[str, Route]) -> None:
    """Routes of one label get the start of their key."""
    counts = Counter(route.label for route in found.values())
    for route in found.values():
        if counts[route.label] > 1 and route.stages:
            route.label += f" #{route.stages[0][:4]}"


def longest_paths(plan: Plan) -> dict[str, float]:
    """TEE from each stage to the end of the longest way down: the supervisor's order of stages."""
    below: dict[str, float] = {}
    for key, stage in reversed(plan.stages.items()):
        own = stage.tee + below.get(key, 0.0) + 1e-3
        for source in {*stage.inputs.values(), *stage.after}:
            below[source] = max(below.get(source, 0.0), own)
        below[key] = own
    return below


def share_of(rows: list[StageRow]) -> float:
    """How far a model is on its way, by the planned compute of its segments."""
    weights = [row.tee for row in rows] if any(row.tee for row in rows) else [1.0] * len(rows)
    return sum(w * row.share for w, row in zip(weights, rows, strict=True)) / (sum(weights) or 1.0)
