"""What an attack, method, audit, model or data set declares, before any of it runs.

Each lives in one file of `engine/lab/<kind>s/` (or a third party's package): a pydantic class whose
fields are the preset's keys, a `card` for people, and the algorithm as methods. The files must
import with torch absent, so heavy modules are imported inside the methods that use them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from engine.spec.class_keys import indices
from engine.spec.data_report import DataReport, Part, merged, report
from engine.spec.path_keys import path_keys, placed

if TYPE_CHECKING:
    import numpy as np
    import torch

    from engine.lab.crafting import CraftTask
    from engine.lab.subject import Measured, Subject
    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Poison, TrainingSet
    from engine.spec.closed_form import ClosedForm
    from engine.spec.size import Size

DataKind = Literal["image", "table", "text"]
Role = Literal["none", "retrain", "retrain-fresh", "retrain-known", "unlearn"]
Reading = Literal["start", "retrain", "control", "decoys", "shadows", "unlearned-shadows"]


def kinds_in_words(kinds: frozenset[DataKind]) -> str:
    """Such as "images and tables"."""
    return " and ".join(f"{kind}s" for kind in sorted(kinds))


@dataclass(frozen=True, slots=True)
class Card:
    """What a person should know before choosing a component."""

    title: str
    summary: str
    reference: str
    needs: str = ""
    cost: str = ""
    deviations: str = "none known"


@dataclass(frozen=True, slots=True)
class Metric:
    """How one number of an audit is read.

    `direction` says which way residual poison pushes it: "up" or "down"; None when it has no side.
    `margin` is the equivalence margin of a primary metric, in the metric's own unit.
    `null` is the reference a verdict uses: "standard-normal" (the pooled mean has the exact null
    N(0, 1/count)) or "retrain" (paired differences to retraining).
    `averaged` is False where a mean over seeds would be meaningless (p-values).

    A metric measured for each class is declared once, as "class_accuracy", and measured as
    "class_accuracy.0", "class_accuracy.1" and so on.

    `rate` is True where one model gives 0 or 1: its mean has Wilson's interval. `beside` is True for
    a rate that tables show beside the primary metric. `share_of` is "rows" for a share of the rows
    that the audit's metric `count` counts, which has an interval of its own: Wilson's, or with
    "tail", where only few of them qualify, Clopper and Pearson's.

    `span` is how far apart two values can lie, where that is bounded (1 for shares, probabilities and
    AUCs): a margin must be smaller. `shipped` is not for audits to set: where a preset's margin stands
    in place of the audit's own, it is the audit's own.
    """

    summary: str
    direction: Literal["up", "down"] | None = None
    margin: float | None = None
    null: Literal["standard-normal", "retrain"] = "retrain"
    averaged: bool = True
    blind_spots: str = ""
    rate: bool = False
    beside: bool = False
    share_of: Literal["rows", "tail"] | None = None
    span: float | None = None
    shipped: float | None = None


class Component(BaseModel):
    """Base of every registered component; subclasses add `name: Literal[...]` and their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    card: ClassVar[Card]
    version: ClassVar[int] = 1  # raise when the same config would give other tensors
    packages: ClassVar[tuple[str, ...]] = ()  # whose versions, besides torch's, enter the key

    def named_packages(self) -> tuple[str, ...]:
        """`packages`, and those whose versions `identity` names where that depends on more than the
        class. A worker that has other versions refuses the stage."""
        return self.packages

    def placed(self, where: str) -> Self:
        """With absolute paths, in the keys annotated `PathKey` or `FolderOrName` (path_keys.py).

        Planning asks for it before `config` and `identity`, so that a worker finds the files from any
        folder. Override it for paths that are no keys of their own. Raises BadInput for the home of
        a user that does not exist; `where` is the component in the words of errors.
        """
        return placed(self, where)


M = TypeVar("M", bound=BaseModel)


