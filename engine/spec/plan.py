"""From an experiment to its stages: what has to be computed, once, and which row each result fills.

A stage's key is the sha256 of what decides its bytes: its config, its component's version, its
inputs' keys and the environment (torch version, device kind, threads). Equal keys are one stage,
so methods share a training, attacks on the same rows share a retraining, and five budgets of a
method are five stops on one trajectory.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.spec.component import (
    Attack,
    Audit,
    Component,
    Data,
    DataInfo,
    Method,
    poisoned_count,
)
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment, Train
from engine.spec.keys import digest, package_version
from engine.spec.presets import settings
from engine.spec.registry import component_name

# Raise a stage's number when its code would give other bytes for the same config.
STAGE_VERSIONS = {
    "data": 1, "split": 1, "select": 1, "craft": 1, "train": 1, "unlearn": 1, "audit": 1,
}  # fmt: skip
HEAVY = ("craft", "train", "unlearn", "audit")  # bytes depend on torch, device and threads


@dataclass(frozen=True, slots=True)
class Stage:
    """One computation. `after` names stages it goes on from without depending on them for its bytes."""

    key: str
    kind: str
    title: str
    config: dict[str, Any]
    inputs: dict[str, str]
    after: tuple[str, ...] = ()
    tee: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement of the final table: who, at what budget and seed, by which audit stage."""

    setting: str
    attack: str
    method: str
    variant: str
    budget: float | None
    seed: int
    audit: str
    role: str
    key: str
    cost_keys: tuple[str, ...]
    unit: int = 0  # which of the attack's poisons, where one row of the table pools several


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in an order that respects their inputs, and the cells they fill."""

    stages: dict[str, Stage]
    cells: list[Cell]

    @property
    def tee(self) -> float:
        """Compute of all stages, in training-epoch equivalents."""
        return sum(stage.tee for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "v": 1,
            "stages": [asdict(stage) for stage in self.stages.values()],
            "cells": [_told(cell) for cell in self.cells],
        }

    @staticmethod
    def from_json(told: dict[str, Any]) -> Plan:
        stages = [Stage(**s | {"after": tuple(s["after"])}) for s in told["stages"]]
        cells = [Cell(**c | {"cost_keys": tuple(c["cost_keys"])}) for c in told["cells"]]
        return Plan({stage.key: stage for stage in stages}, cells)


def _told(cell: Cell) -> dict[str, Any]:
    """Unit 0 goes without saying, so that plans (and names of runs) from before units stay theirs."""
    told = asdict(cell)
    return told if cell.unit else {key: value for key, value in told.items() if key != "unit"}


def make_plan(
    experiment: Experiment, device: str, where: str = "preset", fast_bf16: bool = False
) -> Plan:
    """Expand an experiment for a device kind ("cpu" or "cuda"). Raises BadInput.

    `fast_bf16` says whether the device has matrix units for bf16; precision = "auto" follows it.

    Reads the data set's names and sizes (not its pixels), to refuse what cannot work before
    anything is computed.
    """
    planner = _Planner(device, fast_bf16)
    for label, setting in settings(experiment, where):
        try:
            info = setting.data.inspect()
            _Setting(planner, label, setting, info).expand()
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
    return Plan(planner.stages, planner.cells)


class _Planner:
    """Collects stages; the same key twice is the same stage."""

    def __init__(self, device: str, fast_bf16: bool) -> None:
        self.device = device
        self.fast_bf16 = fast_bf16
        self.stages: dict[str, Stage] = {}
        self.cells: list[Cell] = []

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
    ) -> str:
        code: dict[str, Any] = {"stage": STAGE_VERSIONS[kind]}
        if component is not None:
            code["component"] = type(component).version
            code |= {name: package_version(name) for name in type(component).packages}
        env: dict[str, Any] = {}
        if kind in HEAVY:
            env = {"torch": package_version("torch"), "device": self.device, "threads": threads}
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
            self.stages[key] = Stage(key, kind, title, config, inputs, after, tee)
        return key


@dataclass(frozen=True, slots=True)
class _Subject:
    """A model to audit: the row it belongs to, the stage that makes it, the stages it cost."""

    method: str
    variant: str
    role: str
    budget: float | None
    key: str
    cost_keys: tuple[str, ...]


class _Setting:
    """One point of the top-level grid: one data set, one model, one recipe."""

    def __init__(
        self, planner: _Planner, label: str, experiment: Experiment, info: DataInfo
    ) -> None:
        self.planner = planner
        self.label = label
        self.experiment = experiment
        self.info = info
        self.train = experiment.train.resolved(experiment.model, planner.fast_bf16)
        self.recipe = self.train.model_dump(mode="json")
        # The weights' content decides a result, not where they lie.
        self.recipe_identity = self.recipe | {"from": _weights_digest(self.train)}
        self.model = experiment.model.model_dump(mode="json")
        self.threads = experiment.compute.threads
        data: Data = experiment.data
        self.data_key = planner.add(
            "data",
            f"data {component_name(type(data))}",
            {"data": data.model_dump(mode="json"), "digest": info.digest, "classes": info.classes},
            {},
            component=data,
            identity={"data": data.identity(), "digest": info.digest, "classes": info.classes},
        )
        experiment.model.check(info)
        own = self.train.start_from and self.train.from_as == "poisoned-model"
        if own and len(experiment.seeds) > 1:
            raise BadInput(
                f"seeds = {list(experiment.seeds)}: your own model (train.from) was trained on "
                "one seed's poison; give that seed alone."
            )
        validation = round(experiment.validation * info.train)
        self.rows = info.train - validation
        if self.rows < 1:
            raise BadInput(f"validation = {experiment.validation}: leaves no training rows.")

    def expand(self) -> None:
        attacks = [
            (component_name(type(attack)), label, variant)
            for attack in self.experiment.attacks
            for label, variant in attack.variants()
        ]
        for name, label, attack in attacks:
            title = f"{name}[{label}]" if label else name
            for seed in self.experiment.seeds:
                units = attack.units(self.info, seed)
                for unit, single in units:
                    self._check(name, single)
                    self._expand_attack(title, single, seed, unit, f"t{unit} " * (len(units) > 1))

    def _check(self, name: str, attack: Attack) -> None:
        count = poisoned_count(attack.selection(), self.rows)
        share = getattr(attack, "share", None)
        if count < 1:
            raise BadInput(
                f"attacks.{name}.share = {share}: poisons none of {self.rows} training rows; the "
                f"smallest that poisons one is {1 / self.rows:.2g}."
            )
        if count >= self.rows and not attack.appends:
            raise BadInput(f"attacks.{name}.share = {share}: leaves no row to retain.")
        attack.check(self.info, self.rows)

    def _expand_attack(
        self, attack_title: str, attack: Attack, seed: int, unit: int, which: str
    ) -> None:
        """One poison of one seed; `which` tells it from the seed's others, in titles."""
        add, suffix = self.planner.add, f"s{seed}"
        if self.label:
            suffix += f" [{self.label}]"
        split = add(
            "split",
            f"split {suffix}",
            {"validation": self.experiment.validation, "seed": seed},
            {"data": self.data_key},
        )
        base = {"data": self.data_key, "split": split}
        select = add(
            "select",
            f"select rows {suffix}",
            {"rule": attack.selection(), "seed": seed},
            base,
        )
        known: dict[str, Any] = {}
        if attack.knows_model or attack.surrogate_count():
            known = {"model": self.model, "train": self.recipe}
        surrogates = {
            f"surrogate-{i}": self._train(
                f"train surrogate {i} {suffix}", base, seed, f"surrogate-{i}", {}
            )
            for i in range(attack.surrogate_count())
        }
        craft = add(
            "craft",
            f"craft {attack_title} {which}{suffix}",
            {"attack": attack.config(), "identity": attack.identity(), "seed": seed} | known,
            base | {"select": select} | surrogates,
            component=attack,
            identity={"attack": attack.identity(), "seed": seed}
            | (known and known | {"train": self.recipe_identity}),
            tee=attack.crafting_tee(self.rows),
            threads=self.threads,
        )
        poisoned = base | {"craft": craft}
        own = which + suffix
        retained = base if attack.appends else base | {"exclude": select}
        # For people who watch: which attack's glimpse the live view shows. Not part of any key.
        shown = {"attack": attack.config()}

        subjects: list[_Subject] = []
        trained = self._train(f"train {attack_title} {own}", poisoned, seed, "paired", shown)
        for method in self.experiment.methods:
            name = component_name(type(method))
            for label, variant in method.variants():
                if variant.role == "none":
                    subjects.append(_Subject(name, label, "none", None, trained, ()))
                elif variant.role == "unlearn":
                    title = f"{attack_title}/{name}[{label}]" if label else f"{attack_title}/{name}"
                    start = poisoned | {"start": trained}
                    subjects += self._unlearn(title, own, name, label, variant, start, seed, shown)
                else:
                    role = "paired" if variant.role == "retrain" else "fresh"
                    key = self._train(f"{name} {suffix}", retained, seed, role, {})
                    subjects.append(_Subject(name, label, variant.role, None, key, (key,)))
        for audit in self.experiment.audits:
            if audit.needs <= attack.offers():
                for subject in subjects:
                    self._audit(attack_title, audit, subject, poisoned, seed, own, unit)

    def _train(
        self, title: str, inputs: dict[str, str], seed: int, role: str, shown: dict[str, Any]
    ) -> str:
        config = {"model": self.model, "train": self.recipe, "seed": seed, "role": role}
        share = 1.0
        if "craft" in inputs and self.train.start_from and self.train.from_as == "poisoned-model":
            config["ready"] = True  # the file is the trained model
            share = 0.0
        if "exclude" in inputs:
            rule = self.planner.stages[inputs["exclude"]].config["rule"]
            share -= poisoned_count(rule, self.rows) / self.rows
        return self.planner.add(
            "train",
            title,
            config | shown,
            inputs,
            component=self.experiment.model,
            identity=config | {"train": self.recipe_identity},
            tee=self.experiment.train.epochs * share,
            threads=self.threads,
        )

    def _unlearn(
        self,
        title: str,
        suffix: str,
        name: str,
        label: str,
        method: Method,
        start: dict[str, str],
        seed: int,
        shown: dict[str, Any],
    ) -> list[_Subject]:
        """One stop per budget on one trajectory. The stop before is where a stage goes on from, but
        not part of its key: getting there in one go gives the same bytes."""
        subjects: list[_Subject] = []
        before: tuple[str, ...] = ()
        spent = 0.0
        for budget in self.experiment.budgets:
            limit = budget * self.experiment.train.epochs
            config = {
                "method": method.identity(),
                "model": self.model,
                "train": self.recipe,
                "seed": seed,
                "budget_tee": limit,
            }
            key = self.planner.add(
                "unlearn",
                f"unlearn {title} {budget:.4g} {suffix}",
                config | shown,
                start,
                component=method,
                identity=config | {"train": self.recipe_identity},
                after=before if method.continues else (),
                tee=limit - spent if method.continues else limit,
                threads=self.threads,
            )
            before, spent = (key,), limit
            subjects.append(_Subject(name, label, "unlearn", budget, key, (key,)))
        return subjects

    def _audit(
        self,
        attack_title: str,
        audit: Audit,
        subject: _Subject,
        poisoned: dict[str, str],
        seed: int,
        suffix: str,
        unit: int,
    ) -> None:
        name = component_name(type(audit))
        row = f"{attack_title}/{subject.method}"
        row += f"[{subject.variant}]" if subject.variant else ""
        row += f" {subject.budget:.4g}" if subject.budget is not None else ""
        key = self.planner.add(
            "audit",
            f"audit {name} of {row} {suffix}",
            {
                "audit": audit.identity(),
                "model": self.model,
                "seed": seed,
                "channels_last": self.train.channels_last,
            },
            poisoned | {"model": subject.key},
            component=audit,
            threads=self.threads,
        )
        self.planner.cells.append(
            Cell(
                setting=self.label,
                attack=attack_title,
                method=subject.method,
                variant=subject.variant,
                budget=subject.budget,
                seed=seed,
                audit=name,
                role=subject.role,
                key=key,
                cost_keys=subject.cost_keys,
                unit=unit,
            )
        )


def _weights_digest(train: Train) -> str | None:
    """sha256 of the file of initial weights. Raises BadInput unless it is a safetensors file."""
    if train.start_from is None:
        return None
    path = Path(train.start_from).expanduser()
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 1 << 26 else None
            if not isinstance(header, dict):
                raise ValueError
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"train.from = {train.start_from!r}: {error.strerror}.") from None
    except ValueError:
        raise BadInput(f"train.from = {train.start_from!r}: is not a safetensors file.") from None
