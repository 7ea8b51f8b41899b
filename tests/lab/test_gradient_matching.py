"""Gradient matching: what it may change and by how much, what it descends on, and whom it aims at."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_tensors
from engine.lab.attacks.gradient_matching import GradientMatching, Matching, box, mismatch
from engine.lab.audits.targeted_success import TargetedSuccess
from engine.lab.context import Failed, Stopped
from engine.lab.crafting import CraftTask
from engine.lab.state import MODEL
from engine.lab.views import Poison, Rows, TrainingSet
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.experiment import Train
from engine.spec.plan import make_plan
from tests.helpers import Run, run_plan, run_stage, small_experiment
from tests.lab.toys import CLASSES, SHAPE, toy_model, toy_pixels, toy_subject

DATA = DataInfo("d", 90, 30, SHAPE, tuple("abc"), (30, 30, 30))
ONE = {"target": 0, "adversarial": 1, "true_class": 2, "restarts": 2, "steps": 12, "share": 0.1}


class Bright(nn.Module):
    """A surrogate that is right about the toys: brightness decides; with weights to differentiate."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = toy_model(seed=1)
        self.scale = nn.Parameter(torch.tensor(80.0))

    def forward(self, inputs: Tensor) -> Tensor:
        level = inputs.flatten(1).mean(1)
        centres = torch.tensor([60.0, 120.0, 180.0]) / 255
        near = -self.scale * (level[:, None] - centres).abs()
        return near + self.inner(inputs)


def task_of(models: list[nn.Module], **changes: Any) -> CraftTask:
    pixels, labels = toy_pixels(90)
    data = TrainingSet(pixels, labels)
    told: dict[str, Any] = {
        "data": data,
        "rows": (labels == 1).nonzero()[:9, 0],
        "training": torch.arange(90),
        "test": Rows(data, torch.arange(90)),
        "seed": 3,
        "device": "cpu",
        "classes": CLASSES,
        "recipe": Train(),
        "fresh_model": toy_model,
        "surrogates": lambda: models,
        "raise_if_stopped": lambda: None,
    }
    return CraftTask(**told | changes)


def craft(attack: GradientMatching, **changes: Any) -> Poison:
    return attack.craft_with(task_of([Bright(), Bright()], **changes))


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 16 / 255, 1.0])
def test_the_poison_stays_in_ball_and_box_exactly(epsilon: float) -> None:
    task = task_of([Bright()])
    poison = GradientMatching(**ONE, epsilon=epsilon).craft_with(task)
    base = task.data.base(task.rows)
    assert poison.inputs.dtype == torch.float32
    assert float((poison.inputs.double() - base.double()).abs().max()) <= epsilon
    assert float(poison.inputs.min()) >= 0 and float(poison.inputs.max()) <= 1
    assert torch.equal(poison.labels, task.data.labels[task.rows])
    assert torch.equal(poison.rows, task.rows)
    assert torch.equal(poison.inputs, base) == (epsilon == 0)


def test_the_box_never_rounds_outwards() -> None:
    base = torch.arange(256, dtype=torch.float32).div(255)
    for epsilon in (0.1, 16 / 255, 8 / 255, 1 / 3, 1e-4):
        low, high = box(base, epsilon)
        assert float((base.double() - low.double()).max()) <= epsilon
        assert float((high.double() - base.double()).max()) <= epsilon
        # … and no float32 further out would have done.
        inner = (high < 1) & (low > 0)
        assert (torch.nextafter(high, base + 1).double() - base.double() > epsilon)[inner].all()


def test_the_matching_loss_falls_and_the_best_restart_is_kept() -> None:
    poison = craft(GradientMatching(**ONE, epsilon=0.2))
    assert poison.facts["matching_end"] < poison.facts["matching_start"]
    first = craft(GradientMatching(**ONE | {"restarts": 1}, epsilon=0.2))
    assert poison.facts["matching_end"] <= first.facts["matching_end"]
    assert poison.facts["matching_start"] == first.facts["matching_start"]