def strictly(cls: type[M], data: dict[str, Any]) -> M:
    """Validate plain data as JSON is validated: lists may be tuples, but "5" is no number.

    Raises pydantic's ValidationError.
    """
    return cls.model_validate_json(json.dumps(data, default=str), strict=True)


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What planning must know of a data set. Counts are rows; `shape` is (channels, height, width),
    for a table (columns, 1, 1), for texts (tokens, 1, 1); `vocabulary` is the number of token ids."""

    digest: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_per_class: tuple[int, ...]
    kind: DataKind = "image"
    vocabulary: int = 0
    # What is known of its report before the rows themselves are read. No part of any key.
    report: DataReport = field(default_factory=DataReport, compare=False)

    @property
    def known(self) -> DataReport:
        """The report, completed by what is known of every data set."""
        train: Part = {"rows": self.train, "per_class": list(self.train_per_class)}
        own = self.report
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "classes": list(self.classes),
            **own,  # type: ignore[typeddict-item]
            "train": {**train, **own.get("train", {})},  # type: ignore[typeddict-item]
            "test": {"rows": self.test, **own.get("test", {})},
        }


class Data(Component):
    """A data set in raw space and int64 labels: uint8 images, a table's floats in [0, 1], or token
    ids."""

    def inspect(self) -> DataInfo:
        """Counts and a digest of the content, without torch. Raises BadInput if unusable."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """The keys that decide the tensors, beside the content digest; a path is none of them."""
        return self.model_dump(mode="json", exclude={"path", *path_keys(type(self))})

    def read(self) -> dict[str, np.ndarray]:
        """`train_x, test_x` uint8 or float32 [N, C, H, W], of texts int32 [N, L], and `train_y,
        test_y` int64 [N]."""
        raise NotImplementedError

    def describe(self) -> tuple[DataReport, dict[str, np.ndarray]]:
        """All there is to tell of it, and what `read` gives: looks at every row. Raises BadInput."""
        info = self.inspect()
        arrays = self.read()
        return merged(info.known, report(arrays, len(info.classes))), arrays


@dataclass(frozen=True, slots=True)
class Pretraining:
    """The training that a model takes its frozen layers from.

    `train` holds keys of a preset's [train]; "from" there names a file that makes it unnecessary.
    `rows` is the share of the data set's training rows that are cut off for it alone; None: the
    experiment's own training rows, without any poison.
    """

    model: Model
    train: dict[str, Any]
    rows: float | None


class Model(Component):
    """A classifier over raw inputs; its first layer normalises.

    `convolutional` and `transformer` say where bf16 and channels-last pay off.
    """

    takes: ClassVar[frozenset[DataKind]] = frozenset({"image", "table"})
    convolutional: ClassVar[bool] = False
    transformer: ClassVar[bool] = False

    def check(self, data: DataInfo) -> None:
        """Raise BadInput when this model cannot take such inputs."""

    def config(self) -> dict[str, Any]:
        """What a worker builds the model from."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What of `config` decides results; goes into content keys. A path does not."""
        return self.config()

    def size(self, data: DataInfo) -> Size | None:
        """For estimates of memory and time; None: there are none."""
        return None

    def load_pretrained(self, model: torch.nn.Module) -> None:
        """Put weights that were trained elsewhere into a freshly built model, in place.

        Raises Failed when they are not those that were planned with, or cannot be had.
        """

    def pretraining(self) -> Pretraining | None:
        """The training it needs before any other, if so: its stage is an input of all others."""
        return None

    def closed_form(self) -> ClosedForm | None:
        """How it is solved for, where it is not trained in steps; then no [train] key has a meaning."""
        return None

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        """Freshly initialised from torch's global generator; maps float [B, C, H, W] to [B, K].

        For texts `shape` is (longest, vocabulary, 1), and inputs are as in `engine.lab.texts`.
        """
        raise NotImplementedError


