"""What an experiment is: one typed, immutable value that a preset describes and a plan expands."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.spec.bounds import WORKERS
from engine.spec.component import Attack, Audit, Data, Listed, Method, Model
from engine.spec.errors import BadInput
from engine.spec.margins import check_margins
from engine.spec.path_keys import PathKey, Place, changes, path_keys, placed, value_at
from engine.spec.registry import component_name, registered, union
from engine.spec.slurm import Slurm
from engine.spec.tuning import check_tuning

L = TypeVar("L", bound=Listed)
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Margin = Annotated[float, Field(gt=0)]


class Table(BaseModel):
    """A table of a preset: unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )


class Train(Table):
    """The training recipe. Retraining uses the same one."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="SGD only.")
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1, description="Share of the steps.")
    augment: Literal["none", "crop-flip"] = "none"
    crop_padding: int = Field(default=4, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 autocast where model and device gain from it."
    )
    channels_last: bool | Literal["auto"] = Field(
        default="auto", description="auto: for convolutional models."
    )
    compile: bool = Field(default=False, description="torch.compile the training step's forward.")
    start_from: PathKey | None = Field(
        default=None, alias="from", description="Weights of this model, a safetensors file."
    )
    from_as: Literal["poisoned-model", "initial-weights"] = Field(
        default="poisoned-model",
        description="What `from` is: your own poisoned model, audited and unlearned as it is; or "
        "where every training starts.",
    )

    def resolved(self, model: Model, fast_bf16: bool) -> Train:
        """With every "auto" decided, so that a result's key says how it was computed."""
        gains = fast_bf16 and (model.convolutional or model.transformer)
        precision = ("bf16" if gains else "fp32") if self.precision == "auto" else self.precision
        layout = model.convolutional if self.channels_last == "auto" else self.channels_last
        return self.model_copy(update={"precision": precision, "channels_last": layout})


class Forget(Table):
    """The forget set: the poison that was found."""

    share: Fraction = Field(
        default=1.0, description="Share of the poison that is known and may be unlearned."
    )


class Compute(Table):
    """Where and how wide. Threads change the last bits of a result, so they are part of its key."""

    device: str = Field(default="auto", description="auto, cpu, cuda, or cuda:0,1")
    threads: int = Field(default=1, ge=1, description="Threads of each worker.")
    workers: int | None = Field(
        default=None, ge=1, description="Workers at once; default: GPU slots, else cores / threads."
    )
    slots_per_device: int = Field(
        default=1, ge=1, le=64, description="Workers that share one GPU, of all runs and users."
    )
    min_free_gib: float = Field(
        default=1.0, ge=0, description="GiB a GPU must have free before a worker starts on it."
    )
    settle: float = Field(
        default=10.0,
        ge=0,
        description="Seconds after placing a worker before a GPU's free memory is trusted again.",
    )
    checkpoint_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Between two checkpoints of a long stage; longer where one takes over a hundredth.",
    )
    one_kind: bool = Field(
        default=False,
        description="Refuse to compute a run on several kinds of machine, by model of CPU or GPU.",
    )

    backend: Literal["local", "slurm"] = Field(
        default="local", description="slurm: workers are jobs of the cluster; `run` only submits."
    )
    slurm: Slurm = Field(default=Slurm(), description="What each job asks for.")

    @field_validator("threads", "workers")
    @classmethod
    def _within_bounds(cls, value: int | None) -> int | None:
        return WORKERS.within(value)

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4}(,[0-9]{1,4}){0,255})?", value):
            raise ValueError("must be auto, cpu, cuda, or cuda: and device numbers (cuda:0,1)")
        return value


class Tune(Table):
    """How hyper-parameters are chosen, once for a method and an attack, at the largest budget."""

    objective: Literal["proxy", "oracle"] = Field(
        default="proxy",
        description="proxy: by forgetting clean rows that stand in for the forget set; the poison is "
        "never looked at. oracle: by the audit itself, an upper bound and no fair result.",
    )
    trials: int = Field(
        default=12, ge=1, description="At most, for a method: its own settings and a sample."
    )
    tolerance: float = Field(
        default=0.01, ge=0, lt=1, description="Validation accuracy a choice may cost."
    )
    seeds: tuple[Seed, ...] | None = Field(
        default=None, min_length=1, description="Seeds searched on; default: the first."
    )
    methods: tuple[str, ...] | None = Field(
        default=None, description="Default: every listed one that has a grid; [] is none."
    )
    grids: dict[str, dict[str, list[Any]]] = Field(
        default_factory=dict,
        description="Method = its grid, in place of the documented one: gd.lr = [0.01, 0.1].",
    )


