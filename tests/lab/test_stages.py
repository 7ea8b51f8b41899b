"""Whole experiments, stage by stage: what is shared, what starts anew, and what is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import engine.lab.stages as lab
from engine.lab.artifacts import load_tensors
from engine.lab.attacks.gaussian import Gaussian
from engine.lab.context import NotApplicable
from engine.lab.looks import Looks
from engine.lab.models.mlp import MLP
from engine.lab.randomness import stream
from engine.lab.scene import Scene
from engine.lab.state import FILES, MODEL
from engine.lab.views import TrainingSet
from engine.spec.planned import Stage
from engine.spec.registry import find
from tests.helpers import DONE, LocalContext, Run, run_plan, run_stage, small_experiment
from tests.lab.toys import same

METHODS = ["none", "retrain", "retrain-fresh", "gd", "ngd"]


def model_file(run: Run, stage: Stage) -> Path:
    return run.root / stage.key / MODEL


def again(run: Run, stage: Stage, name: str, **changes: Any) -> Stage:
    """Compute a stage once more, changed, under another key of the same root."""
    changed = replace(stage, key=f"{name} {stage.key[:12]}", **changes)
    run_stage(changed, run.root)
    return changed


def rows(run: Run, kind: str, name: str) -> Tensor:
    (stage,) = run.stages(kind)
    return load_tensors(run.root / stage.key / "rows.safetensors")[name]


def test_a_plan_fills_every_cell(small_run: Run) -> None:
    assert not small_run.na
    assert {cell.method for cell in small_run.plan.cells} == set(METHODS)
    assert len(small_run.plan.cells) == 2 * (3 + 2 * 2)
    for cell in small_run.plan.cells:
        told = json.loads((small_run.root / cell.key / "measurements.json").read_text())
        assert told["audit"] == cell.audit
        declared = find("audit", cell.audit).metrics  # type: ignore[attr-defined]
        families = {name.partition(".")[0] for name in told["metrics"]}
        assert families == declared.keys()


def test_the_parts_of_the_data_are_disjoint(small_run: Run) -> None:
    training, validation = (
        set(rows(small_run, "split", n).tolist()) for n in ("training", "validation")
    )
    poisoned = set(rows(small_run, "select", "poisoned").tolist())
    assert len(training) == 360 and len(validation) == 40 and len(poisoned) == 36
    assert not training & validation
    assert poisoned <= training


def test_what_the_small_run_finds_is_what_theory_says(small_run: Run) -> None:
    noise = {m: small_run.metrics(method=m, audit="gaussian")["z"] for m in METHODS[:3]}
    assert noise["none"] > 4
    assert abs(noise["retrain"]) < 4 and abs(noise["retrain-fresh"]) < 4
    fit = small_run.metrics(method="none", audit="accuracy")
    assert fit["test_accuracy"] > 0.7
    assert (
        fit["forget_accuracy"]
        > small_run.metrics(method="retrain", audit="accuracy")["forget_accuracy"]
    )


def test_compute_is_what_was_done(small_run: Run) -> None:
    for stage in small_run.stages("train"):
        share = 324 / 360 if "exclude" in stage.inputs else 1
        assert small_run.tee[stage.key] == pytest.approx(10 * share) == stage.tee
    for cell in small_run.cells(audit="gaussian", role="unlearn"):
        stage = small_run.plan.stages[cell.cost_keys[-1]]
        spent = json.loads((small_run.root / stage.key / "state.json").read_text())["counters"]
        assert cell.budget is not None
        assert cell.budget * 10 - 32 / 360 < spent["spent"] / 360 <= cell.budget * 10
        assert spent["forget"] == 0


@pytest.mark.parametrize("kind", ["split", "select", "craft", "train", "unlearn", "audit"])
def test_a_stage_computed_again_gives_the_same_bytes(small_run: Run, kind: str) -> None:
    stage = small_run.stages(kind)[-1]
    folder = small_run.root / again(small_run, stage, "again").key
    for path in folder.iterdir():
        if path.name != DONE:
            assert path.read_bytes() == (small_run.root / stage.key / path.name).read_bytes()


@pytest.mark.parametrize("method", ["gd", "ngd"])
def test_a_budget_reached_in_one_go_is_the_same_snapshot(small_run: Run, method: str) -> None:
    stage = small_run.model_stage(method=method, budget=0.2, audit="gaussian")
    assert len(stage.after) == 1, "it went on from the smaller budget"
    alone = again(small_run, stage, "alone", after=())
    for name in FILES:
        went_on, at_once = (small_run.root / s.key / name for s in (stage, alone))
        assert went_on.read_bytes() == at_once.read_bytes(), name


def test_the_poisoned_model_is_left_alone(small_run: Run) -> None:
    stage = small_run.model_stage(method="gd", budget=0.1, audit="gaussian")
    start = small_run.root / stage.inputs["start"] / MODEL
    before = start.read_bytes()
    unlearned = again(small_run, stage, "spare")
    assert start.read_bytes() == before != model_file(small_run, unlearned).read_bytes()


# --- retraining ----------------------------------------------------------------------------------


def spy_on_rows(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    taken: set[int] = set()
    plain = TrainingSet._inputs

    def spied(data: TrainingSet, wanted: Tensor, width: int | None = None) -> Any:
        taken.update(wanted.tolist())
        return plain(data, wanted, width)

    monkeypatch.setattr(TrainingSet, "_inputs", spied)
    return taken


@pytest.mark.parametrize("method", ["none", "retrain", "retrain-fresh"])
def test_retraining_never_reads_a_poisoned_row(
    small_run: Run, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    stage = small_run.model_stage(method=method, audit="gaussian")
    taken = spy_on_rows(monkeypatch)
    config = {key: value for key, value in stage.config.items() if key != "attack"}
    again(small_run, stage, "spied", config=config)
    training = set(rows(small_run, "split", "training").tolist())
    poisoned = set(rows(small_run, "select", "poisoned").tolist())
    assert taken == (training if method == "none" else training - poisoned)


def test_retraining_without_a_forget_set_is_the_original_run(small_run: Run) -> None:
    """No poison, poison that changes nothing, and leaving out no row: one and the same model."""
    original = small_run.model_stage(method="none", audit="gaussian")
    stage = small_run.model_stage(method="retrain", audit="gaussian")
    assert stage.config["role"] == original.config["role"]
    chosen = rows(small_run, "select", "poisoned")
    pixels = load_tensors(small_run.root / stage.inputs["data"] / "pixels.safetensors")
    clean = TrainingSet(pixels["train_x"], pixels["train_y"]).take(chosen)
    nothing = small_run.root / "nothing"
    nothing.mkdir(exist_ok=True)
    save_file({"poisoned": chosen[:0]}, nothing / "rows.safetensors")
    harmless = {"rows": chosen, "inputs": clean.inputs, "labels": clean.labels}
    save_file(harmless, nothing / "poison.safetensors")
    (nothing / "poison.json").write_text('{"movable": false, "facts": {}}')

    base = {role: stage.inputs[role] for role in ("data", "split")}
    found = [
        model_file(small_run, again(small_run, stage, name, inputs=base | more)).read_bytes()
        for name, more in (
            ("clean", {}),
            ("harmless poison", {"craft": "nothing"}),
            ("leaving out no row", {"exclude": "nothing"}),
        )
    ]
    assert found[0] == found[1] == found[2]
    assert found[0] != model_file(small_run, stage).read_bytes()
    assert found[0] != model_file(small_run, original).read_bytes()


class Deep:
    """MLP's builder replaced by a network with buffers, nested layers and dropout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def build(
            told: MLP, shape: tuple[int, ...], classes: int, mean: list[float], std: list[float]
        ) -> nn.Module:
            from engine.lab.models._layers import Normalise

            inner = nn.Sequential(nn.Linear(784, 12), nn.BatchNorm1d(12), nn.ReLU())
            block = nn.Sequential(inner, nn.Dropout(0.2), nn.LayerNorm(12))
            return nn.Sequential(
                Normalise(mean, std), nn.Flatten(), nn.Sequential(block), nn.Linear(12, classes)
            )

        monkeypatch.setattr(MLP, "build", build)


