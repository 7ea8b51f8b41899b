"""A frozen feature extractor before a head that trains, and the same in feature space."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from engine.lab.context import Failed
from engine.lab.views import Poison, Rows, TrainingSet


class Frozen(nn.Module):
    """A network without its last layer; always in eval mode, without parameters of its own.

    Its weights are buffers that `state_dict` leaves out: they are the extractor stage's.
    """

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        for module in body.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.body(inputs)
        return features.flatten(1)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of the whole network; its head's are left over. Raises Failed."""
        with torch.no_grad():
            for name, buffer in self.body.named_buffers():
                if name not in weights or weights[name].shape != buffer.shape:
                    raise Failed(f"the extractor's weights do not fit at {name!r}")
                buffer.copy_(weights[name])


def freeze(network: nn.Module, classes: int) -> tuple[Frozen, int]:
    """The frozen extractor and the width of its features. Raises Failed for other networks."""
    head = network[-1] if isinstance(network, nn.Sequential) and len(network) else None
    if not isinstance(head, nn.Linear) or head.out_features != classes:
        raise Failed("model.extractor: must be a chain of layers with a linear one at its end")
    assert isinstance(network, nn.Sequential)
    return Frozen(network[:-1]), head.in_features


def extractor_of(model: nn.Module) -> Frozen | None:
    """The frozen extractor of a `frozen-features` model; None for any other model."""
    first = model[0] if isinstance(model, nn.Sequential) and len(model) else None
    return first if isinstance(first, Frozen) else None


def without_extractor(model: nn.Module) -> nn.Module:
    """The same head, sharing its weights, for inputs that are features; same state_dict."""
    assert isinstance(model, nn.Sequential)
    return nn.Sequential(nn.Identity(), model[1])


class FeatureSet(TrainingSet):
    """A training set whose inputs are features, float32 [B, d]; rows as in the data set."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        super().__init__(features, labels)

    def _inputs(self, rows: Tensor, width: int | None = None) -> tuple[Tensor, Tensor | None]:
        return self.pixels[rows], None


@torch.no_grad()
def clean_features(extractor: Frozen, clean: TrainingSet, rows: Tensor) -> Tensor:
    """float32 [len(clean), d], of `rows`; zeros elsewhere. `rows` in one fixed order, for the bits."""
    found = torch.cat([extractor(batch.inputs) for batch in Rows(clean, rows).batches()])
    features = found.new_zeros(len(clean), found.shape[1])
    features[rows] = found
    return features


@torch.no_grad()
def with_poison(
    extractor: Frozen, features: Tensor, data: TrainingSet, poison: Poison
) -> FeatureSet:
    """The trained-on view of `data` in feature space, from its clean rows' features."""
    batches = Rows(data, poison.rows).batches()
    dirty = torch.cat([extractor(batch.inputs) for batch in batches])
    added = len(data) - len(features)
    features = torch.cat([features, features.new_zeros(added, features.shape[1])])
    features[poison.rows] = dirty
    return FeatureSet(features, data.labels)
