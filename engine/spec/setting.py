"""One setting of an experiment (a data set, a model, a recipe) expanded into its stages and cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from engine.spec.class_keys import misleading
from engine.spec.closed_form import check_closed_form
from engine.spec.component import (
    Attack,
    Audit,
    Data,
    DataInfo,
    Method,
    Model,
    kinds_in_words,
    poisoned_count,
)
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment, placed_in_list
from engine.spec.path_keys import placed
from engine.spec.planned import Cell, Search
from engine.spec.pretraining import Extractor
from engine.spec.readings import Readings
from engine.spec.registry import component_name
from engine.spec.searching import plan_search
from engine.spec.weights import weights_digest

if TYPE_CHECKING:
    from engine.spec.plan import Planner


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to audit: the row it belongs to, the stage that makes it, the stages it cost."""

    method: str
    variant: str
    role: str
    budget: float | None
    key: str
    cost_keys: tuple[str, ...]
    by: Method | None = None  # the unlearning method with its keys
    chosen: dict[str, str] = field(default_factory=dict)  # the input that holds its tuned keys


@dataclass(frozen=True, slots=True)
class Ground:
    """What all methods of one attack and seed share: inputs by role, and the poisoned model.

    `base` is data and split; `frozen` the extractor, where the model has one; `found` the stage
    that says which poison is known, empty where all of it is.
    """

    suffix: str  # of titles
    base: dict[str, str]
    frozen: dict[str, str]
    poisoned: dict[str, str]
    retained: dict[str, str]
    trained: str
    found: dict[str, str]


