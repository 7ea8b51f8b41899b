"""The stages of an experiment, from inputs to artifacts. Each commits what the next one reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_json, load_tensors, save_json, save_tensors
from engine.lab.context import Context, Failed
from engine.lab.crafting import CraftTask
from engine.lab.data._report import report, warning
from engine.lab.meter import Meter
from engine.lab.randomness import stream
from engine.lab.selection import choose, validation_cut
from engine.lab.state import MODEL, STATE, STATE_JSON
from engine.lab.subject import Subject
from engine.lab.training import Look, fit, looking_at
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.lab.views import Poison, Rows, TrainingSet
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
    pixels = arrays["train_x"].to(torch.float64).div_(255)
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
    """Cut the validation rows off, before any poisoning. → rows.safetensors (training, validation)"""
    count = len(_pixels(ctx)["train_y"])
    training, validation = validation_cut(count, config["validation"], config["seed"])
    rows = {"training": torch.from_numpy(training), "validation": torch.from_numpy(validation)}
    save_tensors(ctx.folder, ROWS, rows)
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


def run_train(config: Config, ctx: Context) -> float:
    """Train from scratch, on poisoned data or (input "exclude") without some rows. → model"""
    scene = Scene(ctx, config)
    recipe = Train.model_validate(config["train"])
    if config.get("ready"):
        save_tensors(ctx.folder, MODEL, scene.given_model(recipe).state_dict())
        return 0.0
    rows = scene.training_rows
    if ctx.key("exclude") is not None:
        left_out = load_tensors(ctx.file("exclude", ROWS))["poisoned"].to(ctx.device)
        rows = rows[~torch.isin(rows, left_out)]
    if recipe.start_from and recipe.from_as == "initial-weights":
        model = scene.given_model(recipe)
    else:
        model = scene.initial_model(config["seed"], config["role"])
    seed = stream(config["seed"], config["role"])
    fit(model, scene.data, rows, recipe, seed, ctx, scene.look(config, ctx))
    save_tensors(ctx.folder, MODEL, model.state_dict())
    return recipe.epochs * len(rows) / len(scene.training_rows)


def run_unlearn(config: Config, ctx: Context) -> float:
    """Unlearn to one budget, going on from the segment before if there is one. → model, state"""
    scene = Scene(ctx, config)
    recipe = Train.model_validate(config["train"])
    model = scene.load_model("start")
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = UnlearnTask(
        model=model,
        data=scene.data,
        retain=scene.retain_rows,
        forget=scene.forget_rows,
        recipe=recipe,
        # The seed of retraining: a method that trains everything anew on all retained rows is
        # retraining, bit for bit.
        seed=stream(config["seed"], "paired"),
        device=ctx.device,
        classes=len(scene.facts["classes"]),
        fresh=lambda: scene.initial_model(config["seed"], "paired"),
        validation=(scene.clean, scene.split["validation"]),
    )
    method = _component("method", config["method"], Method)
    previous: Path | None = None
    if ctx.key("previous") is not None:
        told = ctx.file("previous", STATE_JSON)
        for name in (STATE, load_json(told)["live"]):
            ctx.file("previous", name)  # checks it
        previous = told.parent
    unlearn(method, task, config["budget_tee"], ctx, previous, scene.look(config, ctx))
    task.save(ctx.folder)
    return task.meter.tee + task.finishing_tee


def run_audit(config: Config, ctx: Context) -> float:
    """Measure one model, in float32. → measurements.json, perhaps scores.safetensors"""
    scene = Scene(ctx, config)
    audit = _component("audit", config["audit"], Audit)
    model = scene.load_model("model")
    if config["channels_last"]:
        model.to(memory_format=torch.channels_last)
    measured = audit.measure(scene.subject(model, config["seed"]))
    if measured.arrays:
        save_tensors(ctx.folder, SCORES, measured.arrays)
    name = config["audit"]["name"]
    save_json(ctx.folder, "measurements.json", {"audit": name, "metrics": measured.metrics})
    return 0.0


RUN: dict[str, Callable[[Config, Context], float]] = {
    "data": run_data,
    "split": run_split,
    "select": run_select,
    "craft": run_craft,
    "train": run_train,
    "unlearn": run_unlearn,
    "audit": run_audit,
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

    @property
    def clean(self) -> TrainingSet:
        """The data set as it was before any poisoning."""
        return TrainingSet(self.pixels["train_x"], self.pixels["train_y"])

    @property
    def training_rows(self) -> Tensor:
        """All rows of the training, poisoned ones included; int64."""
        rows = self.split["training"]
        if self.poison is None:
            return rows
        added = self.poison.rows[self.poison.rows >= len(self.pixels["train_y"])]
        return torch.cat([rows, added])

    @property
    def retain_rows(self) -> Tensor:
        rows = self.training_rows
        return rows[~torch.isin(rows, self.forget_rows)]

    @property
    def forget_rows(self) -> Tensor:
        assert self.poison is not None, "only poisoned data have a forget set"
        return self.poison.rows

    def new_model(self) -> nn.Module:
        model = _component("model", self.config["model"], Model)
        facts = self.facts
        built = model.build(
            tuple(facts["shape"]), len(facts["classes"]), facts["mean"], facts["std"]
        )
        return built.to(self.ctx.device)

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
            raise Failed(
                f"train.from = {recipe.start_from!r} does not fit the model: {told}"
            ) from None
        return model

    def load_model(self, role: str) -> nn.Module:
        model = self.new_model()
        model.load_state_dict(load_tensors(self.ctx.file(role, MODEL), self.ctx.device))
        return model

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
        )

    def look(self, config: Config, ctx: Context) -> Look | None:
        """A cheap look at the model under way, for people who watch; it changes nothing."""
        if self.poison is None or "attack" not in config:
            return None
        attack = _component("attack", config["attack"], Attack)

        def look(model: nn.Module, step: int) -> None:
            with looking_at(model):
                for name, data in attack.glimpse(self.subject(model, seed=0)).items():
                    ctx.probe(name, step, data)

        return look


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
