"""What holds for every method there is, whoever wrote it: the registry says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.lab.models.resnet18 import ResNet18
from engine.lab.training import fit
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.spec.component import Method
from engine.spec.experiment import Train
from engine.spec.registry import registered
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    FORGOTTEN,
    IMAGES,
    NETWORKS,
    Spy,
    check_trajectory,
    of_network,
    of_texts,
)
from tests.lab.toys import same, weights

# Where the defaults are for larger data than these, and for models that do better than guessing.
FITTING: dict[str, dict[str, Any]] = {"ssd": {"selection": 1.0}, "ga": {"cap": False}}
METHODS = sorted(name for name, cls in registered("method").items() if cls.role == "unlearn")  # type: ignore[attr-defined]


def make(name: str, batch_size: int | None = None) -> Method:
    cls, told = registered("method")[name], FITTING.get(name, {})
    if batch_size is not None and "batch_size" in cls.model_fields:
        told = told | {"batch_size": batch_size}
    method = cls.model_validate(told)
    assert isinstance(method, Method)
    return method


def check(name: str, task: UnlearnTask, budget: float, rows: Spy, ctx: LocalContext) -> None:
    """Runs a method and holds it to what all methods promise."""
    method, count, before = make(name), task.meter.rows, weights(task.model)
    forget = set(range(FORGOTTEN))
    allowed = set()
    allowed |= forget if "forget" in method.reads else set()
    allowed |= set(range(FORGOTTEN, count)) if "retain" in method.reads else set()
    rows.rows.clear()
    unlearn(method, task, budget, ctx)
    assert set(rows.rows) <= allowed and rows.rows
    assert 0 < task.meter.tee + task.finishing_tee <= budget + 1e-9
    after = weights(task.handed_out or task.model)
    assert not same(before, after)
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("name", METHODS)
def test_on_a_small_residual_net(
    name: str, ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Spy(monkeypatch)
    found = []
    for _ in range(2):
        task = of_network(NETWORKS["resnet18"], count=IMAGES)
        check(name, task, 2.0, rows, ctx)
        found.append(weights(task.handed_out or task.model))
    assert same(found[0], found[1])


@pytest.mark.parametrize("noise", [False, True], ids=["plain", "noised"])
@pytest.mark.parametrize("name", METHODS)
def test_on_a_small_gpt2(
    name: str, noise: bool, ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, whose draws are the seed's, too."""
    rows = Spy(monkeypatch)
    found = []
    for _ in range(2):
        task = of_texts(noise)
        check(name, task, 2.0, rows, ctx)
        found.append(weights(task.handed_out or task.model))
    assert same(found[0], found[1])


@pytest.mark.parametrize("name", [n for n in METHODS if make(n).continues])
def test_budgets_on_a_small_gpt2_are_one_trajectory(
    name: str, ctx: LocalContext, tmp_path: Path
) -> None:
    check_trajectory(make(name, batch_size=8), ctx, tmp_path, of_texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_on_a_trained_residual_net(
    name: str, ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow ResNet-18 after one epoch on 400 images."""
    rows = Spy(monkeypatch)
    found = []
    for _ in range(2):
        task = of_network(ResNet18(width=8), count=400)
        recipe = Train(epochs=1, batch_size=32, precision="fp32", channels_last=False)
        fit(task.model, task.retain._data, torch.arange(400), recipe, 0, ctx)
        check(name, task, 2.0, rows, ctx)
        found.append(weights(task.handed_out or task.model))
    assert same(found[0], found[1])
