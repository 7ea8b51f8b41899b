"""Image models: shapes, fresh starts, determinism, and weights a user brings along."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.lab.context import Failed
from engine.lab.models.cnn_small import CNNSmall
from engine.lab.models.linear import Linear
from engine.lab.models.mlp import MLP
from engine.lab.models.resnet18 import ResNet18
from engine.lab.models.vit_tiny import ViTTiny
from engine.lab.state import MODEL
from engine.spec.component import DataInfo, Model
from engine.spec.errors import BadInput
from engine.spec.experiment import Train
from engine.spec.plan import make_plan
from tests.helpers import run_plan, small_experiment

MODELS: dict[str, Model] = {
    "linear": Linear(),
    "mlp": MLP(width=8, depth=2),
    "cnn": CNNSmall(width=8),
    "cnn-group": CNNSmall(width=8, norm="group"),
    "cnn-none": CNNSmall(width=8, norm="none"),
    "resnet": ResNet18(width=8),
    "resnet-group": ResNet18(width=8, norm="group", groups=4),
    "vit": ViTTiny(width=24, depth=2, patch=4),
}


def built(model: Model, channels: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return model.build((channels, 16, 16), 5, [0.4] * channels, [0.2] * channels)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_raw_images_in_logits_out_and_the_seed_decides(name: str, channels: int) -> None:
    net = built(MODELS[name], channels)
    inputs = torch.rand(4, channels, 16, 16)
    assert net(inputs).shape == (4, 5)
    again, other = built(MODELS[name], channels), built(MODELS[name], channels, seed=1)
    equal = [torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True)]
    assert all(equal)
    assert not torch.equal(net.eval()(inputs), other.eval()(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_the_first_layer_normalises(name: str) -> None:
    """Scaling the data and its statistics alike changes nothing."""
    torch.manual_seed(0)
    plain = MODELS[name].build((3, 16, 16), 5, [0.4] * 3, [0.2] * 3).eval()
    torch.manual_seed(0)
    halved = MODELS[name].build((3, 16, 16), 5, [0.2] * 3, [0.1] * 3).eval()
    inputs = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(plain(inputs), halved(inputs / 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_the_layout_and_not_the_answer(name: str) -> None:
    net, inputs = built(MODELS[name]).eval(), torch.rand(4, 3, 16, 16)
    before = net(inputs)
    net.to(memory_format=torch.channels_last)
    after = net(inputs.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4)


def test_width_is_the_papers_at_64() -> None:
    count = sum(
        p.numel() for p in ResNet18().build((3, 32, 32), 10, [0.0] * 3, [1.0] * 3).parameters()
    )
    assert count == 11_173_962  # ResNet-18 with a 3×3 stem and ten classes


def test_what_cannot_be_is_refused() -> None:
    info = DataInfo("", 10, 10, (3, 30, 32), ("a", "b"), (5, 5))
    with pytest.raises(BadInput, match="square"):
        ViTTiny().check(info)
    with pytest.raises(ValueError, match="groups"):
        ResNet18(width=30, norm="group", groups=8)
    with pytest.raises(ValueError, match="heads"):
        ViTTiny(width=100, heads=3)


@pytest.mark.parametrize(
    ("model", "fast", "precision", "layout"),
    [
        (MLP(), True, "fp32", False),
        (ResNet18(), True, "bf16", True),
        (ResNet18(), False, "fp32", True),
        (ViTTiny(), True, "bf16", False),
    ],
)
def test_auto_is_decided_before_anything_runs(
    model: Model, fast: bool, precision: str, layout: bool
) -> None:
    told = Train().resolved(model, fast)
    assert (told.precision, told.channels_last) == (precision, layout)
    fixed = Train(precision="fp32", channels_last=False).resolved(model, fast)
    assert (fixed.precision, fixed.channels_last) == ("fp32", False)


# --- train.from ----------------------------------------------------------------------------------


def test_a_users_own_model_is_audited_as_it_is(tmp_path: Path) -> None:
    """The model of one run, brought along by another: the same measurements, no training."""
    first = small_experiment(seeds=[0])
    run = run_plan(first, tmp_path / "first")
    trained = next(s for s in make_plan(first, "cpu").stages.values() if s.kind == "train")
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes((run.root / trained.key / MODEL).read_bytes())
    train = first.train.model_dump(by_alias=True) | {"from": str(weights)}
    second = small_experiment(seeds=[0], train=train)
    other = run_plan(second, tmp_path / "second")
    for audit in ("gaussian", "accuracy"):
        mine = other.metrics(audit=audit, method="none")
        assert mine == run.metrics(audit=audit, method="none")
    stage = next(s for s in make_plan(second, "cpu").stages.values() if s.kind == "train")
    assert stage.tee == 0
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    elsewhere = small_experiment(seeds=[0], train=train | {"from": str(moved)})
    assert make_plan(second, "cpu").stages.keys() == make_plan(elsewhere, "cpu").stages.keys()


def test_weights_of_another_model_fail_plainly(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"odd": torch.zeros(2)}, path)
    train = small_experiment().train.model_dump(by_alias=True) | {"from": str(path)}
    with pytest.raises(Failed, match="does not fit the model"):
        run_plan(small_experiment(seeds=[0], train=train), tmp_path / "run")


@pytest.mark.parametrize("content", [None, b"", b"pickle?", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    train = small_experiment().train.model_dump(by_alias=True) | {"from": str(path)}
    with pytest.raises(BadInput, match=r"train\.from"):
        make_plan(small_experiment(seeds=[0], train=train), "cpu")


def test_ones_own_model_belongs_to_one_seed(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    train = small_experiment().train.model_dump(by_alias=True) | {"from": str(path)}
    with pytest.raises(BadInput, match="one seed"):
        make_plan(small_experiment(seeds=[0, 1], train=train), "cpu")