def test_the_same_seed_gives_the_same_poison_and_another_one_another() -> None:
    attack = GradientMatching(**ONE, epsilon=0.2)
    one, two, other = craft(attack), craft(attack), craft(attack, seed=4)
    assert torch.equal(one.inputs, two.inputs) and one.facts == two.facts
    assert not torch.equal(one.inputs, other.inputs)


def test_the_weights_of_surrogates_stay() -> None:
    model = Bright()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    GradientMatching(**ONE).craft_with(task_of([model]))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_target_is_one_that_all_surrogates_get_right() -> None:
    class Wrong(Bright):
        """Right about every third image of class 2 only."""

        def forward(self, inputs: Tensor) -> Tensor:
            answers = super().forward(inputs).argmax(1)
            odd = (inputs[:, 0, 0, 0] * 255).round().long() % 3 != 0
            answers = torch.where((answers == 2) & odd, 0, answers)
            return nn.functional.one_hot(answers, CLASSES).float() + 0 * self.scale

    task = task_of([Bright(), Wrong()])
    found = GradientMatching(**ONE).craft_with(task).facts
    row = int(found["target_row"])
    assert int(task.data.labels[row]) == found["true_class"] == 2
    assert int(task.data.pixels[row, 0, 0, 0]) % 3 == 0
    with pytest.raises(Failed, match="fewer targets"):
        GradientMatching(**ONE | {"target": 29}).craft_with(task)


