"""Snapshots: what goes in comes out, and what cannot is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from engine.lab.artifacts import ALIGNED, load_tensors, save_tensors
from engine.lab.state import FILES, pack, unpack
from engine.lab.unlearning import frozen_copy
from engine.lab.views import Rows
from tests.lab.toys import ROWS, same, toy_model, toy_set, weights

INPUTS, LABELS = next(Rows(toy_set(), torch.arange(ROWS)).batches())
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
}


def test_what_is_read_lies_where_fresh_tensors_lie(tmp_path: Path) -> None:
    """Products of the same numbers from another place in memory differ in their last bits."""
    tensors = {name: torch.randn(5, 7) for name in "abcde"}
    save_tensors(tmp_path, "five.safetensors", tensors)
    for name, tensor in load_tensors(tmp_path / "five.safetensors").items():
        assert tensor.data_ptr() % ALIGNED == 0
        assert torch.equal(tensor, tensors[name])


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        cross_entropy(model(INPUTS), LABELS).backward()
        optimizer.step()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("freeze", [False, True])
def test_going_on_from_a_snapshot_is_going_on(name: str, freeze: bool, tmp_path: Path) -> None:
    model = toy_model()
    if freeze:
        model[1].requires_grad_(False)
    optimizer = OPTIMIZERS[name](trainable(model))
    steps(model, optimizer, 3)
    pack(tmp_path, model, {"optimizer": optimizer}, {"steps": 3, "spent": 1 / 3})
    steps(model, optimizer, 3)

    state: dict[str, Any] = {}
    other = toy_model(seed=9)
    assert unpack(tmp_path, other, state, "cpu") == {"steps": 3, "spent": 1 / 3}
    assert [p.requires_grad for p in other.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    assert type(state["optimizer"]) is type(optimizer)
    steps(other, state["optimizer"], 3)
    assert same(weights(model), weights(other))


def test_groups_with_rates_of_their_own_come_back(tmp_path: Path) -> None:
    model = toy_model()
    first, last = model[1], model[3]
    optimizer = torch.optim.SGD(
        [
            {"params": first.parameters(), "lr": 0.01},
            {"params": last.parameters(), "momentum": 0.5},
        ],
        lr=0.1,
    )
    steps(model, optimizer, 2)
    pack(tmp_path, model, {"optimizer": optimizer}, {})
    steps(model, optimizer, 2)
    state: dict[str, Any] = {}
    other = toy_model(seed=9)
    unpack(tmp_path, other, state, "cpu")
    assert [g["lr"] for g in state["optimizer"].param_groups] == [0.01, 0.1]
    assert [g["momentum"] for g in state["optimizer"].param_groups] == [0, 0.5]
    steps(other, state["optimizer"], 2)
    assert same(weights(model), weights(other))


def test_two_optimizers_a_teacher_and_tensors(tmp_path: Path) -> None:
    model = toy_model(dropout=0.5)
    teacher = frozen_copy(toy_model(seed=4, dropout=0.5))
    state = {
        "teacher": teacher,
        "down": OPTIMIZERS["momentum"](trainable(model)),
        "up": OPTIMIZERS["adamw"](trainable(model)),
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "half": torch.tensor([0.1, 0.2], dtype=torch.bfloat16),
        "none": torch.empty(0),
    }
    steps(model, state["down"], 1)
    steps(model, state["up"], 2)
    pack(tmp_path, model, state, {})
    found: dict[str, Any] = {}
    other = toy_model(seed=9, dropout=0.5)
    unpack(tmp_path, other, found, "cpu")
    assert found.keys() == state.keys()
    for name in ("mask", "count", "half", "none"):
        assert torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype
    assert same(weights(found["teacher"]), weights(teacher))
    assert not found["teacher"].training
    assert not any(p.requires_grad for p in found["teacher"].parameters())
    assert all(p.requires_grad for p in other.parameters())
    assert not {id(p) for p in found["teacher"].parameters()} & {id(p) for p in other.parameters()}


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model = toy_model()
    optimizer = OPTIMIZERS["adamw"](trainable(model))
    steps(model, optimizer, 2)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    pack(one, model, {"optimizer": optimizer}, {"steps": 2})
    found: dict[str, Any] = {}
    other = copy.deepcopy(model)
    counters = unpack(one, other, found, "cpu")
    pack(two, other, found, counters)
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.parametrize("value", [3, "text", [torch.ones(1)], {"a": 1}, None, lambda: None])
def test_other_values_are_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['odd'\]"):
        pack(tmp_path, toy_model(), {"odd": value}, {})


def test_an_optimizer_that_could_not_come_back_is_refused(tmp_path: Path) -> None:
    model = toy_model()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"state\['odd'\]"):
        pack(tmp_path, model, {"odd": optimizer}, {})


def test_an_optimizer_over_something_else_is_refused(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(TypeError, match=r"state\['odd'\]"):
        pack(tmp_path, toy_model(), {"odd": optimizer}, {})
