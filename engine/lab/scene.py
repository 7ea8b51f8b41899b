"""What a stage looks at: its inputs on its device, as training, unlearning and audits need them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_json, load_tensors
from engine.lab.context import Context, Failed
from engine.lab.frozen import (
    FeatureSet,
    Frozen,
    clean_features,
    extractor_of,
    with_poison,
    without_extractor,
)
from engine.lab.looks import Look, Looks
from engine.lab.randomness import permutation, stream
from engine.lab.shadows import decoys_of, halves, joined
from engine.lab.state import MODEL
from engine.lab.subject import Subject
from engine.lab.texts import data_set
from engine.lab.tokens import Tokens
from engine.lab.training import looking_at
from engine.lab.unlearning import UnlearnTask
from engine.lab.views import Batch, Poison, Rows, TrainingSet
from engine.spec.closed_form import ClosedForm
from engine.spec.component import Attack, Component, Model
from engine.spec.experiment import Train
from engine.spec.places import expanded
from engine.spec.registry import find

T = TypeVar("T", bound=Component)
Config = dict[str, Any]
PIXELS, ROWS, POISON, SCORES = (
    f"{name}.safetensors" for name in ("pixels", "rows", "poison", "scores")
)
TOKENS, TEXTS, SCORE_ROWS = "tokens.json", "texts.json", "score_rows.json"


class Scene:
    """The inputs that training, unlearning and audits have in common, on the stage's device."""

    def __init__(self, ctx: Context, config: Config) -> None:
        self.ctx = ctx
        self.config = config
        self.pixels = pixels_of(ctx)
        self.facts = load_json(ctx.file("data", "data.json"))
        self.split = {k: v.to(ctx.device) for k, v in load_tensors(ctx.file("split", ROWS)).items()}
        self.poison = poison_of(ctx) if ctx.key("craft") is not None else None
        self.data = self.set_of("train", self.poison)
        self.known: Tensor | None = None  # poisoned rows that were found, where not all were
        if ctx.key("known") is not None:
            self.known = load_tensors(ctx.file("known", ROWS), ctx.device)["known"]

    @cached_property
    def clean(self) -> TrainingSet:
        """The data set as it was before any poisoning."""
        return self.set_of("train")

    @cached_property
    def test(self) -> TrainingSet:
        """All test rows."""
        return self.set_of("test")

    def set_of(self, part: str, poison: Poison | None = None) -> TrainingSet:
        """All rows of "train" or "test", with the poison or clean."""
        return data_set(
            self.pixels[f"{part}_x"], self.pixels[f"{part}_y"], lambda: self.tokens, poison
        )

    @cached_property
    def tokens(self) -> Tokens:
        """The tokenizer of a data set of texts."""
        return Tokens.from_json(self.ctx.file("data", TOKENS).read_text(encoding="utf-8"))

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

    @cached_property
    def model(self) -> Model:
        return component_of("model", self.config["model"], Model)

    @property
    def closed_form(self) -> ClosedForm | None:
        """How the model is solved for, if it is not trained in steps."""
        return self.model.closed_form()

    def new_model(self) -> nn.Module:
        facts = self.facts
        built = self.model.build(
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
        """Where a training starts: initialised for this seed and role, or pretrained."""
        torch.manual_seed(stream(seed, role, "init"))
        model = self.new_model()
        self.model.load_pretrained(model)
        return model

    def given_model(self, recipe: Train) -> nn.Module:
        """The user's own weights. Raises Failed when they are another model's."""
        model = self.new_model()
        path = expanded(str(recipe.start_from), "train.from")
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
        attack = component_of("attack", self.config["decoys_of"], Attack)
        assert self.poison is not None
        sources = [(self.clean, self.split["validation"])]
        if test:
            sources.append((self.test, torch.arange(len(self.test), device=self.ctx.device)))
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
            closed_form=self.closed_form,
        )

    def subject(self, model: nn.Module, seed: int) -> Subject:
        test, clean = self.test, self.clean
        device = self.ctx.device
        assert self.poison is not None, "audits look at poisoned data"
        return Subject(
            model=model.eval(),
            retain=Rows(self.data, self.data.by_length(self.retain_rows)),
            forget=Rows(self.data, self.poison.rows),
            validation=Rows(clean, self.split["validation"]),
            test=Rows(test, test.by_length(torch.arange(len(test), device=device))),
            base=Rows(clean, self.poison.rows[self.poison.rows < len(clean)]),
            poison=self.poison,
            seed=seed,
            device=device,
            classes=len(self.facts["classes"]),
            load=self.load_model,
            make_decoys=self.decoys if "decoys_of" in self.config else None,
        )

    def looks(self, config: Config, ctx: Context) -> Looks | None:
        """Looks at the model of a stage that begins now."""
        look = self.look(config, ctx)
        return None if look is None else Looks(look, str(config["attack"]["name"]))

    def look(self, config: Config, ctx: Context) -> Look | None:
        """A cheap look at the model under way, for people who watch; it changes nothing."""
        if self.poison is None or "attack" not in config:
            return None
        attack = component_of("attack", config["attack"], Attack)

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
        attack = component_of("attack", config["decoys_of"], Attack)
        seed, told, clean = config["seed"], config["shadow"], self.clean
        poison, sources = self.poison, [(clean, self.split["validation"])]
        (decoys,) = decoys_of(attack, poison, sources, seed, limit=len(poison.rows))
        self.poison = joined(poison, decoys)
        self.data = self.set_of("train", self.poison)
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


def component_of(kind: str, config: Config, base: type[T]) -> T:
    component = find(kind, config["name"]).model_validate(config)
    assert isinstance(component, base)
    return component


def pixels_of(ctx: Context) -> dict[str, Tensor]:
    """The decoded data set on the device; kept by the worker from one stage to the next."""
    key = f"{ctx.key('data')} on {ctx.device}"
    return ctx.shared(key, lambda: load_tensors(ctx.file("data", PIXELS), ctx.device))


def poison_of(ctx: Context) -> Poison:
    tensors = load_tensors(ctx.file("craft", POISON), ctx.device)
    told = load_json(ctx.file("craft", "poison.json"))
    rows, inputs, labels = (tensors.pop(name) for name in ("rows", "inputs", "labels"))
    return Poison(rows, inputs, labels, tensors, told["movable"], told["facts"])
