"""Transfer learning: a frozen feature extractor, and a linear head that is all there is to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from engine.spec.component import Card, DataInfo, Model, Pretraining, strictly
from engine.spec.errors import BadInput
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded
from engine.spec.registry import find

if TYPE_CHECKING:
    import torch


class FrozenFeatures(Model):
    """A linear head on what another network's last layer reads.

    The extractor is a training of its own, on rows that are cut off before everything else or on
    the clean training rows, or a file of yours. It stays in eval mode and is no part of what
    trains: its weights are buffers, and a saved model holds the head alone.
    """

    name: Literal["frozen-features"] = "frozen-features"
    extractor: dict[str, Any] = Field(
        default={"name": "cnn-small"},
        description="The network, as a [model] table; its last linear layer is taken off.",
    )
    extractor_rows: float | None = Field(
        default=None, gt=0, lt=1,
        description="Share of the data set's training rows to train it on, which nothing else then "
        "uses; unset: the experiment's own training rows, clean.",
    )  # fmt: skip
    extractor_train: dict[str, Any] = Field(
        default={}, description="How to train it: keys of [train]."
    )
    extractor_weights: PathKey | None = Field(
        default=None, description="Weights of the network, a safetensors file; nothing to train."
    )

    card: ClassVar = Card(
        title="Linear head on frozen features",
        summary="Only the last layer trains, as in transfer learning. Training, retraining and "
        "unlearning read features that are computed once, so all of them take seconds.",
        reference="standard (linear probing)",
        needs="a network that is a chain of layers with a linear one at its end",
        cost="the extractor's training, once a seed; 1 TEE is a pass of the head",
        deviations="no augmentation (features are computed once); a poison that works through the "
        "extractor's training is out of reach, for its rows are clean",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        network = _network(self.extractor)
        solved = network.pretraining() is not None or network.closed_form() is not None
        if solved or network.transformer:
            raise ValueError(
                f"extractor = {self.extractor!r}: must be a chain of layers with a linear one at "
                "its end (linear, mlp, cnn-small, resnet18)"
            )
        if self.extractor_weights is not None:
            for key in ("extractor_train", "extractor_rows"):
                if getattr(self, key):
                    raise ValueError(f"{key}: nothing is trained when extractor_weights is given")
        return self

    def placed(self, where: str) -> Self:
        told = super().placed(where)
        network = _network(self.extractor).placed(f"{where}.extractor").model_dump(mode="json")
        train = dict(self.extractor_train)
        if isinstance(train.get("from"), str):
            train["from"] = str(expanded(train["from"], f"{where}.extractor_train.from").absolute())
        extractor = {key: network[key] for key in self.extractor}
        return told.model_copy(update={"extractor": extractor, "extractor_train": train})

    def config(self) -> dict[str, Any]:
        # How the extractor came about is in the key of its own stage.
        return {"name": self.name, "extractor": _network(self.extractor).config()}

    def pretraining(self) -> Pretraining:
        train = dict(self.extractor_train)
        if self.extractor_weights is not None:
            train["from"] = self.extractor_weights
        return Pretraining(_network(self.extractor), train, self.extractor_rows)

    def check(self, data: DataInfo) -> None:
        _network(self.extractor).check(data)

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        """Sequential(Frozen(…), Linear); the extractor's weights come with `Frozen.load`."""
        from torch import nn

        from engine.lab.frozen import freeze

        frozen, width = freeze(_network(self.extractor).build(shape, classes, mean, std), classes)
        return nn.Sequential(frozen, nn.Linear(width, classes))


def _network(told: dict[str, Any]) -> Model:
    """The extractor's network. Raises ValueError."""
    try:
        found = strictly(find("model", str(told.get("name"))), told)
    except BadInput as error:
        raise ValueError(str(error)) from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, ("extractor", *problem["loc"])))
        raise ValueError(f"{place}: {problem['msg'].removeprefix('Value error, ')}") from None
    assert isinstance(found, Model)
    return found
