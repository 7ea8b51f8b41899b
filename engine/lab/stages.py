"""The stages of an experiment, from inputs to artifacts. Each commits what the next one reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_json, load_tensors, save_json, save_tensors
from engine.lab.context import Context, Diverged, Failed, NotApplicable
from engine.lab.crafting import CraftTask
from engine.lab.data._report import report, warning
from engine.lab.frozen import (
    FeatureSet,
    Frozen,
    clean_features,
    extractor_of,
    with_poison,
    without_extractor,
)
from engine.lab.meter import FORWARD, Meter
from engine.lab.randomness import permutation, stream
from engine.lab.selection import choose, pretraining_cut, proxy_cut, validation_cut
from engine.lab.shadows import decoys_of, halves, joined
from engine.lab.state import MODEL, STATE, STATE_JSON
from engine.lab.subject import Subject
from engine.lab.training import Look, fit, looking_at
from engine.lab.tuning import CHOICE, TRIAL, decide, score_on
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.lab.views import Batch, Poison, Rows, TrainingSet
from engine.spec.component import Attack, Audit, Component, Data, Method, Model
from engine.spec.experiment import Train
from engine.spec.keys import digest
from engine.spec.registry import find

T = TypeVar("T", bound=Component)
Config = dict[str, Any]
PIXELS, ROWS, POISON, SCORES = (
    f"{name}.safetensors" for name in ("pixels", "rows", "poison", "scores")
)


def run_data(config: Config, ctx: Context) -> float:
    """Decode a data set once. → pixels.safetensors, data.json"""
    data = _component("data", config["data"], Data)
    if data.inspect().digest != config["digest"]:
        raise Failed("the data set changed after the run was planned: start the run again")
    decoded = data.read()
    told = report(decoded, len(config["classes"]))
    if trouble := warning(told):
        ctx.warn(trouble)
    arrays = {key: torch.from_numpy(value) for key, value in decoded.items()}
    save_tensors(ctx.folder, PIXELS, arrays)
    pixels = arrays["train_x"].to(torch.float64)
    if not arrays["train_x"].is_floating_point():
        pixels.div_(255)
    std = pixels.std(dim=(0, 2, 3), correction=0)
    save_json(
        ctx.folder,
        "data.json",
        {
            "shape": list(arrays["train_x"].shape[1:]),
            "classes": config["classes"],
            "mean": pixels.mean(dim=(0, 2, 3)).tolist(),
            "std": torch.where(std > 0, std, torch.ones_like(std)).tolist(),
            "report": told,
        },
    )
    return 0.0


def run_split(config: Config, ctx: Context) -> float:
    """Cut off the extractor's rows, if any, and the validation rows, before any poisoning.
    → rows.safetensors (training, validation, perhaps pretraining)"""
    count = len(_pixels(ctx)["train_y"])
    found = {}
    left = np.arange(count)
    if "pretraining" in config:
        left, found["pretraining"] = pretraining_cut(count, config["pretraining"], config["seed"])
    training, validation = validation_cut(len(left), config["validation"], config["seed"])
    found |= {"training": left[training], "validation": left[validation]}
    save_tensors(ctx.folder, ROWS, {name: torch.from_numpy(rows) for name, rows in found.items()})
    return 0.0


def run_select(config: Config, ctx: Context) -> float:
    """Choose the rows to poison. → rows.safetensors (poisoned)"""
    labels = _pixels(ctx)["train_y"].cpu().numpy()
    training = load_tensors(ctx.file("split", ROWS))["training"].numpy()
    chosen = choose(config["rule"], training, labels, config["seed"])
    save_tensors(ctx.folder, ROWS, {"poisoned": torch.from_numpy(chosen)})
    return 0.0


def run_craft(config: Config, ctx: Context) -> float:
    """Make the poison. → poison.safetensors, poison.json"""
    attack = _component("attack", config["attack"], Attack)
    if digest(attack.identity()) != digest(config["identity"]):
        raise Failed("a file of the attack changed after the run was planned: start the run again")
    task = _craft_task(config, ctx)
    poison = attack.craft_with(task)
    task.meter.settle()
    tensors = {"rows": poison.rows, "inputs": poison.inputs, "labels": poison.labels}
    save_tensors(ctx.folder, POISON, tensors | poison.extras)
    save_json(ctx.folder, "poison.json", {"movable": poison.movable, "facts": poison.facts})
    return task.meter.tee


def _craft_task(config: Config, ctx: Context) -> CraftTask:
    scene = Scene(ctx, config)
    test = TrainingSet(scene.pixels["test_x"], scene.pixels["test_y"])

    def surrogates() -> list[nn.Module]:
        found: list[nn.Module] = []
        while ctx.key(role := f"surrogate-{len(found)}") is not None:
            found.append(scene.load_model(role).eval().requires_grad_(False))
        return found

    return CraftTask(
        data=scene.clean,
        rows=load_tensors(ctx.file("select", ROWS))["poisoned"].to(ctx.device),
        training=scene.split["training"],
        test=Rows(test, torch.arange(len(test), device=ctx.device)),
        seed=config["seed"],
        device=ctx.device,
        classes=len(scene.facts["classes"]),
        recipe=Train.model_validate(config["train"]) if "train" in config else None,
        fresh_model=lambda: scene.initial_model(config["seed"], "attacker"),
        surrogates=surrogates,
        raise_if_stopped=ctx.raise_if_stopped,
        meter=Meter(len(scene.split["training"])),
        progress=ctx.progress,
    )


def run_discover(config: Config, ctx: Context) -> float:
    """Which poisoned rows are known: a larger share holds all rows of a smaller one. → known"""
    rows = load_tensors(ctx.file("craft", POISON))["rows"]
    order = permutation(len(rows), config["seed"], "discover")
    found = rows[order[: round(config["share"] * len(rows))]]
    save_tensors(ctx.folder, ROWS, {"known": found.sort().values})
    return 0.0


def run_train(config: Config, ctx: Context) -> float:
    """Train from scratch, on poisoned data or (input "exclude") without some rows. → model"""
    scene = scene_of(ctx, config)
    recipe = Train.model_validate(config["train"])
    if config.get("ready"):
        save_tensors(ctx.folder, MODEL, scene.given_model(recipe).state_dict())
        return 0.0
    rows = scene.training_rows
    if config["role"] == "extractor":
        rows = scene.split[config["rows"]]
    if ctx.key("exclude") is not None:
        left_out = load_tensors(ctx.file("exclude", ROWS))["poisoned"].to(ctx.device)
        rows = rows[~torch.isin(rows, left_out)]
    if ctx.key("known") is not None:
        rows = rows[~torch.isin(rows, scene.forget_rows)]
    if recipe.start_from and recipe.from_as == "initial-weights":
        model = scene.given_model(recipe)
    else:
        model = scene.initial_model(config["seed"], config["role"])
    seed = stream(config["seed"], config["role"])
    learner, data = scene.trainable(model)
    fit(learner, data, rows, recipe, seed, ctx, scene.look(config, ctx))
    save_tensors(ctx.folder, MODEL, model.state_dict())
    return recipe.epochs * len(rows) / len(scene.all_rows)


def run_unlearn(config: Config, ctx: Context) -> float:
    """Unlearn to one budget, going on from the segment before if there is one. → model, state"""
    scene = scene_of(ctx, config)
    task = scene.task(scene.retain_rows, scene.forget_rows)
    chosen = load_json(ctx.file("choice", CHOICE))["config"] if ctx.key("choice") else {}
    method = _component("method", config["method"] | chosen, Method)
    previous: Path | None = None
    if ctx.key("previous") is not None:
        told = ctx.file("previous", STATE_JSON)
        for name in (STATE, load_json(told)["live"]):
            ctx.file("previous", name)  # checks it
        previous = told.parent
    unlearn(method, task, config["budget_tee"], ctx, previous, scene.look(config, ctx))
    task.save(ctx.folder)
    return task.meter.tee + task.finishing_tee


def run_proxy(config: Config, ctx: Context) -> float:
    """Draw the clean rows that stand in for the forget set. → rows.safetensors (forget, retain)"""
    rows = load_tensors(ctx.file("split", ROWS))["training"]
    if ctx.key("exclude") is not None:
        rows = rows[~torch.isin(rows, load_tensors(ctx.file("exclude", ROWS))["poisoned"])]
    forget, retain = proxy_cut(rows.numpy(), config["count"], config["seed"])
    tensors = {"forget": torch.from_numpy(forget), "retain": torch.from_numpy(retain)}
    save_tensors(ctx.folder, ROWS, tensors)
    return 0.0


def run_trial(config: Config, ctx: Context) -> float:
    """Try a method's settings and score the outcome. → trial.json

    On proxy rows without any input that holds the poison; or, for an oracle, on the forget set.
    What does not fit or diverges is an outcome too: the choice must know of it.
    """
    scene = Scene(ctx, config)
    method = _component("method", config["method"], Method)
    if ctx.key("proxy") is not None:
        drawn = load_tensors(ctx.file("proxy", ROWS))
        retain, proxies = drawn["retain"].to(ctx.device), drawn["forget"].to(ctx.device)
        task = scene.task(retain, proxies)
    else:
        proxies = scene.split["validation"][:0]
        task = scene.task(scene.retain_rows, scene.forget_rows)
    # TEE are in rows of the original training, of which a proxy's task sees a part.
    share = task.meter.rows / config["rows"]
    told: dict[str, Any] = {"outcome": "ok", "reason": ""}
    try:
        if method.role == "unlearn":
            unlearn(method, task, config["budget_tee"] / share, ctx)
        model = task.handed_out or task.model
        rows = {"validation": scene.split["validation"], "proxies": proxies}
        told |= score_on(model, {name: Rows(scene.clean, own) for name, own in rows.items()})
        if "audit" in config:
            audit = _component("audit", config["audit"], Audit)
            metrics = audit.measure(scene.subject(model, config["seed"])).metrics
            told["value"] = metrics[audit.primary]
        task.meter.limit = math.inf  # looking is no part of the budget, but of the search's cost
        task.meter.charge(sum(map(len, rows.values())), FORWARD)
    except Diverged as why:
        told |= {"outcome": "failed", "reason": str(why)}
    except NotApplicable as why:
        told |= {"outcome": "n/a", "reason": str(why)}
    task.meter.settle()
    save_json(ctx.folder, TRIAL, told)
    return float((task.meter.tee + task.finishing_tee) * share)


def run_choose(config: Config, ctx: Context) -> float:
    """Choose among the trials of a method. → choice.json"""

    def read(role: str) -> list[tuple[int, Config]]:
        wanted = [(seed, f"{role} s{seed}") for seed in config["seeds"]]
        return [(seed, load_json(ctx.file(w, TRIAL))) for seed, w in wanted if ctx.key(w)]

    save_json(ctx.folder, CHOICE, decide(config, read))
    return 0.0


def run_audit(config: Config, ctx: Context) -> float:
    """Measure one model, in float32. → measurements.json, perhaps scores.safetensors"""
    scene = Scene(ctx, config)
    audit = _component("audit", config["audit"], Audit)
    model = scene.load_model("model")
    subject = scene.subject(model, config["seed"])
    measured = audit.measure(subject)
    if measured.arrays:
        save_tensors(ctx.folder, SCORES, measured.arrays)
    metrics = dict(measured.metrics)
    if scene.known is not None and audit.per_row:
        known = torch.isin(subject.poison.rows, scene.known)
        for word, some in (("known", known), ("unknown", ~known)):
            part = audit.measure(subject.of_poison(some)).metrics
            metrics[f"{audit.primary}_{word}"] = part[audit.primary]
    name = config["audit"]["name"]
    save_json(ctx.folder, "measurements.json", {"audit": name, "metrics": metrics})
    return 0.0


RUN: dict[str, Callable[[Config, Context], float]] = {
    "data": run_data,
    "split": run_split,
    "select": run_select,
    "craft": run_craft,
    "discover": run_discover,
    "train": run_train,
    "unlearn": run_unlearn,
    "audit": run_audit,
    "proxy": run_proxy,
    "trial": run_trial,
    "choose": run_choose,
}
"""Stage kind → function; each returns the TEE spent, from the start of the trajectory on."""


class Scene:
    """The inputs that training, unlearning and audits have in common, on the stage's device."""

    def __init__(self, ctx: Context, config: Config) -> None:
        self.ctx = ctx
        self.config = config
        self.pixels = _pixels(ctx)
        self.facts = load_json(ctx.file("data", "data.json"))
        self.split = {k: v.to(ctx.device) for k, v in load_tensors(ctx.file("split", ROWS)).items()}
        self.poison = _poison(ctx) if ctx.key("craft") is not None else None
        self.data = TrainingSet(self.pixels["train_x"], self.pixels["train_y"], self.poison)
        self.known: Tensor | None = None  # poisoned rows that were found, where not all were
        if ctx.key("known") is not None:
            self.known = load_tensors(ctx.file("known", ROWS), ctx.device)["known"]

    @property
    def clean(self) -> TrainingSet:
        """The data set as it was before any poisoning."""
        return TrainingSet(self.pixels["train_x"], self.pixels["train_y"])

    @property
    def all_rows(self) -> Tensor:
        """All rows of the original training, poisoned ones included, int64; 1 TEE is one pass."""
        rows = self.split["training"]
        if self.poison is None:
            return rows
        added = self.poison.rows[self.poison.rows >= len(self.pixels["train_y"])]
        return torch.cat([rows, added])

    @property
    def training_rows(self) -> Tensor:
        return self.all_rows

    @property
    def retain_rows(self) -> Tensor:
        rows = self.training_rows
        return rows[~torch.isin(rows, self.forget_rows)]

    @property
    def forget_rows(self) -> Tensor:
        """What a method may unlearn: the poison, or what was found of it."""
        assert self.poison is not None, "only poisoned data have a forget set"
        return self.poison.rows if self.known is None else self.known

    @property
    def validation_rows(self) -> Tensor:
        return self.split["validation"]

    def new_model(self) -> nn.Module:
        model = _component("model", self.config["model"], Model)
        facts = self.facts
        built = model.build(
            tuple(facts["shape"]), len(facts["classes"]), facts["mean"], facts["std"]
        )
        if (frozen := extractor_of(built)) is not None:
            frozen.load(load_tensors(self.ctx.file("extractor", MODEL)))
        return built.to(self.ctx.device)

    def trainable(self, model: nn.Module) -> tuple[nn.Module, TrainingSet]:
        """What trains of a model, and the data as it sees them: features where the rest is frozen.

        The first shares its weights with `model`.
        """
        if self.extractor is None:
            return model, self.data
        head, features = without_extractor(model), self._features(self.extractor)
        if self.poison is None:
            return head, FeatureSet(features, self.data.labels)
        return head, with_poison(self.extractor, features, self.data, self.poison)

    @property
    def trainable_clean(self) -> TrainingSet:
        """The clean data as `trainable` sees them."""
        if self.extractor is None:
            return self.clean
        return FeatureSet(self._features(self.extractor), self.clean.labels)

    @cached_property
    def extractor(self) -> Frozen | None:
        """The model's frozen layers, if it has any."""
        return extractor_of(self.new_model()) if self.ctx.key("extractor") is not None else None

    def _features(self, extractor: Frozen) -> Tensor:
        """Of all clean rows outside the extractor's own; kept beside the pixels they come from."""
        name = f"features {self.ctx.key('extractor')} {self.ctx.key('split')}"
        if name not in self.pixels:
            for old in [key for key in self.pixels if key.startswith("features ")]:
                del self.pixels[old]
            rows = torch.cat([self.split["training"], self.split["validation"]])
            self.pixels[name] = clean_features(extractor, self.clean, rows)
        return self.pixels[name]

    def initial_model(self, seed: int, role: str) -> nn.Module:
        """Where a training starts: freshly initialised for this seed and role."""
        torch.manual_seed(stream(seed, role, "init"))
        return self.new_model()

    def given_model(self, recipe: Train) -> nn.Module:
        """The user's own weights. Raises Failed when they are another model's."""
        model = self.new_model()
        path = Path(str(recipe.start_from)).expanduser()
        try:
            model.load_state_dict(load_tensors(path, self.ctx.device))
        except (RuntimeError, OSError) as error:
            told = " ".join(str(error).split())[:300]
            key = "model.extractor_weights" if self.config["role"] == "extractor" else "train.from"
            raise Failed(f"{key} = {recipe.start_from!r} does not fit the model: {told}") from None
        return model

    def load_model(self, role: str) -> nn.Module:
        model = self.new_model()
        saved = without_extractor(model) if extractor_of(model) else model
        saved.load_state_dict(load_tensors(self.ctx.file(role, MODEL), self.ctx.device))
        if self.config.get("channels_last"):
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def decoys(self, limit: int, test: bool) -> Batch:
        attack = _component("attack", self.config["decoys_of"], Attack)
        assert self.poison is not None
        sources = [(self.clean, self.split["validation"])]
        if test:
            data = TrainingSet(self.pixels["test_x"], self.pixels["test_y"])
            sources.append((data, torch.arange(len(data), device=self.ctx.device)))
        found = decoys_of(attack, self.poison, sources, self.config["seed"], limit)
        return Batch(
            torch.cat([part.inputs for part in found]), torch.cat([part.labels for part in found])
        )

    def task(self, retain: Tensor, forget: Tensor) -> UnlearnTask:
        """The input "start", to be unlearned; int64 rows of the data."""
        recipe = Train.model_validate(self.config["train"])
        seed, role = self.config["seed"], self.config.get("role", "paired")
        model = self.load_model("start")
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner, data = self.trainable(model)
        return UnlearnTask(
            model=learner,
            data=data,
            retain=retain,
            forget=forget,
            recipe=recipe,
            # The seed of retraining: a method that trains everything anew on all retained rows is
            # retraining, bit for bit.
            seed=stream(seed, role),
            device=self.ctx.device,
            classes=len(self.facts["classes"]),
            fresh=lambda: self.trainable(self.initial_model(seed, role))[0],
            validation=(self.trainable_clean, self.validation_rows),
        )

    def subject(self, model: nn.Module, seed: int) -> Subject:
        test = TrainingSet(self.pixels["test_x"], self.pixels["test_y"])
        clean = self.clean
        device = self.ctx.device
        assert self.poison is not None, "audits look at poisoned data"
        return Subject(
            model=model.eval(),
            retain=Rows(self.data, self.retain_rows),
            forget=Rows(self.data, self.poison.rows),
            validation=Rows(clean, self.split["validation"]),
            test=Rows(test, torch.arange(len(test), device=device)),
            base=Rows(clean, self.poison.rows[self.poison.rows < len(clean)]),
            poison=self.poison,
            seed=seed,
            device=device,
            classes=len(self.facts["classes"]),
            load=self.load_model,
            make_decoys=self.decoys if "decoys_of" in self.config else None,
        )

    def look(self, config: Config, ctx: Context) -> Look | None:
        """A cheap look at the model under way, for people who watch; it changes nothing."""
        if self.poison is None or "attack" not in config:
            return None
        attack = _component("attack", config["attack"], Attack)

        frozen = self.extractor

        def look(model: nn.Module, step: int) -> None:
            if frozen is not None:
                model = nn.Sequential(frozen, cast(nn.Sequential, model)[1])
            with looking_at(model):
                for name, data in attack.glimpse(self.subject(model, seed=0)).items():
                    ctx.probe(name, step, data)

        return look