def test_second_order_gradients_are_the_slopes_of_the_loss() -> None:
    """Central differences in float64, through a smooth network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs = torch.rand(4, *SHAPE, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1])
    loss = nn.functional.cross_entropy(model(torch.rand(1, *SHAPE).double()), torch.tensor([0]))
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    leaf = inputs.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad(mismatch(model, leaf, labels, wanted), leaf)
    for place in [(0, 0, 0, 0), (1, 0, 3, 2), (3, 0, 5, 5)]:
        step = torch.zeros_like(inputs)
        step[place] = 1e-5
        up, down = (
            float(mismatch(model, inputs + s, labels, wanted).detach()) for s in (step, -step)
        )
        assert float(exact[place]) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-10)


def test_augmentation_moves_poison_and_gradient_alike() -> None:
    """Where every move is the middle one and no mirror, augmenting changes nothing."""
    models: list[nn.Module] = [Bright()]
    recipe = Train(augment="crop-flip", crop_padding=0)
    plain = Matching(task_of(models), models, 2, 1, 512)
    moved = Matching(task_of(models, recipe=recipe), models, 2, 1, 512)
    one, other = plain.gradient(plain.base, 0, 0), moved.gradient(moved.base, 0, 0)
    assert one.shape == other.shape
    assert not torch.equal(one, other), "some rows are mirrored"
    assert moved.loss(moved.base) == plain.loss(plain.base), "the loss reported is unmoved"


def test_a_stop_is_heard_between_steps() -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise Stopped

    with pytest.raises(Stopped):
        craft(GradientMatching(**ONE), raise_if_stopped=stop)
    assert asked == 6


def test_compute_is_counted() -> None:
    from engine.lab.meter import Meter

    meter = Meter(90)
    attack = GradientMatching(**ONE | {"restarts": 2, "steps": 10})
    attack.craft_with(task_of([Bright(), Bright()], meter=meter))
    meter.settle()
    steps = 2 * 10 * 9 * 2 * 8 / 3
    looks = 3 * 9 * 2 + 2 + 30 * 2 / 3  # losses, the target's gradients, finding the target
    assert meter.tee == pytest.approx((steps + looks) / 90)
    planned = attack.model_copy(update={"surrogates": 2, "share": 9 / 90}).crafting_tee(90)
    assert planned == pytest.approx(steps / 90), "the plan knows all but the odd look"


# --- what is asked for ---------------------------------------------------------------------------


def planned(**keys: Any) -> Any:
    told = {"name": "gradient-matching", "share": 0.05, "targets": 12, "surrogates": 2} | keys
    raw = small_experiment().model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["attacks"] = [told]
    raw["audits"] = [{"name": "accuracy"}, {"name": "targeted-success"}]
    from engine.spec.presets import validate

    return make_plan(validate(raw, "test"), "cpu")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"share": 0.5}, ["share = 0.5", "adversarial class", "largest share possible is 0.0"]),
        ({"epsilon": -0.1}, ["epsilon", "-0.1"]),
        ({"epsilon": 1.5}, ["epsilon", "1.5"]),
        ({"adversarial": 10}, ["adversarial = 10", "from 0 to 9"]),
        ({"adversarial": 3, "true_class": 3}, ["true_class = 3", "adversarial class"]),
        ({"target": 2}, ["target = 2", "true_class"]),
        ({"share": 0.001}, ["poisons none"]),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(keys: Any, told: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        planned(**keys)
    assert all(word in str(refused.value) for word in told), str(refused.value)


def test_a_whole_entry_can_be_checked_too() -> None:
    """The console asks whether an attack fits before anything is planned."""
    GradientMatching().check(DATA, 90)
    with pytest.raises(BadInput, match="adversarial class"):
        GradientMatching(share=0.5).check(DATA, 90)


@pytest.mark.parametrize("given", [{}, {"adversarial": 4}, {"true_class": 4}])
def test_targets_differ_and_never_belong_to_the_adversarial_class(given: dict[str, int]) -> None:
    data = DataInfo("d", 90, 30, SHAPE, tuple("abcdefg"), (30,) * 7)
    for seed in (0, 1):
        units = [one for _, one in GradientMatching(targets=40, **given).units(data, seed)]
        assert len({(one.true_class, one.target) for one in units}) == 40
        assert all(one.true_class != one.adversarial for one in units)
        assert all(getattr(one, key) == value for one in units for key, value in given.items())
        dealt = Counter(one.adversarial for one in units).values()
        assert max(dealt) - min(dealt) <= 1 or given
    fewer = GradientMatching(targets=5, **given).units(data, 1)
    assert [one.identity() for _, one in fewer] == [one.identity() for one in units[:5]]


def test_surrogates_and_retrainings_are_shared_between_targets() -> None:
    plan = planned()
    titles = Counter(stage.title.split()[1] for stage in plan.stages.values()
                     if stage.kind == "train")  # fmt: skip
    assert titles["surrogate"] == 2 and titles["gradient-matching"] == 12
    crafts = [stage for stage in plan.stages.values() if stage.kind == "craft"]
    assert len(crafts) == 12
    assert len({(s.inputs["surrogate-0"], s.inputs["surrogate-1"]) for s in crafts}) == 1
    retrained = {plan.stages[c.key].inputs["model"] for c in plan.cells if c.role == "retrain"}
    assert len(retrained) == 10, "one a class: its rows are the same for all targets"
    cells = [(c.attack, c.method, c.audit, c.seed, c.unit) for c in plan.cells]
    assert len(set(cells)) == len(cells) == 12 * 2 * 2
    assert {c.attack for c in plan.cells} == {"gradient-matching"}


def test_more_targets_leave_the_first_ones_as_they_are() -> None:
    few, many = planned(targets=4), planned(targets=12)
    assert few.stages.keys() <= many.stages.keys()


# --- through the plan ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    attack = {
        "name": "gradient-matching", "share": 0.07, "epsilon": 0.5, "targets": 3,
        "surrogates": 2, "restarts": 1, "steps": 80,
    }  # fmt: skip
    experiment = small_experiment(
        attacks=[attack],
        model={"name": "mlp", "width": 32},
        audits=[{"name": "accuracy"}, {"name": "targeted-success"}],
    )
    return run_plan(experiment, tmp_path_factory.mktemp("targeted"))


def test_it_aims_and_retraining_forgets(run: Run) -> None:
    found = {
        (method, unit): run.metrics(method=method, unit=unit, audit="targeted-success")
        for method in ("none", "retrain")
        for unit in (0, 1, 2)
    }
    for metrics in found.values():
        assert metrics.keys() == TargetedSuccess.metrics.keys()
        assert metrics["success"] == float((metrics["target_margin"] or 0) > 0)
    none, retrain = (
        sum(found[method, unit]["target_margin"] or 0.0 for unit in (0, 1, 2))
        for method in ("none", "retrain")
    )
    assert none > retrain + 1
    assert all(run.tee[stage.key] > 0 for stage in run.stages("craft"))


def test_no_room_to_move_is_the_clean_training_bit_for_bit(run: Run, tmp_path: Path) -> None:
    """ε = 0: Δ = 0, and the model is the one that clean data give."""
    from dataclasses import replace

    craft_stage = run.stages("craft")[0]
    config = json.loads(json.dumps(craft_stage.config))
    config["attack"]["epsilon"] = config["identity"]["epsilon"] = 0.0
    still = replace(craft_stage, key="still", config=config)
    run_stage(still, run.root)
    told = load_tensors(run.root / "still" / "poison.safetensors")
    pixels = load_tensors(run.root / craft_stage.inputs["data"] / "pixels.safetensors")
    assert torch.equal(told["inputs"], pixels["train_x"][told["rows"]].float().div(255))
    assert torch.equal(told["labels"], pixels["train_y"][told["rows"]])

    train = next(s for s in run.stages("train") if "craft" in s.inputs)
    base = {role: train.inputs[role] for role in ("data", "split")}
    for name, inputs in (("of still", base | {"craft": "still"}), ("of clean", base)):
        run_stage(replace(train, key=name, inputs=inputs), run.root)
    found = [(run.root / name / MODEL).read_bytes() for name in ("of still", "of clean")]
    assert found[0] == found[1] != (run.root / train.key / MODEL).read_bytes()


def test_the_audit_counts_one_image() -> None:
    class Says(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor([[0.0, 2.0, 1.0]]).expand(len(inputs), -1)

    pixels, labels = toy_pixels()
    rows = torch.tensor([1, 4])
    clean = TrainingSet(pixels, labels)
    facts = {"target_row": 5, "adversarial": 1, "true_class": 2}
    poison = Poison(rows, clean.base(rows), labels[rows], facts=facts)
    subject = toy_subject(Says(), TrainingSet(pixels, labels, poison))
    found = TargetedSuccess().measure(subject).metrics
    assert found["success"] == 1.0 and found["correct"] == 0.0
    assert found["target_margin"] == 1.0
    assert found["adversarial_probability"] == pytest.approx(
        float(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1])
    )
    probe = GradientMatching(**ONE).glimpse(subject)["targeted-success"]
    assert probe == {"margin": 1.0, "probability": found["adversarial_probability"]}


def test_bounds_hold_in_raw_space_after_an_export(run: Run, tmp_path: Path) -> None:
    from engine.spec.poisons import largest_change, write_poison

    stage = run.stages("craft")[0]
    told = load_tensors(run.root / stage.key / "poison.safetensors")
    facts = json.loads((run.root / stage.key / "poison.json").read_text())["facts"]
    pixels = load_tensors(run.root / stage.inputs["data"] / "pixels.safetensors")
    shape = list(told["inputs"].shape[1:])
    data = {"digest": "d", "train": 400, "test": 100, "classes": list("0123456789"), "shape": shape}
    manifest = {
        "v": 1, "data": data, "gives": ["target"], "movable": True, "facts": facts,
        "bounds": {"epsilon": facts["epsilon"], "unit_box": True}, "made": {"seed": 0, "unit": 0},
    }  # fmt: skip
    folder = write_poison(tmp_path / "out", {k: v.numpy() for k, v in told.items()}, manifest)
    change = largest_change(folder, pixels["train_x"][told["rows"]].numpy())
    assert 0.9 * facts["epsilon"] < change <= facts["epsilon"]
    assert (pixels["train_y"][told["rows"]] == torch.from_numpy(folder.arrays["labels"])).all()
