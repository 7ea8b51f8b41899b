"""Backdoors: the trigger is where it says, on whom it says, and the audit counts what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from engine.lab.attacks._trigger import Backdoor, apply_trigger
from engine.lab.attacks.badnets import BadNets
from engine.lab.attacks.blended import Blended
from engine.lab.attacks.sig import Sig
from engine.lab.audits.attack_success import AttackSuccess
from engine.lab.context import Failed
from engine.lab.selection import choose, validation_cut
from engine.lab.subject import Subject
from engine.lab.views import Rows, TrainingSet
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from engine.spec.planned import Plan
from tests.helpers import run_plan, run_stage, small_experiment
from tests.lab.toys import CLASSES, toy_model, toy_pixels, toy_subject

SHAPE = (1, 6, 6)
DATA = DataInfo("d", 90, 30, SHAPE, tuple("abc"), (30, 30, 30))
BACKDOORS = [BadNets(target=1), Blended(target=1), Sig(target=1, frequency=2, amplitude=0.6)]
each = pytest.mark.parametrize("attack", BACKDOORS, ids=lambda attack: attack.name)


def clean_set(shape: tuple[int, int, int] = SHAPE, rows: int = 90) -> TrainingSet:
    return TrainingSet(*toy_pixels(rows, shape))


def craft(attack: Backdoor, data: TrainingSet, seed: int = 3) -> TrainingSet:
    """`data` with 12 rows poisoned that the attack's own rule chose."""
    rule = attack.selection() | {"share": 12 / len(data)}
    rows = choose(rule, np.arange(len(data)), data.labels.numpy(), seed)
    poison = attack.craft(data, torch.from_numpy(rows), seed)
    return TrainingSet(data.pixels, data.labels, poison)


def backdoored(model: nn.Module, attack: Backdoor | None = None, rows: int = 90) -> Subject:
    """Test rows are `rows` clean ones, one class after the other, as image folders hold them."""
    subject = toy_subject(model, craft(attack or BadNets(target=1), clean_set()))
    pixels, labels = toy_pixels(rows)
    order = labels.argsort()
    test = TrainingSet(pixels[order], labels[order])
    return replace(subject, test=Rows(test, torch.arange(rows)))


def audited(model: nn.Module, attack: Backdoor | None = None) -> dict[str, float | None]:
    return AttackSuccess().measure(backdoored(model, attack)).metrics


class Says(nn.Module):
    """Answers `triggered` where the bottom right pixel is full white, `plain` elsewhere."""

    def __init__(self, plain: int, triggered: int) -> None:
        super().__init__()
        self.plain, self.triggered = plain, triggered

    def forward(self, inputs: Tensor) -> Tensor:
        answer = torch.where(inputs[:, 0, -1, -1] == 1, self.triggered, self.plain)
        return nn.functional.one_hot(answer, CLASSES).float()


# --- crafting ------------------------------------------------------------------------------------


@each
def test_poisoned_inputs_are_the_trigger_on_base_within_the_box(attack: Backdoor) -> None:
    data = clean_set((3, 6, 6))
    poison = craft(attack, data).poison
    assert poison is not None
    keep, add = poison.extras["trigger_keep"], poison.extras["trigger_add"]
    base = data.base(poison.rows)
    assert keep.shape == add.shape == (3, 6, 6)
    assert torch.equal(poison.inputs, (base * keep + add).clamp(0, 1))
    assert poison.inputs.dtype == torch.float32
    assert not torch.equal(poison.inputs, base)
    assert poison.inputs.min() >= 0 and poison.inputs.max() <= 1
    assert poison.facts == {"target": 1}


@each
def test_rows_and_labels(attack: Backdoor) -> None:
    data = clean_set()
    poison = craft(attack, data).poison
    assert poison is not None and len(poison.rows) == 12
    chosen = data.labels[poison.rows]
    assert (poison.labels == 1).all()
    if attack.relabels:
        assert (chosen != 1).all() and set(chosen.tolist()) == {0, 2}
    else:
        assert torch.equal(poison.labels, chosen)


