"""For any model that never saw the noise the score is N(0, 1): ReLU nets, bf16, dead units.

The noise is the attack's own (stored in float32, as a difference of inputs); many draws against one
trained model make the null visible to 1/√(rows × draws).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.attacks.gaussian import Gaussian as Attack
from engine.lab.audits.gaussian import gaussian_scores
from engine.lab.subject import Subject
from engine.lab.views import TrainingSet
from tests.lab.toys import CLASSES, toy_pixels, toy_subject

pytestmark = pytest.mark.slow

ROWS, SHAPE, DRAWS = 120, (1, 12, 12), 400
ALPHA = 1e-3  # the draws are fixed: these tests pass or fail, they do not wobble


class Bf16(nn.Module):
    """A model that computes in bfloat16 throughout, gradients with respect to inputs included."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.to(torch.bfloat16)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs.to(torch.bfloat16)).float()


class Autocast(nn.Module):
    """A float32 model under autocast, as a bf16 preset trains it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(inputs).float()


def relu_net(pixels: Tensor, labels: Tensor) -> nn.Module:
    """Three layers fitted to the clean rows until they are memorised."""
    torch.manual_seed(1)
    size = pixels[0].numel()
    layers = [nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, CLASSES))
    inputs = pixels.float() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.95
    return model.eval()


@dataclass
class Null:
    scores: np.ndarray  # of all draws
    z: np.ndarray  # √rows × mean of each draw
    scored: int  # rows of a draw


def null_of(model: nn.Module, pixels: Tensor, labels: Tensor) -> Null:
    clean, rows = TrainingSet(pixels, labels), torch.arange(len(labels))
    scores = []
    for seed in range(DRAWS):
        poison = Attack(noise_std=0.31).craft(clean, rows, seed=seed)
        subject: Subject = toy_subject(model, TrainingSet(pixels, labels, poison), seed)
        scores.append(gaussian_scores(subject)[0].numpy())
    found = np.stack(scores)
    return Null(found.ravel(), found.mean(axis=1) * found.shape[1] ** 0.5, found.shape[1])


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return toy_pixels(ROWS, SHAPE)


@pytest.mark.parametrize("precision", ["float32", "bf16", "autocast"])
def test_the_score_is_standard_normal_in_any_precision(
    data: tuple[Tensor, Tensor], precision: str
) -> None:
    net = relu_net(*data)
    wrapped = {"float32": lambda m: m, "bf16": Bf16, "autocast": Autocast}[precision](net)
    null = null_of(wrapped.eval(), *data)
    assert null.scored == ROWS
    assert kstest(null.scores, "norm").pvalue > ALPHA
    assert kstest(null.z, "norm").pvalue > ALPHA
    assert abs(null.scores.mean()) < 4 / len(null.scores) ** 0.5
    assert abs(null.scores.var() - 1) < 4 * (2 / len(null.scores)) ** 0.5


def test_rows_behind_dead_units_are_left_out_and_the_rest_stays_normal(
    data: tuple[Tensor, Tensor],
) -> None:
    """Which rows have no gradient depends on the model and the clean input, not on the noise."""
    pixels, labels = data
    net = relu_net(pixels, labels)
    assert isinstance(net, nn.Sequential)
    first = net[1]
    assert isinstance(first, nn.Linear)
    inputs = pixels.float().flatten(1) / 255
    brightness = inputs.sum(1)
    with torch.no_grad():  # every unit dies below the median brightness
        first.weight.copy_(first.weight.abs())
        first.bias.copy_(-(inputs[brightness.argsort()[: ROWS // 2]] @ first.weight.T).amax(0))
    null = null_of(net, pixels, labels)
    assert 0 < null.scored <= ROWS // 2
    assert kstest(null.scores, "norm").pvalue > ALPHA


def test_at_the_noised_input_the_null_would_not_hold(data: tuple[Tensor, Tensor]) -> None:
    """Why the audit looks at the clean input: at x + ξ the gradient itself depends on ξ."""
    pixels, labels = data
    net, clean, rows = relu_net(pixels, labels), TrainingSet(pixels, labels), torch.arange(ROWS)
    scores = []
    for seed in range(60):
        poison = Attack(noise_std=0.31).craft(clean, rows, seed=seed)
        subject = toy_subject(net, TrainingSet(pixels, labels, poison), seed)
        scores.append(gaussian_scores(replace(subject, base=subject.forget))[0].numpy())
    found = np.concatenate(scores)
    assert abs(found.mean()) * len(found) ** 0.5 > 5