class Listed(Component):
    """A component that a preset lists several of, perhaps one entry standing for a small grid."""

    # Keys that came after the first results: no part of a content key while they hold their default.
    later: ClassVar[frozenset[str]] = frozenset()
    # Whether it reads outputs as log-probabilities, which a model solved for does not give.
    needs_probabilities: ClassVar[bool] = False
    listed_in: ClassVar[str] = ""  # the preset's list, in the words of errors

    label: str | None = Field(
        default=None,
        pattern=r"^[\w.,=+ -]{1,60}$",
        description="Shown instead of the grid's values.",
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="Key = list of values: one variant per combination."
    )

    def variants(self) -> list[tuple[str, Self]]:
        """(variant label, config without grid) for each combination of the grid's values."""
        fixed = {
            key: value
            for key, value in self.model_dump(exclude_unset=True).items()
            if key not in ("grid", "label")
        }
        found = []
        for values in product(*self.grid.values()):
            chosen = dict(zip(self.grid, values, strict=True))
            told = ",".join(f"{key}={value}" for key, value in chosen.items())
            label = " ".join(part for part in (self.label, told) if part)
            found.append((label, type(self).model_validate(fixed | chosen)))
        return found

    def resolved(self, data: DataInfo) -> Self:
        """With indices in the place of classes' names, in the keys annotated `ClassKey`.

        Planning asks for it before anything else that is told the data; `config`, `identity` and
        whatever a worker calls see indices. Override it for keys that name something else of the
        data. Raises BadInput for a name that no class has.
        """
        where = f"{self.listed_in}.{type(self).model_fields['name'].default}"
        found = indices(self, data.classes, where)
        return self.model_copy(update=found) if found else self

    def config(self) -> dict[str, Any]:
        """All keys with defaults filled in: what a worker makes the component from."""
        return self.model_dump(mode="json", exclude={"label", "grid"})

    def identity(self) -> dict[str, Any]:
        """What of `config` decides results; goes into content keys.

        Override it where a key is the path of a file: the file's content counts, not its place.
        """
        fields = type(self).model_fields
        return {
            key: value
            for key, value in self.config().items()
            if key not in self.later or value != fields[key].default
        }


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What an attacker must know and control; each a few words, for one table of all attacks."""

    controls: str = "not told"
    training_data: str = "not told"
    model: str = "not told"
    recipe: str = "not told"
    test_input: str = "not told"

    def told(self) -> dict[str, str]:
        """Heading → words, in the order of the table."""
        return {key.replace("_", " "): value for key, value in asdict(self).items()}


class Attack(Listed):
    """Poison for a training set."""

    listed_in: ClassVar[str] = "attacks"
    takes: ClassVar[frozenset[DataKind]] = frozenset({"image", "table"})
    knows: ClassVar[Knowledge] = Knowledge()
    gives: ClassVar[frozenset[str]] = frozenset()  # what audits may ask for: "noise", "trigger", …
    appends: ClassVar[bool] = False  # adds rows instead of replacing some
    knows_model: ClassVar[bool] = False  # see `needs_model`

    def selection(self) -> dict[str, Any]:
        """Which training rows are poisoned, as JSON; attacks with equal rules share retraining."""
        raise NotImplementedError

    def check(self, data: DataInfo, rows: int) -> None:
        """Raise BadInput when this attack cannot work on `rows` training rows of `data`."""

    def units(self, data: DataInfo, seed: int) -> list[tuple[int, Self]]:
        """The poisons this entry stands for under one seed: (number, config of one).

        An attack on a single input is one yes or no; its results pool over several such poisons,
        each its own stage. All others are one poison a seed, number 0.
        """
        return [(0, self)]

    def offers(self) -> frozenset[str]:
        """What this one gives, where that depends on more than the class."""
        return self.gives

    def adds(self) -> bool:
        """Whether this one adds rows, where that depends on more than the class."""
        return self.appends

    def craft(self, data: TrainingSet, rows: torch.Tensor, seed: int) -> Poison:
        """The poison of the selected `rows` (int64 [P]) of a clean training set."""
        raise NotImplementedError

    def baselines(self) -> list[Attack]:
        """Attacks to show beside this one: trained and retrained in every plan, not unlearned."""
        return []

    def needs_model(self, data: DataInfo) -> bool:
        """Whether its poison depends on the victim's model and recipe."""
        return self.knows_model

    def surrogate_count(self) -> int:
        """How many clean trainings of its own the attacker looks at; cached stages like any."""
        return 0

    def crafting_tee(self, rows: int) -> float:
        """About what one poison costs to make, besides surrogates, on `rows` training rows."""
        return 0.0

    def craft_with(self, task: CraftTask) -> Poison:
        """Like `craft`, for an attack that looks at models. Override one of the two."""
        return self.craft(task.data, task.rows, task.seed)

    def decoys(self, data: TrainingSet, rows: torch.Tensor, poison: Poison, seed: int) -> Poison:
        """What this attack makes of `rows` (int64 [D]) of clean `data` that no learner reads.

        Same rule, same trigger as `poison`, fresh noise: the non-members of membership audits, in
        the members' form. For attacks that give "decoys".
        """
        raise NotImplementedError

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        """A cheap look at a model under way: probe name → JSON, shown live, charged to nobody.

        It goes by at most some hundred rows, which it cuts before it scores them. The longer it
        takes, the rarer it is called: looks have a twentieth of a stage's time.
        """
        return {}