@each
def test_crafting_is_the_seeds_own_and_touches_nothing_else(attack: Backdoor) -> None:
    data, rows = clean_set(), torch.arange(0, 90, 9)
    pixels, labels, state = data.pixels.clone(), data.labels.clone(), torch.get_rng_state()
    first, again, other = (attack.craft(data, rows, seed) for seed in (5, 5, 6))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.inputs, other.inputs) == (attack.name != "blended")
    assert torch.equal(data.pixels, pixels) and torch.equal(data.labels, labels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("place", "down", "right"),
    [
        ("bottom-right", 4, 4), ("bottom-left", 4, 0), ("top-right", 0, 4), ("top-left", 0, 0),
        ("centre", 2, 2), ((1, 3), 1, 3),
    ],
)  # fmt: skip
def test_a_patch_changes_nothing_outside_itself(place: Any, down: int, right: int) -> None:
    data = clean_set((3, 6, 6))
    colour = (0.25, 1.0, 0.0)
    poison = craft(BadNets(target=1, size=2, place=place, colour=colour), data).poison
    assert poison is not None
    outside = torch.ones(6, 6, dtype=torch.bool)
    outside[down : down + 2, right : right + 2] = False
    base = data.base(poison.rows)
    assert torch.equal(poison.inputs[..., outside], base[..., outside])
    painted = torch.tensor(colour)[None, :, None].expand(12, 3, 4)
    assert torch.equal(poison.inputs[..., ~outside], painted)


def test_a_patch_twice_is_a_patch_once() -> None:
    keep, add = BadNets(colour=0.3).trigger(SHAPE, 0)
    once = apply_trigger(torch.rand(5, *SHAPE), keep, add)
    assert torch.equal(apply_trigger(once, keep, add), once)


def test_a_patch_moves_with_its_image() -> None:
    data = craft(BadNets(target=1), clean_set())
    assert data.poison is not None
    rows = data.poison.rows
    mirrored = torch.tensor([[2, 2, 1]]).expand(len(rows), 3)
    moved = data.take_augmented(rows, mirrored, 2).inputs
    assert torch.equal(moved, data.poison.inputs.flip(3))


def test_blended_mixes_by_opacity() -> None:
    keep, add = Blended(opacity=0.25).trigger(SHAPE, 0)
    assert torch.equal(keep, torch.full(SHAPE, 0.75))
    assert add.min() >= 0 and add.max() <= 0.25 and add.std() > 0.05


def test_sig_is_a_sinusoid_along_columns() -> None:
    keep, add = Sig(frequency=6).trigger((3, 28, 28), 0)
    column = np.arange(28)
    wave = 40 / 255 * np.sin(2 * np.pi * column * 6 / 28)
    assert torch.equal(keep, torch.ones(3, 28, 28))
    assert np.allclose(add.numpy(), np.broadcast_to(wave, (3, 28, 28)), atol=1e-7)


# --- image files ---------------------------------------------------------------------------------


def save_image(path: Path, pixels: list[list[tuple[int, ...]]]) -> str:
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    return str(path)


RED, CLEAR, FAINT = (255, 0, 0, 255), (9, 9, 9, 0), (0, 0, 255, 100)
BLUE = (0, 0, 255, 200)


def test_a_picture_patch_is_opaque_or_not_there(tmp_path: Path) -> None:
    path = save_image(tmp_path / "p.png", [[RED, CLEAR], [FAINT, BLUE]])
    data = clean_set((3, 6, 6))
    attack = BadNets(target=1, size=2, image=path)
    poison = craft(attack, data).poison
    assert poison is not None
    expected = data.base(poison.rows).clone()
    expected[:, :, 4, 4] = torch.tensor([1.0, 0.0, 0.0])
    expected[:, :, 5, 5] = torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(poison.inputs, expected)
    keep, add = poison.extras["trigger_keep"], poison.extras["trigger_add"]
    assert torch.equal(apply_trigger(expected, keep, add), expected)