class Setting:
    """One point of the top-level grid: one data set, one model, one recipe."""

    def __init__(
        self, planner: Planner, label: str, experiment: Experiment, info: DataInfo
    ) -> None:
        self.planner = planner
        self.label = label
        self.experiment = experiment
        self.info = info
        train = experiment.train.resolved(experiment.model, planner.fast_bf16)
        self.train = placed(train, "train")
        self.recipe = self.train.model_dump(mode="json")
        model = experiment.model.placed("model")
        self.model = model.config()
        # What of both goes into keys: the content of files of weights, not where they lie.
        self.decided = {
            "model": model.identity(),
            "train": self.recipe | {"from": weights_digest(self.train.start_from)},
        }
        self.threads = experiment.compute.threads
        self.searches: dict[tuple[str, str, str], Search | None] = {}
        self.audits = [placed_in_list(audit.resolved(info)) for audit in experiment.audits]
        self.attacks: list[tuple[str, str, Attack]] = []  # name, variant's label, config
        self.baselines: list[Attack] = []  # not listed, shown beside what is: see Attack.baselines
        data: Data = experiment.data
        self.data_key = planner.add_data(data, info)
        self._refuse_kind("model", experiment.model)
        if info.kind != "image" and experiment.train.augment != "none":
            raise BadInput(
                f"train.augment = {experiment.train.augment!r}: only images can be cropped and "
                f'flipped, and data {component_name(type(data))!r} holds {info.kind}s; use "none".'
            )
        if info.kind == "text" and experiment.train.channels_last is True:
            raise BadInput(
                "train.channels_last = true: is a layout of images, and data "
                f"{component_name(type(data))!r} holds texts; leave it out."
            )
        experiment.model.check(info)
        closed = experiment.model.closed_form()
        if closed is not None:
            check_closed_form(experiment)
        own = self.train.start_from and self.train.from_as == "poisoned-model"
        if own and len(experiment.seeds) > 1:
            raise BadInput(
                f"seeds = {list(experiment.seeds)}: your own model (train.from) was trained on "
                "one seed's poison; give that seed alone."
            )
        self.extractor = Extractor.of(experiment, model, planner.fast_bf16)
        left = info.train - (self.extractor.rows_held(info.train) if self.extractor else 0)
        self.validation = round(experiment.validation * left)
        self.rows = left - self.validation
        if self.rows < 1:
            raise BadInput(f"validation = {experiment.validation}: leaves no training rows.")
        # What budgets are shares of: the cost of one training.
        self.training_tee = float(experiment.train.epochs)
        if closed is not None:
            told = self.rows, prod(info.shape), len(info.classes)
            self.training_tee = closed.passes(*told) / self.rows

    def _refuse_kind(self, what: str, component: Model | Attack) -> None:
        if self.info.kind not in component.takes:
            raise BadInput(
                f"{what} {component_name(type(component))!r} works on "
                f"{kinds_in_words(component.takes)}; data "
                f"{component_name(type(self.experiment.data))!r} holds {self.info.kind}s."
            )

    def expand(self) -> None:
        attacks = []
        for entry in self.experiment.attacks:
            self._refuse_kind("attack", entry)
            for label, variant in entry.variants():
                attacks.append((component_name(type(entry)), label, self._resolved(variant)))
        self.attacks = list(attacks)
        listed = [attack for _, _, attack in attacks]
        for attack in [other for each in listed for other in each.baselines()]:
            if attack not in listed + self.baselines:
                self.baselines.append(attack)
                attacks.append((component_name(type(attack)), _label_of(attack), attack))
        for name, label, attack in attacks:
            title = f"{name}[{label}]" if label else name
            for seed in self.experiment.seeds:
                units = attack.units(self.info, seed)
                for unit, single in units:
                    self._check(name, single)
                    self._expand_attack(title, single, seed, unit, f"t{unit} " * (len(units) > 1))

    def _resolved(self, attack: Attack) -> Attack:
        """With classes by their indices; says where an index looks like another class's name."""
        name = component_name(type(attack))
        for remark in misleading(attack, self.info.classes, f"attacks.{name}"):
            if remark not in self.planner.remarks:
                self.planner.remarks.append(remark)
        return placed_in_list(attack.resolved(self.info))

    def _check(self, name: str, attack: Attack) -> None:
        rule = attack.selection()
        told = f"attacks.{name}" + (f".share = {rule['share']}" if "share" in rule else "")
        try:
            count = poisoned_count(rule, self.rows)
        except (LookupError, TypeError, ValueError):
            raise BadInput(
                f"attacks.{name}: its selection() tells neither share nor rows nor added."
            ) from None
        if count < 1:
            raise BadInput(
                f"{told}: poisons none of {self.rows} training rows; the "
                f"smallest that poisons one is {1 / self.rows:.2g}."
                if "share" in rule
                else f"{told}: poisons none of {self.rows} training rows."
            )
        if count >= self.rows and not attack.adds():
            raise BadInput(f"{told}: leaves no row to retain.")
        self._refuse_kind("attack", attack)  # of one that is not listed, such as a baseline
        attack.check(self.info, self.rows)

    def prepare(self, attack_title: str, attack: Attack, seed: int, which: str = "") -> Ground:
        """Add the stages up to the poisoned model; `which` poison of the seed, in titles."""
        add, suffix = self.planner.add, f"s{seed}"
        if self.label:
            suffix += f" [{self.label}]"
        split = add(
            "split",
            f"split {suffix}",
            {"validation": self.experiment.validation, "seed": seed}
            | (self.extractor.split if self.extractor else {}),
            {"data": self.data_key},
        )
        base = {"data": self.data_key, "split": split}
        frozen: dict[str, str] = {}  # what every model is built from, if anything
        if self.extractor:
            frozen = {"extractor": self._pretrain(self.extractor, base, seed, suffix)}
        select = add(
            "select",
            f"select rows {suffix}",
            {"rule": attack.selection(), "seed": seed},
            base,
        )
        known: dict[str, Any] = {}
        if attack.needs_model(self.info) or attack.surrogate_count():
            known = {"model": self.model, "train": self.recipe}
        surrogates = {
            f"surrogate-{i}": self._train(
                f"train surrogate {i} {suffix}", base | frozen, seed, f"surrogate-{i}", {}
            )
            for i in range(attack.surrogate_count())
        }
        craft = add(
            "craft",
            f"craft {attack_title} {which}{suffix}",
            {"attack": attack.config(), "identity": attack.identity(), "seed": seed} | known,
            base | {"select": select} | surrogates | (known and frozen),
            component=attack,
            identity={"attack": attack.identity(), "seed": seed} | (known and self.decided),
            tee=attack.crafting_tee(self.rows),
            threads=self.threads,
        )
        poisoned = base | {"craft": craft} | frozen
        retained = base | frozen if attack.adds() else base | {"exclude": select} | frozen
        shown = {"attack": attack.config()}
        title = f"train {attack_title} {which}{suffix}"
        trained = self._train(title, poisoned, seed, "paired", shown)
        found = self._discover(attack_title, attack, craft, seed, suffix)
        return Ground(suffix, base, frozen, poisoned, retained, trained, found)

    def retrain(self, ground: Ground, seed: int, name: str = "retrain") -> str:
        """Add a training without the poison: the reference, one from a fresh seed, or one without
        what is known of the poison."""
        role = "fresh" if name == "retrain-fresh" else "paired"
        rows = ground.retained
        if name == "retrain-known" and ground.found:
            rows = ground.poisoned | ground.found
        return self._train(f"{name} {ground.suffix}", rows, seed, role, {})

    def _expand_attack(
        self, attack_title: str, attack: Attack, seed: int, unit: int, which: str
    ) -> None:
        """One poison of one seed; `which` tells it from the seed's others, in titles."""
        ground = self.prepare(attack_title, attack, seed, which)
        own, poisoned, trained = which + ground.suffix, ground.poisoned, ground.trained
        # For people who watch: which attack's glimpse the live view shows. Not part of any key.
        shown = {"attack": attack.config()}

        subjects: list[Subject] = []
        for method in self.experiment.methods:
            name = component_name(type(method))
            for label, listed in method.variants():
                variant = placed_in_list(listed.resolved(self.info))
                if variant.role == "unlearn" and attack in self.baselines:
                    continue
                if variant.role == "none":
                    subjects.append(Subject(name, label, "none", None, trained, ()))
                elif variant.role == "unlearn":
                    start = poisoned | ground.found | {"start": trained}
                    search = self._search(attack_title, attack, method, label, variant)
                    if search is not None:
                        label, start = search.variant, start | {"choice": search.choice}
                    title = f"{attack_title}/{name}[{label}]" if label else f"{attack_title}/{name}"
                    subjects += self._unlearn(title, own, name, label, variant, start, seed, shown)
                else:
                    key = self.retrain(ground, seed, variant.role)
                    subjects.append(Subject(name, label, variant.role, None, key, (key,)))
        readings = Readings(self, attack_title, attack, seed, ground)
        for audit in self.audits:
            if audit.needs <= attack.offers():
                for subject in subjects:
                    inputs, unkeyed = readings.of(audit, subject)
                    told = inputs | (ground.found if audit.per_row else {}), unkeyed
                    self._audit(attack_title, audit, subject, told, seed, own, unit)

    def _discover(
        self, attack_title: str, attack: Attack, craft: str, seed: int, suffix: str
    ) -> dict[str, str]:
        """The stage that says which poison is known; none where all of it is."""
        share = self.experiment.forget.share
        if share == 1:
            return {}
        count = poisoned_count(attack.selection(), self.rows)
        if round(share * count) < 1:
            raise BadInput(
                f"forget.share = {share:g}: finds none of {count} poisoned rows; the smallest that "
                f"finds one is {1 / count:.2g}."
            )
        title = f"discover {share:g} of {attack_title} {suffix}"
        return {
            "known": self.planner.add(
                "discover", title, {"share": share, "seed": seed}, {"craft": craft}
            )
        }

    def _search(
        self, attack_title: str, attack: Attack, entry: Method, label: str, method: Method
    ) -> Search | None:
        """The search this variant's settings come from, planned once for all seeds."""
        told = (attack_title, component_name(type(method)), label)
        if told not in self.searches:
            found = plan_search(self, attack_title, attack, entry, label, method)
            self.searches[told] = found
            self.planner.searches += [found] if found is not None else []
        return self.searches[told]

    def _pretrain(self, extractor: Extractor, base: dict[str, str], seed: int, suffix: str) -> str:
        config, identity = extractor.stage(seed)
        return self.planner.add(
            "train",
            f"train extractor {suffix}",
            config,
            base,
            component=extractor.model,
            identity=identity,
            tee=extractor.tee(self.info.train, self.rows),
            threads=self.threads,
        )

    def _train(
        self, title: str, inputs: dict[str, str], seed: int, role: str, shown: dict[str, Any]
    ) -> str:
        config = {"model": self.model, "train": self.recipe, "seed": seed, "role": role}
        share = 1.0
        own = self.train.start_from and self.train.from_as == "poisoned-model"
        if own and "craft" in inputs and not {"exclude", "known"} & inputs.keys():
            config["ready"] = True  # the file is the trained model
            share = 0.0
        if "exclude" in inputs:
            rule = self.planner.stages[inputs["exclude"]].config["rule"]
            share -= poisoned_count(rule, self.rows) / self.rows
        if "known" in inputs:
            craft = self.planner.stages[inputs["craft"]]
            rule = self.planner.stages[craft.inputs["select"]].config["rule"]
            share -= self.experiment.forget.share * poisoned_count(rule, self.rows) / self.rows
        return self.planner.add(
            "train",
            title,
            config | shown,
            inputs,
            component=self.experiment.model,
            identity=config | self.decided,
            tee=self.training_tee * share,
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
    ) -> list[Subject]:
        """One stop per budget on one trajectory. The stop before is where a stage goes on from, but
        not part of its key: getting there in one go gives the same bytes."""
        subjects: list[Subject] = []
        before: tuple[str, ...] = ()
        spent = 0.0
        for budget in self.experiment.budgets:
            limit = budget * self.training_tee
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
                identity=config | self.decided,
                after=before if method.continues else (),
                tee=limit - spent if method.continues else limit,
                threads=self.threads,
            )
            before, spent = (key,), limit
            chosen = {role: stage for role, stage in start.items() if role == "choice"}
            subjects.append(Subject(name, label, "unlearn", budget, key, (key,), method, chosen))
        return subjects

    def _audit(
        self,
        attack_title: str,
        audit: Audit,
        subject: Subject,
        told: tuple[dict[str, str], dict[str, Any]],
        seed: int,
        suffix: str,
        unit: int,
    ) -> None:
        """`told`: the stages it reads beside the model, and config that is no part of its key."""
        name = component_name(type(audit))
        row = f"{attack_title}/{subject.method}"
        row += f"[{subject.variant}]" if subject.variant else ""
        row += f" {subject.budget:.4g}" if subject.budget is not None else ""
        inputs, shown = told
        config = {
            "audit": audit.identity(),
            "model": self.model,
            "seed": seed,
            "channels_last": self.train.channels_last,
        }
        key = self.planner.add(
            "audit",
            f"audit {name} of {row} {suffix}",
            config | shown,
            inputs | {"model": subject.key},
            component=audit,
            identity=config | {"model": self.decided["model"]},
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


def _label_of(attack: Attack) -> str:
    """What tells a baseline from a listed attack of its name: the keys it was made with."""
    given = [key for key in type(attack).model_fields if key in attack.model_fields_set - {"name"}]
    return ",".join(f"{key}={getattr(attack, key)}" for key in given) or "baseline"