def poisoned_count(rule: dict[str, Any], rows: int) -> int:
    """How many of `rows` training rows a selection rule poisons: as many as it lists or adds, or the
    share of all, rounded; with "paired", one less if that is odd."""
    if "added" in rule:
        return int(rule["added"])
    if "rows" in rule:
        return len(rule["rows"])
    count = round(float(rule["share"]) * rows)
    return count - count % 2 if rule.get("paired") else count


class Method(Listed):
    """An unlearning method, one optimizer step at a time.

    A step draws all its data first (`task.retain.batch`, `task.forget.batch`), then updates the
    model: a draw that would exceed the budget ends the run before anything has changed.
    """

    listed_in: ClassVar[str] = "methods"
    role: ClassVar[Role] = "unlearn"
    reads: ClassVar[frozenset[str]] = frozenset({"retain", "forget"})
    # False when what it does depends on the budget's end: then each budget starts from the model.
    continues: ClassVar[bool] = True
    # The documented grid that `[tune]` searches: key = values, in their order.
    search: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def begin(self, task: UnlearnTask) -> None:
        """Set up what outlives a step: optimizer, teacher, mask. Kept in `task.state`."""

    def step(self, task: UnlearnTask) -> None:
        """One update of `task.model`."""
        raise NotImplementedError

    def finish(self, task: UnlearnTask) -> torch.nn.Module | None:
        """The model to hand out at a budget's end, where it is another than `task.model`.

        May charge the meter up to what `reserve` asked for; must leave `task.model` alone.
        """
        return None

    def reserve(self, task: UnlearnTask) -> float:
        """TEE to keep back for `finish`."""
        return 0.0


class Audit(Listed):
    """A measurement of what is left in a model.

    Without a primary metric it gets no verdict: its numbers describe, they do not judge.

    `reads` says what it looks at beside the model, which the planner then provides:
    "start"              the poisoned model before unlearning
    "retrain"            retraining from the same seed, whether or not the preset lists it
    "control"            training without as many random clean rows, poison included
    "decoys"             rows no learner reads, in the poison's form
    "shadows"            models trained with random halves of poison and decoys
    "unlearned-shadows"  the same after the method and budget under audit
    """

    listed_in: ClassVar[str] = "audits"
    needs: ClassVar[frozenset[str]] = frozenset()  # what the attack must give
    reads: ClassVar[frozenset[Reading]] = frozenset()
    metrics: ClassVar[dict[str, Metric]] = {}
    primary: ClassVar[str] = ""
    # Whether it scores poisoned rows one by one, so that known and unknown ones can be told apart.
    per_row: ClassVar[bool] = False

    def shadow_models(self) -> tuple[int, float]:
        """How many shadows, and the share of the retained rows each is trained on."""
        raise NotImplementedError

    def measure(self, subject: Subject) -> Measured:
        """All of `metrics` for one model."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Kind:
    """One registry: where its files lie and what they must be."""

    name: str
    folder: str
    base: type[Component]
    entry_points: str = field(default="")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("data", "engine.lab.data", Data, "chelate.data"),
        Kind("model", "engine.lab.models", Model, "chelate.models"),
        Kind("attack", "engine.lab.attacks", Attack, "chelate.attacks"),
        Kind("method", "engine.lab.methods", Method, "chelate.methods"),
        Kind("audit", "engine.lab.audits", Audit, "chelate.audits"),
    )
}