def test_a_picture_is_resized_and_greyed(tmp_path: Path) -> None:
    path = save_image(tmp_path / "p.png", [[(51, 51, 51, 255)] * 9] * 7)
    keep, add = BadNets(size=4, image=path).trigger(SHAPE, 0)
    assert (keep == 0).sum() == 16 and torch.equal(add[0, 2:, 2:], torch.full((4, 4), 51 / 255))
    keep, add = Blended(image=path).trigger(SHAPE, 0)
    assert torch.allclose(add, torch.full(SHAPE, 0.2 * 51 / 255)) and (keep == 0.8).all()


def test_blended_leaves_transparent_pixels_alone(tmp_path: Path) -> None:
    path = save_image(tmp_path / "p.png", [[RED, CLEAR]])
    keep, add = Blended(image=path).trigger((3, 1, 2), 0)
    assert (keep[..., 1] == 1).all() and (add[..., 1] == 0).all()
    assert torch.allclose(add[:, 0, 0], torch.tensor([0.2, 0.0, 0.0]))


def craft_key(**attack: Any) -> str:
    plan = make_plan(small_experiment(attacks=[attack], audits=[{"name": "accuracy"}]), "cpu")
    (key,) = (stage.key for stage in plan.stages.values() if stage.kind == "craft")
    return key


@pytest.mark.parametrize("name", ["badnets", "blended"])
def test_a_pictures_content_enters_the_key_and_its_path_does_not(name: str, tmp_path: Path) -> None:
    one = save_image(tmp_path / "one.png", [[RED, BLUE]])
    copy = save_image(tmp_path / "copy.png", [[RED, BLUE]])
    other = save_image(tmp_path / "other.png", [[RED, RED]])
    key = craft_key(name=name, image=one)
    assert craft_key(name=name, image=copy) == key
    assert craft_key(name=name, image=other) != key
    assert craft_key(name=name) != key
    save_image(tmp_path / "copy.png", [[BLUE, BLUE]])
    assert craft_key(name=name, image=copy) != key


def test_the_default_colour_is_white() -> None:
    white = craft_key(name="badnets")
    assert craft_key(name="badnets", colour=1.0) == white
    assert craft_key(name="badnets", colour=0.5) != white


def test_what_a_worker_reads_from_the_plan_is_what_was_planned(tmp_path: Path) -> None:
    attack = {"name": "badnets", "colour": [0.5], "place": [0, 1]}
    plan = make_plan(small_experiment(attacks=[attack], audits=[{"name": "accuracy"}]), "cpu")
    for stage in Plan.from_json(json.loads(json.dumps(plan.to_json()))).stages.values():
        run_stage(stage, tmp_path)
        if stage.kind == "craft":
            return


def test_a_picture_changed_after_planning_is_refused(tmp_path: Path) -> None:
    path = save_image(tmp_path / "p.png", [[RED, BLUE]])
    experiment = small_experiment(
        attacks=[{"name": "badnets", "image": path}], audits=[{"name": "accuracy"}]
    )
    stages = make_plan(experiment, "cpu").stages.values()
    for stage in stages:
        if stage.kind == "craft":
            run_stage(stage, tmp_path)
            save_image(tmp_path / "p.png", [[BLUE, BLUE]])
            with pytest.raises(Failed, match="changed after the run was planned"):
                run_stage(stage, tmp_path)
            return
        run_stage(stage, tmp_path)


# --- the audit -----------------------------------------------------------------------------------


def test_a_model_that_reads_the_patch() -> None:
    metrics = audited(Says(plain=0, triggered=1))
    assert metrics == {
        "asr": 1.0, "untriggered_rate": 0.0, "triggered_accuracy": 0.0, "count": 60.0,
    }  # fmt: skip


def test_the_target_class_is_not_counted() -> None:
    always, never = audited(Says(1, 1)), audited(Says(0, 0))
    assert (always["asr"], always["untriggered_rate"], always["triggered_accuracy"]) == (1, 1, 0)
    # Half of the 60 rows counted are of class 0; with class 1's 30 it would be a third.
    assert (never["asr"], never["untriggered_rate"], never["triggered_accuracy"]) == (0, 0, 0.5)
    assert always["count"] == never["count"] == 60


def test_a_trigger_that_misleads_elsewhere_is_no_success() -> None:
    metrics = audited(Says(plain=1, triggered=2))
    assert (metrics["asr"], metrics["untriggered_rate"]) == (0, 1)


