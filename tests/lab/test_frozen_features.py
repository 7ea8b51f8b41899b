"""A head on frozen features: where the extractor comes from, and that only the head ever trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.lab.artifacts import load_tensors
from engine.lab.frozen import extractor_of, without_extractor
from engine.lab.models.frozen_features import FrozenFeatures
from engine.lab.models.mlp import MLP
from engine.lab.scene import Scene
from engine.lab.state import MODEL
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from engine.spec.registry import registered
from tests.helpers import LocalContext, Run, run_plan, small_experiment
from tests.lab.toys import same, weights

MODEL_TABLE: dict[str, Any] = {
    "name": "frozen-features",
    "extractor": {"name": "cnn-small", "width": 4},
    "extractor_rows": 0.3,
    "extractor_train": {"epochs": 3, "batch_size": 32},
}
AUDITS: list[dict[str, Any]] = [
    {"name": "accuracy"},
    {"name": "gaussian", "null_draws": 50, "rank_draws": 0},
]
UNLEARN = sorted(name for name, cls in registered("method").items() if cls.role == "unlearn")  # type: ignore[attr-defined]
# Where the defaults are for larger data than these.
FITTING: dict[str, dict[str, Any]] = {"ssd": {"selection": 1.0}, "unsc": {"energy": 0.6}}


def experiment(**changes: Any) -> Any:
    return small_experiment(**{"model": MODEL_TABLE} | changes)


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    """Every unlearning method on 252 rows, whose extractor saw 120 others."""
    methods: list[dict[str, Any]] = [{"name": n} for n in ("none", "retrain", "retrain-fresh")]
    methods += [{"name": name} | FITTING.get(name, {}) for name in UNLEARN]
    return run_plan(experiment(methods=methods, budgets=[0.2], audits=AUDITS), workshop)


def built(model: FrozenFeatures, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return model.build((1, 16, 16), 5, [0.4], [0.2])


@pytest.mark.parametrize("network", ["linear", "mlp", "cnn-small", "resnet18"])
def test_only_the_head_can_train(network: str) -> None:
    net = built(FrozenFeatures(extractor={"name": network})).train()
    assert [name for name, _ in net.named_parameters()] == ["1.weight", "1.bias"]
    assert net.state_dict().keys() == {"1.weight", "1.bias"}
    assert extractor_of(net) is not None and not any(m.training for m in net[0].modules())  # type: ignore[index]
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    net(torch.rand(8, 1, 16, 16)).square().sum().backward()
    assert all(torch.equal(value, buffers[name]) for name, value in net.named_buffers())


@pytest.mark.parametrize("network", ["mlp", "cnn-small", "resnet18"])
def test_with_its_own_head_it_is_the_network_it_was_taken_from(network: str) -> None:
    model = FrozenFeatures(extractor={"name": network})
    torch.manual_seed(5)
    whole = model.pretraining().model.build((1, 16, 16), 5, [0.4], [0.2]).eval()
    net, inputs = built(model), torch.rand(4, 1, 16, 16)
    frozen = extractor_of(net)
    assert frozen is not None
    frozen.load(whole.state_dict())
    net[1].load_state_dict(whole[-1].state_dict())  # type: ignore[index, operator]
    assert torch.equal(net(inputs), whole(inputs))
    assert torch.equal(without_extractor(net)(frozen(inputs)), whole(inputs))


def test_the_extractors_rows_are_its_own(run: Run) -> None:
    (split,) = run.stages("split")
    rows = load_tensors(run.root / split.key / "rows.safetensors")
    parts = [set(rows[name].tolist()) for name in ("pretraining", "training", "validation")]
    assert [len(part) for part in parts] == [120, 252, 28]
    assert len(set.union(*parts)) == 400


def test_the_extractor_is_trained_once_and_everything_depends_on_it(run: Run) -> None:
    (extractor,) = [s for s in run.stages("train") if s.config["role"] == "extractor"]
    others = [s for s in run.stages("train") if s is not extractor]
    for stage in others + run.stages("unlearn") + run.stages("audit"):
        assert stage.inputs["extractor"] == extractor.key
    assert "extractor" not in run.stages("craft")[0].inputs, "gaussian looks at no model"
    assert run.tee[extractor.key] == pytest.approx(3 * 120 / 252) == extractor.tee


def test_every_method_works_and_leaves_the_extractor_alone(run: Run) -> None:
    start = load_tensors(run.root / run.model_stage(method="none", audit="accuracy").key / MODEL)
    done = {cell.method for cell in run.cells(role="unlearn") if cell.key not in run.na}
    assert done == set(UNLEARN), run.na
    for cell in run.cells(role="unlearn", audit="accuracy"):
        if cell.key in run.na:
            continue  # too small a budget for its first step
        model = load_tensors(run.root / cell.cost_keys[-1] / MODEL)
        assert model.keys() == start.keys() == {"1.weight", "1.bias"}
        assert not all(torch.equal(model[name], start[name]) for name in start)


def test_features_kept_and_images_read_give_the_same_logits(run: Run) -> None:
    """Training sees features computed before; audits go through the whole model."""
    stage = run.model_stage(method="none", audit="accuracy")
    scene = Scene(LocalContext(run.root, run.stages("audit")[0]), stage.config)
    model = scene.load_model("model")
    head, data = scene.trainable(model)
    rows = torch.cat([scene.training_rows[:40], scene.forget_rows])
    with torch.no_grad():
        kept, read = head(data.take(rows).inputs), model(scene.data.take(rows).inputs)
    assert torch.allclose(kept, read, atol=1e-5)
    assert torch.equal(data.take(rows).labels, scene.data.take(rows).labels)


def test_a_fresh_model_is_the_one_retraining_starts_from(run: Run) -> None:
    retrain = run.model_stage(method="retrain", audit="accuracy")
    scene = Scene(LocalContext(run.root, retrain), retrain.config)
    one, two = (scene.trainable(scene.initial_model(0, "paired"))[0] for _ in range(2))
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(scene.trainable(scene.initial_model(0, "fresh"))[0]))


def weights_file(folder: Path) -> Path:
    torch.manual_seed(3)
    net = MLP(width=8).build((1, 28, 28), 10, [0.3], [0.2])
    path = folder / "mine.safetensors"
    save_file(net.state_dict(), path)
    return path


def test_a_file_of_weights_needs_no_training(tmp_path: Path) -> None:
    path = weights_file(tmp_path)
    table = {
        "name": "frozen-features", "extractor": {"name": "mlp", "width": 8},
        "extractor_weights": str(path),
    }  # fmt: skip
    run = run_plan(experiment(model=table), tmp_path / "one")
    (extractor,) = [s for s in run.stages("train") if s.config["role"] == "extractor"]
    assert run.tee[extractor.key] == extractor.tee == 0
    stage = run.stages("audit")[0]
    model = Scene(LocalContext(run.root, stage), stage.config).load_model("model")
    frozen = extractor_of(model)
    mine = load_tensors(path)
    assert frozen is not None
    assert torch.equal(frozen.body[2].weight, mine["2.weight"])  # type: ignore[union-attr]
    elsewhere = tmp_path / "elsewhere.safetensors"
    path.rename(elsewhere)
    moved = make_plan(experiment(model=table | {"extractor_weights": str(elsewhere)}), "cpu")
    assert moved.stages.keys() == run.plan.stages.keys(), "the content counts, not the place"


@pytest.mark.parametrize(
    "change",
    [
        {"extractor": {"name": "cnn-small", "width": 8}},
        {"extractor_rows": 0.4},
        {"extractor_train": {"epochs": 4, "batch_size": 32}},
    ],
)
def test_where_the_extractor_comes_from_is_in_every_key(change: dict[str, Any]) -> None:
    one = make_plan(experiment(), "cpu").stages
    other = make_plan(experiment(model=MODEL_TABLE | change), "cpu").stages
    shared = {one[key].kind for key in one.keys() & other.keys()}
    assert not shared & {"train", "unlearn", "audit"}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"extractor": {"name": "vit-tiny"}}, "linear one at its end"),
        ({"extractor": {"name": "frozen-features"}}, "linear one at its end"),
        ({"extractor": {"name": "mpl"}}, "mlp"),
        ({"extractor": {"name": "mlp", "width": 0}}, "extractor.width"),
        ({"extractor_rows": 1.0}, "extractor_rows"),
        ({"extractor_train": {"epohcs": 3}}, "extractor_train.epohcs"),
        ({"extractor_weights": "x", "extractor_rows": None}, "extractor_train"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(table: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_plan(experiment(model={k: v for k, v in (MODEL_TABLE | table).items() if v}), "cpu")


def test_recipes_that_need_images_are_refused() -> None:
    for train in ({"augment": "crop-flip"}, {"from": "x"}, {"channels_last": True}):
        with pytest.raises(BadInput, match="train\\."):
            make_plan(experiment(train={"epochs": 2} | train), "cpu")
