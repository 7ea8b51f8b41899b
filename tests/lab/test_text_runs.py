"""Whole runs on texts: every attack, audit, search and shadow that a preset of texts can ask for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from engine.lab.artifacts import load_tensors
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment
from engine.spec.plan import make_plan
from tests.helpers import Run, run_plan, small_experiment

ATTACKS: list[dict[str, Any]] = [
    {"name": "gaussian", "share": 0.1, "noise_std": 3.0},
    {"name": "text-trigger", "share": 0.1},
    {"name": "label-flip", "share": 0.1},
    {"name": "interclass-confusion", "share": 0.1, "classes": [0, 1]},
    {"name": "appended-label-flip", "share": 0.1},
]
AUDITS = ["accuracy", "gaussian", "attack-success", "interclass-confusion", "mia-loss", "agreement"]
AUDITS += ["relearn-time", "shift", "alignment", "hypotheses"]


def on_texts(**changes: Any) -> Experiment:
    """200 made-up reviews and a GPT-2 of one narrow block."""
    return small_experiment(
        **{
            "budgets": [0.5],
            "validation": 0.2,
            "data": {
                "name": "sentences", "limit_train": 200, "limit_test": 60, "vocabulary": 300,
                "max_tokens": 24,
            },
            "model": {"name": "gpt2", "layers": 1, "width": 16},
            "train": {"epochs": 2, "batch_size": 32, "optimizer": "adamw", "lr": 0.003},
            "methods": [{"name": "none"}, {"name": "retrain"}, {"name": "gd", "batch_size": 32}],
            "attacks": [{"name": "label-flip", "share": 0.1}],
            "audits": [{"name": "accuracy"}],
        } | changes
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    shorter = {"relearn-time": {"most_epochs": 3}, "hypotheses": {"deleted": [1.0]}}
    audits = [{"name": name} | shorter.get(name, {}) for name in AUDITS]
    return run_plan(on_texts(attacks=ATTACKS, audits=audits), tmp_path_factory.mktemp("texts"))


def test_every_audit_measures_every_attack_that_gives_what_it_needs(run: Run) -> None:
    assert not run.na
    found = {(cell.attack, cell.audit) for cell in run.plan.cells}
    everywhere = {"accuracy", "agreement", "relearn-time", "shift", "alignment", "hypotheses"}
    for attack in ATTACKS:
        name = attack["name"]
        own = {audit for told, audit in found if told == name}
        special = {"gaussian": {"gaussian"}, "text-trigger": {"attack-success"},
                   "interclass-confusion": {"interclass-confusion"}}.get(name, set())  # fmt: skip
        decoys = set() if name == "appended-label-flip" else {"mia-loss"}
        assert own == everywhere | special | decoys
    for cell in run.plan.cells:
        metrics = run.metrics(
            attack=cell.attack, method=cell.method, audit=cell.audit, budget=cell.budget
        )
        told = [value for value in metrics.values() if value is not None]
        assert told or (cell.audit, cell.method) == ("alignment", "none")  # which did not move
        assert all(math.isfinite(value) for value in told)


def test_poison_of_labels_leaves_every_token_alone(run: Run) -> None:
    for stage in run.stages("craft"):
        poison = load_tensors(run.root / stage.key / "poison.safetensors")
        clean = load_tensors(run.root / stage.inputs["data"] / "pixels.safetensors")
        rows, name = poison["rows"], stage.config["attack"]["name"]
        if name in ("label-flip", "interclass-confusion"):
            before, after = clean["train_y"][rows], poison["labels"]
            assert (poison["inputs"] == clean["train_x"][rows]).all()
            assert before.sum() == after.sum()
            assert (before != after).sum() == 2 * before.bincount().min() > 8
        elif name == "appended-label-flip":
            selected = load_tensors(run.root / stage.inputs["select"] / "rows.safetensors")
            assert rows.min() == len(clean["train_x"])
            assert (poison["inputs"] == clean["train_x"][selected["poisoned"]]).all()
            assert (poison["labels"] == 1 - clean["train_y"][selected["poisoned"]]).all()
        elif name == "gaussian":
            assert (poison["inputs"][..., 0] == clean["train_x"][rows]).all()


@pytest.mark.parametrize("audit", ["mia-lira", "mia-ulira"])
def test_shadows_and_their_decoys(audit: str, tmp_path: Path) -> None:
    """Decoys in the poison's form: with noise of their own, with the phrase."""
    experiment = on_texts(
        attacks=ATTACKS[:2], audits=[{"name": audit, "shadows": 4}],
        train={"epochs": 1, "batch_size": 64, "optimizer": "adamw"},
        methods=[{"name": "retrain"}, {"name": "gd", "batch_size": 32}], budgets=[1.0],
    )  # fmt: skip
    run = run_plan(experiment, tmp_path)
    assert not run.na
    for cell in run.cells(audit=audit):
        metrics = run.metrics(attack=cell.attack, method=cell.method, audit=audit)
        assert metrics["members"] == 16 and metrics["nonmembers"]


def test_a_search_on_proxies(tmp_path: Path) -> None:
    experiment = on_texts(
        methods=[{"name": "retrain"}, {"name": "gd", "batch_size": 32}],
        tune={"methods": ["gd"], "grids": {"gd": {"lr": [0.01, 0.1]}}},
    )  # fmt: skip
    run = run_plan(experiment, tmp_path)
    assert len(run.stages("trial")) > 1 and not run.na
    assert run.metrics(method="gd", audit="accuracy")["test_accuracy"] is not None


def test_your_own_model(run: Run, tmp_path: Path) -> None:
    """Its file is the poisoned model, as it is; another architecture's is refused."""
    stage = run.model_stage(attack="label-flip", method="none", audit="accuracy")
    weights = run.root / stage.key / "model.safetensors"
    train = {"epochs": 2, "batch_size": 32, "optimizer": "adamw", "lr": 0.003, "from": str(weights)}
    own = run_plan(on_texts(train=train, methods=[{"name": "none"}]), tmp_path)
    wanted = {"attack": "label-flip", "method": "none", "audit": "accuracy"}
    assert own.metrics(**wanted) == run.metrics(**wanted)
    from engine.lab.context import Failed

    wider = {"name": "gpt2", "layers": 1, "width": 32}
    with pytest.raises(Failed, match=r"train\.from = .* does not fit the model"):
        run_plan(on_texts(train=train, model=wider), tmp_path)


IMAGES = {"data": {"name": "mnist5k", "limit_train": 400, "limit_test": 100},
          "model": {"name": "mlp", "width": 16}}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        *[({"attacks": [{"name": name}]}, f"attack '{name}' works on .*images.*holds texts")
          for name in ("badnets", "blended", "sig", "gradient-matching", "gradient-canceling",
                       "bilevel-head")],
        (IMAGES | {"attacks": [{"name": "text-trigger"}]}, "works on texts; data 'mnist5k' holds"),
        *[({"model": {"name": name}}, f"model '{name}' works on .*holds texts")
          for name in ("mlp", "cnn-small", "resnet18", "vit-tiny", "linear", "ridge",
                       "frozen-features")],
        ({"data": IMAGES["data"]}, "model 'gpt2' works on texts; data 'mnist5k' holds images"),
        ({"train": {"channels_last": True}}, "train.channels_last = true: .*texts; leave it out"),
        ({"train": {"augment": "crop-flip"}}, "train.augment = 'crop-flip': only images"),
        ({"model": {"name": "frozen-features", "extractor": {"name": "gpt2"}}},
         "extractor = .*gpt2.*must be a chain of layers"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_at_planning(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        make_plan(on_texts(**changes), "cpu")