@each
def test_untrained_models_do_not_know_the_trigger(attack: Backdoor) -> None:
    gaps = []
    for seed in range(60):
        metrics = audited(toy_model(seed), attack)
        assert metrics["asr"] is not None and metrics["untriggered_rate"] is not None
        gaps.append(metrics["asr"] - metrics["untriggered_rate"])
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / 60**0.5 + 0.01


def test_without_other_classes_there_is_nothing_to_measure() -> None:
    subject = backdoored(toy_model())
    alone = replace(subject, test=Rows(subject.test.data, torch.arange(30, 60)))
    metrics = AttackSuccess().measure(alone).metrics
    assert metrics == dict.fromkeys(AttackSuccess.metrics) | {"count": 0.0}
    assert BadNets(target=1).glimpse(alone) == {"attack-success": {"asr": None, "count": 0}}


class Class2Only(nn.Module):
    """Falls for the trigger only on bright images: class 2's."""

    def forward(self, inputs: Tensor) -> Tensor:
        bright = inputs.flatten(1).mean(1) > 0.58
        return nn.functional.one_hot(torch.where(bright, 1, 0), CLASSES).float()


def test_the_glimpse_is_a_fair_sample_and_leaves_the_model_alone() -> None:
    model = Class2Only()
    subject = backdoored(model, rows=600)
    full = AttackSuccess().measure(subject).metrics["asr"]
    model.train()
    state = torch.get_rng_state()
    told = BadNets(target=1).glimpse(subject)["attack-success"]
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert told["count"] == 256
    assert full is not None and 0.2 < full < 0.8 and abs(told["asr"] - full) < 0.05


# --- through the plan ----------------------------------------------------------------------------


def test_one_experiment_of_noise_and_backdoor(tmp_path: Path) -> None:
    attacks = [
        {"name": "gaussian", "share": 0.1},
        {"name": "badnets", "share": 0.08, "target": 3},
    ]
    audits = [{"name": n} for n in ("accuracy", "attack-success", "gaussian")]
    model = {"name": "mlp", "width": 64}
    run = run_plan(small_experiment(attacks=attacks, audits=audits, model=model), tmp_path)
    assert not run.na
    asked = {(cell.attack, cell.audit) for cell in run.cells()}
    assert asked == {
        ("gaussian", "accuracy"), ("gaussian", "gaussian"),
        ("badnets", "accuracy"), ("badnets", "attack-success"),
    }  # fmt: skip
    of = {m: run.metrics(method=m, audit="attack-success") for m in ("none", "retrain")}
    assert set(of["none"]) == set(AttackSuccess.metrics)
    none, retrain = of["none"], of["retrain"]
    assert none["count"] == retrain["count"] == 90
    assert none["asr"] is not None and none["asr"] > 0.5
    # A model that never saw the patch takes it for a digit's pixel or two.
    assert abs((retrain["asr"] or 0) - (retrain["untriggered_rate"] or 0)) < 0.05


def test_attacks_on_the_same_rows_share_a_retraining() -> None:
    attacks = [{"name": name} for name in ("badnets", "blended", "sig")]
    experiment = small_experiment(attacks=attacks, audits=[{"name": "attack-success"}])
    kinds = [stage.kind for stage in make_plan(experiment, "cpu").stages.values()]
    assert kinds.count("craft") == 3
    assert kinds.count("select") == 2  # badnets and blended choose alike, sig within its class
    assert kinds.count("train") == 3 + 2


def refusal(**attack: Any) -> str:
    """What is said of an attack on 360 of 400 digits before anything is computed."""
    with pytest.raises(BadInput) as told:
        make_plan(small_experiment(attacks=[attack], audits=[{"name": "attack-success"}]), "cpu")
    return str(told.value)


