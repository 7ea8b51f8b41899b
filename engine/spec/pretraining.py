"""The stage that makes a model's frozen layers: one more training, which all others read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.spec.component import Model, strictly
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment, Train
from engine.spec.weights import weights_digest


@dataclass(frozen=True, slots=True)
class Extractor:
    """A model's pretraining, resolved for a device. `rows`: see `component.Pretraining`."""

    model: Model
    train: Train
    rows: float | None

    @staticmethod
    def of(experiment: Experiment, model: Model, fast_bf16: bool) -> Extractor | None:
        """Of the experiment's `model`, its paths absolute; None for one without pretraining. Raises
        BadInput for what such a model cannot do."""
        told = model.pretraining()
        if told is None:
            return None
        name = experiment.model.name
        if experiment.train.start_from is not None:
            raise BadInput(
                f"train.from = {experiment.train.start_from!r}: {name} takes the extractor's "
                "weights only, as model.extractor_weights."
            )
        if experiment.train.augment != "none":
            raise BadInput(
                f"train.augment = {experiment.train.augment!r}: {name} computes its features once; "
                'must be "none" (model.extractor_train may augment).'
            )
        if experiment.train.channels_last is True:
            raise BadInput(f"train.channels_last = true: {name} trains on features, not on images.")
        try:
            train = strictly(Train, told.train)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, ("model.extractor_train", *problem["loc"])))
            raise BadInput(f"{place}: {problem['msg'].removeprefix('Value error, ')}.") from None
        return Extractor(told.model, train.resolved(told.model, fast_bf16), told.rows)

    @property
    def split(self) -> dict[str, Any]:
        """What the split must know: the share to cut off before everything else."""
        return {} if self.rows is None else {"pretraining": self.rows}

    def rows_held(self, train: int) -> int:
        """How many of `train` rows only the extractor sees."""
        return 0 if self.rows is None else round(self.rows * train)

    def tee(self, train: int, rows: int) -> float:
        """Passes over as many rows as a training has; those of the extractor cost more each."""
        if self.train.start_from is not None:
            return 0.0
        return self.train.epochs * (self.rows_held(train) or rows) / rows

    def stage(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """(config, identity) of its training. Raises BadInput for a file that is none."""
        told: dict[str, Any] = {
            "model": self.model.config(),
            "train": self.train.model_dump(mode="json"),
            "seed": seed,
            "role": "extractor",
            "rows": "training" if self.rows is None else "pretraining",
        }
        path = self.train.start_from
        if path is not None:
            told["ready"] = True
        digest = weights_digest(path, "model.extractor_weights")
        return told, told | {"train": told["train"] | {"from": digest}}
