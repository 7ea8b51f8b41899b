"""From an experiment to its stages: what has to be computed, once, and which row each result fills.

A stage's key is the sha256 of what decides its bytes: its config, its component's version, its
inputs' keys and the environment (torch version, device kind, threads). Equal keys are one stage,
so methods share a training, attacks on the same rows share a retraining, and five budgets of a
method are five stops on one trajectory.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

from engine.spec.bounds import STAGES
from engine.spec.component import Component, Data, DataInfo, Listed
from engine.spec.data_line import sound
from engine.spec.data_report import DataReport, without_rows
from engine.spec.errors import BadInput
from engine.spec.estimate import Estimate, estimate
from engine.spec.experiment import Experiment, with_paths_as_written
from engine.spec.keys import digest, package_version
from engine.spec.pins import STAGE_VERSIONS, Pins, pins_of
from engine.spec.planned import HEAVY, Cell, Plan, Search, Stage
from engine.spec.plugins import blamed
from engine.spec.presets import settings
from engine.spec.registry import component_name
from engine.spec.setting import Setting


def make_plan(
    experiment: Experiment, device: str, where: str = "preset", fast_bf16: bool = False
) -> Plan:
    """Expand an experiment for a device kind ("cpu" or "cuda"). Raises BadInput.

    `fast_bf16` says whether the device has matrix units for bf16; precision = "auto" follows it.

    Reads the data set's names and sizes (not its pixels), to refuse what cannot work before
    anything is computed.
    """
    planner = Planner(device, fast_bf16)
    _check_size(experiment, where)
    for label, setting in settings(experiment, where):
        try:
            info = setting.data.inspect()
            told = Setting(planner, label, setting, info)
            planner.reports[told.data_key] = without_rows(sound(info.known))
            before = set(planner.stages)
            told.expand()
        except BadInput as error:
            raise BadInput(f"{where}: {with_paths_as_written(str(error), setting)}") from None
        except Exception as error:
            if whose := blamed(error):
                raise BadInput(f"{where}: {whose}.") from None
            if isinstance(error, OverflowError):
                large = f"holds numbers too large to plan with ({error})"
                raise BadInput(f"{where}: {large}.") from None
            raise
        found = estimate(told, frozenset(planner.stages.keys() - before))
        planner.estimates += [found] if found is not None else []
    return Plan(
        planner.stages,
        planner.cells,
        planner.searches,
        planner.estimates,
        planner.remarks,
        planner.reports,
    )


def _check_size(experiment: Experiment, where: str) -> None:
    """Refuse what would have too many stages before the first is made: unlearning and audits, of
    which there are most, can be counted. Raises BadInput."""
    attacks = sum(_variants(attack) for attack in experiment.attacks)
    unlearning = sum(_variants(m) for m in experiment.methods if m.role == "unlearn")
    others = sum(_variants(m) for m in experiment.methods if m.role == "none")
    models = unlearning * len(experiment.budgets)
    audits = sum(not audit.needs for audit in experiment.audits)
    rows = models + (models + others) * audits
    points = prod(map(len, experiment.grid.values())) * len(experiment.seeds) * attacks
    STAGES.check(points * rows, f"{where}: needs at least")


def _variants(entry: Listed) -> int:
    return prod(map(len, entry.grid.values()))


class Planner:
    """Collects stages; the same key twice is the same stage."""

    def __init__(self, device: str, fast_bf16: bool) -> None:
        self.device = device
        self.fast_bf16 = fast_bf16
        self.most = STAGES.limit
        self.version_of = cache(package_version)  # one answer for a whole plan
        self.stages: dict[str, Stage] = {}
        self.cells: list[Cell] = []
        self.searches: list[Search] = []
        self.estimates: list[Estimate] = []
        self.remarks: list[str] = []
        self.reports: dict[str, DataReport] = {}

    def add_data(self, data: Data, info: DataInfo) -> str:
        """The stage that reads a data set."""
        return self.add(
            "data",
            f"data {component_name(type(data))}",
            {"data": data.placed("data").model_dump(mode="json")}
            | {"digest": info.digest, "classes": info.classes},
            {},
            component=data,
            identity={"data": data.identity(), "digest": info.digest, "classes": info.classes},
        )

    def add(
        self,
        kind: str,
        title: str,
        config: dict[str, Any],
        inputs: dict[str, str],
        component: Component | None = None,
        identity: dict[str, Any] | None = None,
        after: tuple[str, ...] = (),
        tee: float = 0.0,
        threads: int = 1,
        beside: Component | None = None,
    ) -> str:
        """The key of a stage, which is planned now or was before.

        `identity` decides the key in place of `config`, where given; it may hold the version of a
        component `beside` the stage's own. `tee`: about what it costs.
        """
        pins: Pins = {f"stage {kind}": STAGE_VERSIONS[kind]}
        for one in filter(None, (component, beside)):
            pins |= pins_of(one, self.version_of)
        code: dict[str, Any] = {"stage": STAGE_VERSIONS[kind]}
        if component is not None:
            code["component"] = type(component).version
            code |= {name: self.version_of(name) for name in type(component).packages}
        env: dict[str, Any] = {}
        if kind in HEAVY:
            env = {"torch": self.version_of("torch"), "device": self.device, "threads": threads}
            pins |= {"package torch": env["torch"], "device": self.device, "threads": threads}
        key = digest(
            {
                "v": 1,
                "kind": kind,
                "config": config if identity is None else identity,
                "inputs": inputs,
                "code": code,
                "env": env,
            }
        )
        if key not in self.stages:
            if len(self.stages) >= self.most:
                STAGES.check(len(self.stages) + 1, "needs at least")
            self.stages[key] = Stage(key, kind, title, config, inputs, after, tee, pins)
        return key