class ShadowScene(Scene):
    """What a shadow learns from: retained rows, and half of poison and decoys as its forget set."""

    def __init__(self, ctx: Context, config: Config) -> None:
        super().__init__(ctx, config)
        assert self.poison is not None
        attack = _component("attack", config["decoys_of"], Attack)
        seed, told, clean = config["seed"], config["shadow"], self.clean
        poison, sources = self.poison, [(clean, self.split["validation"])]
        (decoys,) = decoys_of(attack, poison, sources, seed, limit=len(poison.rows))
        self.poison = joined(poison, decoys)
        self.data = TrainingSet(clean.pixels, clean.labels, self.poison)
        mine = halves(seed, told["index"], len(poison.rows), len(decoys.rows))
        self._forget = self.poison.rows[mine.to(ctx.device)]
        retain = self.split["training"]
        retain = retain[~torch.isin(retain, poison.rows)]
        if told["retain_share"] < 1:
            order = permutation(len(retain), seed, config["role"], "retain")
            some = order[: round(told["retain_share"] * len(retain))].sort().values
            retain = retain[some.to(ctx.device)]
        self._retain = retain
        validation = self.split["validation"]
        self._validation = validation[~torch.isin(validation, decoys.rows)]

    @property
    def training_rows(self) -> Tensor:
        return torch.cat([self._retain, self._forget]).sort().values

    @property
    def retain_rows(self) -> Tensor:
        return self._retain

    @property
    def forget_rows(self) -> Tensor:
        return self._forget

    @property
    def validation_rows(self) -> Tensor:
        return self._validation


def scene_of(ctx: Context, config: Config) -> Scene:
    return (ShadowScene if "shadow" in config else Scene)(ctx, config)


def _component(kind: str, config: Config, base: type[T]) -> T:
    component = find(kind, config["name"]).model_validate(config)
    assert isinstance(component, base)
    return component


def _pixels(ctx: Context) -> dict[str, Tensor]:
    """The decoded data set on the device; kept by the worker from one stage to the next."""
    key = f"{ctx.key('data')} on {ctx.device}"
    return ctx.shared(key, lambda: load_tensors(ctx.file("data", PIXELS), ctx.device))


def _poison(ctx: Context) -> Poison:
    tensors = load_tensors(ctx.file("craft", POISON), ctx.device)
    told = load_json(ctx.file("craft", "poison.json"))
    rows, inputs, labels = (tensors.pop(name) for name in ("rows", "inputs", "labels"))
    return Poison(rows, inputs, labels, tensors, told["movable"], told["facts"])
