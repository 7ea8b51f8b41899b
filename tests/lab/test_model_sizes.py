"""What models say of their size, against torch's own count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.lab.models.cnn_small import CNNSmall
from engine.lab.models.gpt2 import GPT2
from engine.lab.models.linear import Linear
from engine.lab.models.mlp import MLP
from engine.lab.models.resnet18 import ResNet18
from engine.spec.component import DataInfo, Model
from engine.spec.estimate import BF16_KEPT

BATCH = 4


def images(*shape: int) -> DataInfo:
    return DataInfo("", 10, 10, shape, ("a", "b", "c"), (4, 3, 3))  # type: ignore[arg-type]


def texts(longest: int, vocabulary: int) -> DataInfo:
    return DataInfo("", 10, 10, (longest, 1, 1), ("a", "b"), (5, 5), "text", vocabulary)


SMALL: dict[str, Any] = {"layers": 3, "width": 32, "heads": 4}
CASES: dict[str, tuple[Model, DataInfo]] = {
    "linear": (Linear(), images(3, 8, 8)),
    "mlp": (MLP(width=20, depth=2), images(1, 8, 8)),
    "cnn": (CNNSmall(width=8), images(3, 30, 30)),
    "cnn-plain": (CNNSmall(width=4, norm="none"), images(1, 28, 28)),
    "resnet18": (ResNet18(width=8), images(3, 32, 32)),
    "resnet18-odd": (ResNet18(width=8, norm="group"), images(1, 28, 28)),
    "gpt2": (GPT2(**SMALL), texts(24, 300)),
    "gpt2-recomputed": (GPT2(**SMALL, recompute=True), texts(24, 300)),
    "gpt2-default": (GPT2(positions=40, vocabulary=400), texts(24, 300)),
    "gpt2-fused": (GPT2(**SMALL, dropout=0.0), texts(24, 300)),
}


def made(name: str) -> tuple[nn.Module, Tensor, Model, DataInfo]:
    model, data = CASES[name]
    if data.kind == "text":
        shape, inputs = (data.shape[0], data.vocabulary, 1), torch.randint(0, 300, (BATCH, 24))
    else:
        shape, inputs = data.shape, torch.rand(BATCH, *data.shape)
    channels = data.shape[0]
    built = model.build(shape, len(data.classes), [0.5] * channels, [0.2] * channels)
    return built, inputs, model, data


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_exact(name: str) -> None:
    built, _, model, data = made(name)
    size = model.size(data)
    assert size is not None
    assert size.parameters == sum(p.numel() for p in built.parameters())


# torch does not count the pairs of tokens in the CPU's fused attention.
@pytest.mark.parametrize("name", [name for name in CASES if name != "gpt2-fused"])
def test_flops_are_torchs(name: str) -> None:
    built, inputs, model, data = made(name)
    size = model.size(data)
    assert size is not None
    with FlopCounterMode(display=False) as counter:
        built(inputs)
    assert counter.get_total_flops() == BATCH * size.flops
    if inputs.is_floating_point():
        inputs.requires_grad_(True)  # or the first layer would save a third of its work
    with FlopCounterMode(display=False) as counter:
        built(inputs).sum().backward()
    assert counter.get_total_flops() == BATCH * (3 * size.flops + size.again)


def kept_bytes(name: str, bf16: bool) -> int:
    """What autograd keeps of a forward pass, weights aside."""
    built, inputs, _, _ = made(name)
    weights = {p.untyped_storage().data_ptr() for p in built.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        built(inputs)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


@pytest.mark.parametrize("name", [name for name in CASES if name != "gpt2-recomputed"])
def test_what_is_kept_is_about_what_autograd_keeps(name: str) -> None:
    _, _, model, data = made(name)
    size = model.size(data)
    assert size is not None
    assert kept_bytes(name, False) == pytest.approx(4 * BATCH * (size.kept + size.unfused), rel=0.2)


def test_recomputing_keeps_a_blocks_inputs() -> None:
    whole, less = (
        size.kept + size.unfused
        for model, data in (CASES["gpt2"], CASES["gpt2-recomputed"])
        if (size := model.size(data)) is not None
    )
    block = 30 * 24 * 32 + 3 * 4 * 24**2  # of which nothing is kept before its backward pass
    assert kept_bytes("gpt2-recomputed", False) == pytest.approx(
        4 * BATCH * (less - block), rel=0.2
    )
    assert less < whole / 2


def test_bf16_keeps_about_as_much_less_as_estimates_say() -> None:
    weights = 2 * 3 * 12 * 32**2  # autocast's own copy of the blocks
    less = kept_bytes("gpt2", True) - weights
    assert less / kept_bytes("gpt2", False) == pytest.approx(BF16_KEPT, abs=0.1)
