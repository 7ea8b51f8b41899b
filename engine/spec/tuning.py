"""Choosing hyper-parameters: what is tried for a method, and which trial wins.

A search is once for a method and an attack, at the largest budget. Its trials never touch the
poison (objective "proxy"): the method unlearns clean retained rows, as many as the forget set has,
and is scored by how forgotten they are. How a search becomes stages is in `searching.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from engine.spec.component import Method
from engine.spec.errors import BadInput
from engine.spec.keys import digest
from engine.spec.planned import Config, shown
from engine.spec.registry import component_name

if TYPE_CHECKING:
    from engine.spec.experiment import Experiment, Tune

Outcome = Literal["ok", "failed", "n/a", "missing"]

ROUNDING = 1e-9  # 0.95 - 0.94 is a hair above 0.01
WORDS = {"proxy": "tuned", "oracle": "oracle"}  # objective → the word in a row's variant


# --- what is tried -------------------------------------------------------------------------------


def space(tune: Tune, method: Method) -> dict[str, Sequence[Any]]:
    """Key = values to search for a listed method; {} if it is not tuned.

    `[tune.grids]` replaces the documented grid. Keys of the method's own `grid` are left out: these
    are rows somebody asked for, and each of them is tuned in the other keys.
    """
    name = component_name(type(method))
    if method.role != "unlearn" or (tune.methods is not None and name not in tune.methods):
        return {}
    grid: Mapping[str, Sequence[Any]] = tune.grids.get(name, type(method).search)
    return {key: values for key, values in grid.items() if key not in method.grid}


def candidates(method: Method, grid: Mapping[str, Sequence[Any]], most: int) -> list[Config]:
    """Settings of `grid`'s keys to try for one variant, at most `most`: its own first, then the
    grid's in order. A larger grid is sampled, the same settings always, and those of a smaller
    `most` among them. Raises BadInput for a combination the method refuses.
    """
    name = component_name(type(method))
    plain = method.model_dump(mode="json", exclude={"label", "grid"})
    own = {key: plain[key] for key in grid}
    others: list[Config] = []
    for values in product(*grid.values()):
        wanted = dict(zip(grid, values, strict=True))
        try:
            found = type(method).model_validate(plain | wanted).model_dump(mode="json")
        except ValidationError as error:
            told = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise BadInput(f"tune: {name} with {shown(wanted)}: {told}.") from None
        config = {key: found[key] for key in grid}
        if config != own and config not in others:
            others.append(config)
    kept = sorted(others, key=lambda config: digest([name, config]))[: most - 1]
    return [own, *(config for config in others if config in kept)]


def check_tuning(tune: Tune, experiment: Experiment) -> None:
    """Raise ValueError where [tune] does not fit the experiment, naming key and value."""
    listed: dict[str, list[Method]] = {}
    for method in experiment.methods:
        listed.setdefault(component_name(type(method)), []).append(method)
    for seed in tune.seeds or ():
        if seed not in experiment.seeds:
            known = ", ".join(map(str, experiment.seeds))
            raise ValueError(f"tune.seeds: {seed} is none of the experiment's seeds: {known}")
    for key in (*(tune.methods or ()), *tune.grids):
        where = "tune.methods" if key in (tune.methods or ()) else f"tune.grids.{key}"
        if key not in listed:
            raise ValueError(f"{where}: {key!r} is not among the methods: {', '.join(listed)}")
        if any(method.role != "unlearn" for method in listed[key]):
            raise ValueError(f"{where}: {key!r} is a baseline: there is nothing to tune")
    for name, grid in tune.grids.items():
        for method in listed[name]:
            twice = sorted(grid.keys() & method.grid.keys())
            if twice:
                raise ValueError(
                    f"tune.grids.{name}.{twice[0]}: {name} is listed with grid.{twice[0]} too: those "
                    "are rows of their own, not trials; keep one of the two"
                )
    for name in tune.methods or ():
        if not any(space(tune, method) for method in listed[name]):
            raise ValueError(
                f"tune.methods: {name!r} has nothing to tune: no documented grid, or its own grid "
                f"takes every key of it; give one as [tune.grids.{name}]"
            )
    if experiment.validation == 0 and any(space(tune, method) for method in experiment.methods):
        raise ValueError("validation = 0: tuning needs validation rows to look at")


# --- which trial wins ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """One trial over its seeds; numbers are means, None where undefined.

    forgetting: of the proxy rows, 0 to 1. value: the audit's primary metric (oracle only).
    """

    outcome: Outcome
    reason: str = ""
    validation_accuracy: float | None = None
    forgetting: float | None = None
    value: float | None = None


def pooled(told: Sequence[tuple[int, Mapping[str, Any]]]) -> Score:
    """The score over seeds, from (seed, trial.json) pairs. One seed that failed fails the trial."""
    for outcome in ("failed", "n/a", "missing"):
        for seed, trial in told:
            if trial["outcome"] == outcome:
                where = f" (seed {seed})" if len(told) > 1 else ""
                return Score(outcome, f"{trial['reason']}{where}")  # type: ignore[arg-type]

    def mean(name: str) -> float | None:
        values = [trial.get(name) for _, trial in told]
        known = [float(value) for value in values if value is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(values) else None

    return Score("ok", "", mean("validation_accuracy"), mean("forgetting"), mean("value"))


def merit(score: Score, reference: Score | None) -> float | None:
    """What is maximised: forgetting, or closeness of the audit to that of retraining."""
    if reference is None:
        return score.forgetting
    if score.value is None or reference.value is None:
        return None
    return -abs(score.value - reference.value)


def best(
    scores: Sequence[Score], start: Score, tolerance: float, reference: Score | None = None
) -> tuple[int, bool] | None:
    """(index of the trial to take, whether it keeps the accuracy); None if no trial succeeded.

    The largest merit among trials whose validation accuracy is at least the start's less
    `tolerance`; if there is none, the largest validation accuracy. The earlier of equals.
    """
    least = (start.validation_accuracy or 0.0) - tolerance - ROUNDING
    within: list[tuple[float, int]] = []
    usable: list[tuple[float, int]] = []
    for index, score in enumerate(scores):
        if score.outcome != "ok" or score.validation_accuracy is None:
            continue
        usable.append((score.validation_accuracy, -index))
        gain = merit(score, reference)
        if gain is not None and score.validation_accuracy >= least:
            within.append((gain, -index))
    found = max(within or usable, default=None)
    return None if found is None else (-found[1], bool(within))