@pytest.mark.parametrize("method", ["retrain", "retrain-fresh"])
def test_every_parameter_and_buffer_starts_anew(
    small_run: Run, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    Deep(monkeypatch)
    poisoned = again(small_run, small_run.model_stage(method="none", audit="gaussian"), "deep")
    stage = small_run.model_stage(method=method, audit="gaussian")
    started: list[dict[str, Tensor]] = []
    plain = lab.fit

    def spied(model: nn.Module, *rest: Any) -> None:
        started.append({key: value.clone() for key, value in model.state_dict().items()})
        plain(model, *rest)

    monkeypatch.setattr(lab, "fit", spied)
    torch.manual_seed(1234)
    ended = load_tensors(model_file(small_run, again(small_run, stage, "deep")))
    old = load_tensors(model_file(small_run, poisoned))

    torch.manual_seed(stream(stage.config["seed"], stage.config["role"], "init"))
    scene = Scene(LocalContext(small_run.root, stage), stage.config)
    assert same(started[0], scene.new_model().state_dict())
    told_by_the_data = {"0.mean", "0.std"}
    counts = {key for key in old if key.endswith("num_batches_tracked")}
    for key in old.keys() - told_by_the_data - counts:
        assert not torch.equal(started[0][key], old[key]), key
        assert not torch.equal(ended[key], old[key]), key
    for key in counts:
        assert started[0][key] == 0
        assert ended[key] < old[key], "fewer rows make fewer steps in as many epochs"


def test_paired_and_fresh_retraining_differ_from_the_first_weight(small_run: Run) -> None:
    paired, fresh = (
        load_tensors(model_file(small_run, small_run.model_stage(method=m, audit="gaussian")))
        for m in ("retrain", "retrain-fresh")
    )
    assert not any(torch.equal(paired[k], fresh[k]) for k in paired if k not in ("0.mean", "0.std"))


# --- dropout, BatchNorm, n/a, looks --------------------------------------------------------------


def test_a_network_with_dropout_and_batchnorm_has_one_trajectory(
    small_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Deep(monkeypatch)
    start = again(small_run, small_run.model_stage(method="none", audit="gaussian"), "deep start")
    first, second = (
        small_run.model_stage(method="ngd", budget=budget, audit="gaussian")
        for budget in (0.1, 0.2)
    )
    inputs = first.inputs | {"start": start.key}
    first = again(small_run, first, "deep one", inputs=inputs)
    went_on = again(small_run, second, "deep two", inputs=inputs, after=(first.key,))
    at_once = again(small_run, second, "deep alone", inputs=inputs, after=())
    for name in FILES:
        one, other = (small_run.root / s.key / name for s in (went_on, at_once))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_budget_below_one_step_is_not_applicable(workshop: Path) -> None:
    experiment = small_experiment(
        methods=[{"name": "gd", "batch_size": 128}], budgets=[0.01, 0.02, 0.2]
    )
    run = run_plan(experiment, workshop)
    reasons = {
        cell.budget: run.na.get(cell.key) for cell in run.cells(audit="gaussian", method="gd")
    }
    assert reasons[0.01] is not None and "needs 0.356 TEE" in reasons[0.01]
    assert reasons[0.02] is not None
    assert reasons[0.2] is None
    assert run.metrics(audit="gaussian", method="gd", budget=0.2)["count"] == 36


def test_a_look_changes_nothing_at_all(small_run: Run) -> None:
    """Whether a look happens depends on the clock, so it must leave every layer's mode alone."""
    stage = small_run.model_stage(method="gd", budget=0.1, audit="gaussian")
    context = LocalContext(small_run.root, stage)
    scene = Scene(context, stage.config)
    model = scene.load_model("start").train()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    look = scene.look(stage.config, context)
    assert look is not None
    look(model, 7)
    assert [(name, step) for name, step, _ in context.probes] == [("gaussian", 7)]
    json.dumps(context.probes, allow_nan=False)
    assert same(before, model.state_dict())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["gaussian", "accuracy"])
def test_audits_see_a_model_in_eval_mode(
    small_run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """All of it: a layer left in training mode would drop units or mix the rows of a batch."""
    modes: list[bool] = []
    plain = Scene.subject

    def spied(scene: Scene, model: nn.Module, seed: int) -> Any:
        subject = plain(scene, model, seed)
        hook = lambda module, *_: modes.extend(m.training for m in module.modules())  # noqa: E731
        subject.model.register_forward_hook(hook)
        return subject

    monkeypatch.setattr(Scene, "subject", spied)
    (cell,) = small_run.cells(method="none", audit=name)
    again(small_run, small_run.plan.stages[cell.key], "eval mode")
    assert modes and not any(modes)


def test_watched_stages_give_the_same_bytes(
    small_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Looks, "due", lambda *_: True)
    for stage in (small_run.stages("train")[0], small_run.stages("unlearn")[-1]):
        watched = replace(stage, key=f"watched {stage.key[:12]}")
        _, context = run_stage(watched, small_run.root, always_due=True)
        assert len(context.probes) > 5
        assert (
            model_file(small_run, watched).read_bytes() == model_file(small_run, stage).read_bytes()
        )


def test_a_data_set_that_changed_after_planning_is_refused(small_run: Run) -> None:
    (stage,) = small_run.stages("data")
    with pytest.raises(lab.Failed, match="changed"):
        again(small_run, stage, "changed", config=stage.config | {"digest": "0" * 64})


def test_the_models_first_layer_normalises_the_data(small_run: Run) -> None:
    (stage,) = small_run.stages("data")
    folder = small_run.root / stage.key
    told = json.loads((folder / "data.json").read_text())
    pixels = load_tensors(folder / "pixels.safetensors")["train_x"].double() / 255
    assert told["mean"] == pytest.approx([float(pixels.mean())])
    assert told["std"] == pytest.approx([float(pixels.std(correction=0))])
    assert told["shape"] == [1, 28, 28] and len(told["classes"]) == 10


@pytest.mark.slow
def test_momentum_and_adamw_and_augmentation_end_to_end(tmp_path: Path) -> None:
    """Crop and flip leaves the noise where it is: the poisoned model still shows it."""
    train = {
        "epochs": 30,
        "batch_size": 32,
        "lr": 0.003,
        "optimizer": "adamw",
        "augment": "crop-flip",
    }
    experiment = small_experiment(
        train=train,
        data={"name": "mnist5k", "limit_train": 600, "limit_test": 100},
        model={"name": "mlp", "width": 64},
    )
    run = run_plan(experiment, tmp_path)
    assert run.metrics(method="none", audit="gaussian")["z"] > 4
    assert abs(run.metrics(method="retrain", audit="gaussian")["z"]) < 4


# --- numbers that are none -----------------------------------------------------------------------


def test_metrics_that_are_not_finite_are_undefined_and_warned_of(small_run: Run) -> None:
    """Of finite weights, too, whose outputs overflow: never a fault of JSON."""
    stage = next(
        small_run.plan.stages[cell.key] for cell in small_run.cells(method="gd", audit="accuracy")
    )
    model = small_run.plan.stages[stage.inputs["model"]]
    weights = load_tensors(model_file(small_run, model))
    huge = {name: t * 1e38 if name[:2] != "0." else t for name, t in weights.items()}
    assert all(torch.isfinite(t).all() for t in huge.values())
    (small_run.root / "overflows").mkdir()
    save_file(huge, small_run.root / "overflows" / MODEL)
    changed = replace(stage, key="of what overflows", inputs=stage.inputs | {"model": "overflows"})
    _, context = run_stage(changed, small_run.root)
    told = json.loads((context.folder / "measurements.json").read_text())["metrics"]
    assert told["test_ece"] is None and told["test_accuracy"] is not None
    assert context.warnings == ["not finite, so undefined: test_ece"]


@pytest.mark.parametrize("what", ["inputs", "facts"])
def test_a_crafting_that_diverges_is_not_applicable(
    small_run: Run, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    plain = Gaussian.craft_with

    def crafted(self: Gaussian, task: Any) -> Any:
        poison = plain(self, task)
        if what == "inputs":
            poison.inputs[0] = torch.nan
        else:
            poison.facts["residual"] = float("inf")
        return poison

    monkeypatch.setattr(Gaussian, "craft_with", crafted)
    (stage,) = small_run.stages("craft")
    name = "inputs" if what == "inputs" else "residual"
    with pytest.raises(NotApplicable, match=f"the crafting diverged: {name} of the poison"):
        again(small_run, stage, f"not finite {what}")