class Experiment(Table):
    """Everything that decides a run's results, and how it is computed."""

    title: str = ""
    description: str = ""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    budgets: tuple[Fraction, ...] = Field(
        default=(0.02, 0.04, 0.06, 0.08, 0.10), description="Fractions of the training compute."
    )
    validation: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.1, description="Share of the training rows cut off before any poisoning."
    )
    data: union("data")  # type: ignore[valid-type]
    model: union("model")  # type: ignore[valid-type]
    train: Train = Train()
    attacks: tuple[union("attack"), ...] = Field(min_length=1)  # type: ignore[valid-type]
    methods: tuple[union("method"), ...] = Field(min_length=1)  # type: ignore[valid-type]
    audits: tuple[union("audit"), ...] = Field(min_length=1)  # type: ignore[valid-type]
    forget: Forget = Forget()
    compute: Compute = Compute()
    tune: Tune | None = Field(default=None, description="Absent: methods run as they are listed.")
    verdicts: dict[str, dict[str, Margin]] = Field(
        default_factory=dict,
        description="Audit = its primary metric = the equivalence margin that verdicts go by: "
        "attack-success.asr = 0.03. Absent: what the audit ships. Changes no measurement.",
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Dotted key of data, model, train, forget or validation = list of values.",
    )

    @field_validator("seeds", "budgets")
    @classmethod
    def _no_twins(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError("holds a value twice")
        return values

    @field_validator("budgets")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(values))

    @field_validator("grid")
    @classmethod
    def _grid_of_the_setting(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if key.split(".")[0] not in ("data", "model", "train", "forget", "validation"):
                raise ValueError(
                    f"{key!r} cannot vary here: only keys of data, model, train, forget and validation "
                    "(attacks and methods have a grid of their own)"
                )
            if not values:
                raise ValueError(f"{key!r} has no values")
        return grid

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, entries in (("attack", self.attacks), ("method", self.methods)):
            seen: set[tuple[str, str]] = set()
            for entry in entries:
                for label, variant in entry.variants():
                    identity = (component_name(type(variant)), label)
                    if identity in seen:
                        raise ValueError(
                            f"{what} {' '.join(identity).strip()!r} is listed twice: give one a label"
                        )
                    seen.add(identity)
        counts = Counter(component_name(type(audit)) for audit in self.audits)
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"audit {name!r} is listed twice")
        gives = frozenset().union(*(attack.gives for attack in self.attacks))
        for audit in self.audits:
            if not audit.needs <= gives:
                raise ValueError(
                    f"audit {component_name(type(audit))!r} needs an attack that gives "
                    f"{', '.join(sorted(audit.needs - gives))}; none of the listed attacks does"
                )
        if not self.budgets and any(method.role == "unlearn" for method in self.methods):
            raise ValueError("budgets is empty, but there are methods that need one")
        if self.tune is not None:
            check_tuning(self.tune, self)
        check_margins(self.verdicts, self.audits)
        return self


def placed_in_list(entry: L) -> L:
    """An attack, method or audit with absolute paths. Raises BadInput."""
    return entry.placed(f"{entry.listed_in}.{component_name(type(entry))}")


def in_place(experiment: Experiment) -> Experiment:
    """With absolute paths: means the same in any folder. Raises BadInput.

    The labels that a grid gives its variants follow its values, so a plan is made from the paths as
    they were written.
    """
    tables = {"data": experiment.data, "model": experiment.model}
    found: dict[str, Any] = {name: table.placed(name) for name, table in tables.items()}
    found["train"] = placed(experiment.train, "train")
    for name in ("attacks", "methods", "audits"):
        found[name] = tuple(map(placed_in_list, getattr(experiment, name)))
    grid = {}
    for key, values in experiment.grid.items():
        table, _, inner = key.partition(".")
        grid[key] = values
        if table in found:
            name = next(
                (n for n, f in type(found[table]).model_fields.items() if inner in (n, f.alias)), ""
            )
            grid[key] = [_placed_alone(found[table], name, value, key) for value in values]
    found["grid"] = grid
    changed = {name: value for name, value in found.items() if value != getattr(experiment, name)}
    return experiment.model_copy(update=changed) if changed else experiment


def _placed_alone(table: BaseModel, key: str, value: Any, where: str) -> Any:
    """One value of the top-level grid, absolute if its key is a path."""
    if key not in path_keys(type(table)):
        return value
    alone = placed(table.model_copy(update={key: value}), f"grid.{where.partition('.')[0]}")
    return getattr(alone, key)


def written(experiment: Experiment) -> dict[Place, tuple[str, str]]:
    """Where in its data (every default written out) a path is not absolute yet: what is there, and
    the absolute path. Raises BadInput."""
    before, after = (
        one.model_dump(mode="json", exclude_none=True) for one in (experiment, in_place(experiment))
    )
    return {place: (text, str(value_at(after, place))) for place, text in changes(before, after)}


def with_paths_as_written(message: str, experiment: Experiment) -> str:
    """A message about a key, with the path that the person knows."""
    try:
        found = written(experiment)
    except BadInput:
        return message
    for text, absolute in found.values():
        message = message.replace(repr(absolute), repr(text))
    return message


# The fields that hold components, and the registry each draws from.
COMPONENT_FIELDS: dict[str, tuple[str, bool]] = {
    "data": ("data", False),
    "model": ("model", False),
    "attacks": ("attack", True),
    "methods": ("method", True),
    "audits": ("audit", True),
}

__all__ = [
    "COMPONENT_FIELDS", "Attack", "Audit", "Compute", "Data", "Experiment", "Forget", "Method",
    "Model", "Table", "Train", "Tune", "registered",
]  # fmt: skip