@pytest.mark.parametrize("name", ["badnets", "blended", "sig"])
@pytest.mark.parametrize("target", [-1, 10])
def test_a_target_that_is_no_class(name: str, target: int) -> None:
    told = refusal(name=name, target=target)
    assert f"attacks.{name}.target = {target}: " in told and "0 to 9" in told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 29}, "badnets.size = 29: the patch does not fit into 28×28 pixels; at most 28"),
        ({"place": [26, 0]}, "badnets.place = (26, 0): a 3×3 patch there leaves"),
        ({"place": [-1, 0]}, "place: [-1, 0] must be bottom-right"),
        ({"place": "middle"}, "place = 'middle': 'middle' must be bottom-right"),
        ({"colour": [1.0, 0.0, 0.0]}, "badnets.colour = (1.0, 0.0, 0.0): 3 values, but the images"),
        ({"colour": 1.5}, "colour = 1.5: 1.5 must be a level in [0, 1]"),
        ({"colour": [-0.1]}, "colour: [-0.1] must be a level in [0, 1]"),
        ({"colour": []}, "colour: [] must be a level in [0, 1]"),
        ({"colour": "red"}, "colour = 'red': 'red' must be a level in [0, 1]"),
        ({"colour": 1.0, "image": "x.png"}, "image = 'x.png': only one can be the patch"),
        ({"image": "no/such.png"}, "badnets.image = 'no/such.png': cannot be read: No such file"),
    ],
)
def test_patches_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    told = refusal(name="badnets", **changes)
    assert said in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["badnets", "blended"])
def test_files_that_are_no_trigger(name: str, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    whole = save_image(tmp_path / "whole.png", [[RED, BLUE]])
    torn = tmp_path / "torn.png"
    torn.write_bytes(Path(whole).read_bytes()[:-30])
    for path in (text, torn):
        said = f"attacks.{name}.image = {str(path)!r}: is not an image"
        assert said in refusal(name=name, image=str(path))
    clear = save_image(tmp_path / "clear.png", [[CLEAR, FAINT]])
    assert "is transparent all over" in refusal(name=name, image=clear)
    assert "cannot be read: is a folder; a plain" in refusal(name=name, image=str(tmp_path))


def test_a_wave_too_short_for_the_pixels() -> None:
    assert "attacks.sig.frequency = 14: " in refusal(name="sig", frequency=14)


def test_a_share_larger_than_the_class_names_the_largest() -> None:
    told = refusal(name="sig", share=0.2)
    assert "attacks.sig.share = 0.2: of 360 training rows is 72, but only" in told
    largest = re.search(r"largest share possible is (0\.\d+)", told)
    assert largest is not None
    experiment = small_experiment(
        attacks=[{"name": "sig", "share": float(largest[1])}], audits=[{"name": "accuracy"}]
    )
    assert make_plan(experiment, "cpu").cells
    labels = np.arange(400) % 10
    for seed in range(200):
        training, _ = validation_cut(400, 0.1, seed)
        choose({"share": float(largest[1]), "only": 0}, training, labels, seed)


def test_without_a_validation_cut_the_whole_class_may_be_poisoned() -> None:
    Sig(share=1 / 3, frequency=2).check(DATA, 90)
    BadNets(share=2 / 3).check(DATA, 90)
    for attack in (Sig(share=0.35, frequency=2), BadNets(share=0.7)):
        with pytest.raises(BadInput, match=r"share = 0\.\d+: of 90 training rows"):
            attack.check(DATA, 90)


def test_a_class_without_rows_has_no_share() -> None:
    empty = replace(DATA, train_per_class=(0, 45, 45))
    with pytest.raises(BadInput, match="no share fits"):
        Sig(frequency=2).check(empty, 90)


def test_everything_is_planned_without_torch(tmp_path: Path) -> None:
    path = save_image(tmp_path / "p.png", [[RED]])
    code = f"""
import sys
sys.modules["torch"] = None
from engine.spec.plan import make_plan
from engine.spec.presets import load
attacks = [{{"name": n}} for n in ("badnets", "blended", "sig")] + [
    {{"name": "badnets", "label": "p", "image": {path!r}}}]
experiment = load("badnets-mnist", seeds=[0])
from engine.spec.presets import to_data, validate
plan = make_plan(validate(to_data(experiment) | {{"attacks": attacks}}, "t"), "cpu")
assert len({{c.attack for c in plan.cells}}) == 4
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
