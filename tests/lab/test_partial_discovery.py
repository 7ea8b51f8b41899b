"""Partial discovery: the forget set is a share of the poison, and nobody sees the rest of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.lab.artifacts import load_tensors
from engine.lab.scene import Scene
from engine.spec.errors import BadInput
from engine.spec.plan import Plan, make_plan
from engine.spec.presets import validate
from tests.helpers import LocalContext, Run, run_plan, small_experiment
from tests.lab.test_stages import spy_on_rows

METHODS = [{"name": name} for name in ("none", "retrain", "retrain-known", "gd", "ga")]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Half of the poison is known."""
    experiment = small_experiment(forget={"share": 0.5}, methods=METHODS, budgets=[0.2])
    return run_plan(experiment, tmp_path_factory.mktemp("half"))


def keys(plan: Plan, kind: str) -> set[str]:
    return {stage.key for stage in plan.stages.values() if stage.kind == kind}


def poison_and_known(run: Run) -> tuple[Tensor, Tensor]:
    (craft,), (discover,) = run.stages("craft"), run.stages("discover")
    poisoned = load_tensors(run.root / craft.key / "poison.safetensors")["rows"]
    return poisoned, load_tensors(run.root / discover.key / "rows.safetensors")["known"]


def test_all_of_it_is_the_usual_plan() -> None:
    usual = make_plan(small_experiment(methods=METHODS), "cpu")
    told = make_plan(small_experiment(methods=METHODS, forget={"share": 1.0}), "cpu")
    assert usual.stages.keys() == told.stages.keys() and not keys(usual, "discover")
    of = {cell.method: cell.key for cell in usual.cells if cell.audit == "gaussian"}
    assert of["retrain-known"] == of["retrain"]


def test_a_share_leaves_poisoning_training_and_the_reference_alone(half: Run) -> None:
    usual = make_plan(small_experiment(methods=METHODS, budgets=[0.2]), "cpu")
    for kind in ("select", "craft"):
        assert keys(usual, kind) == keys(half.plan, kind)
    assert keys(usual, "train") < keys(half.plan, "train")  # and retrain-known
    assert not keys(usual, "unlearn") & keys(half.plan, "unlearn")


def test_known_rows_are_of_the_poison_and_larger_shares_hold_smaller_ones(tmp_path: Path) -> None:
    found = []
    for share in (0.1, 0.5, 0.9):
        experiment = small_experiment(forget={"share": share}, methods=METHODS[:1])
        poisoned, known = poison_and_known(run_plan(experiment, tmp_path))
        assert len(known) == round(share * len(poisoned))
        assert torch.isin(known, poisoned).all()
        found.append(set(known.tolist()))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    ("method", "sees_known", "sees_unknown"),
    [
        ("gd", False, True),
        ("ga", True, False),
        ("retrain-known", False, True),
        ("retrain", False, False),
    ],
)
def test_who_sees_what(
    half: Run,
    method: str,
    sees_known: bool,
    sees_unknown: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a method, poison that nobody found is retained data like any other."""
    from engine.lab.stages import RUN

    poisoned, known = poison_and_known(half)
    unknown = set(poisoned.tolist()) - set(known.tolist())
    stage = half.model_stage(method=method, audit="gaussian")
    seen = spy_on_rows(monkeypatch)
    context = LocalContext(half.root, stage)
    context.folder = half.root / f"again {method}"
    context.folder.mkdir(exist_ok=True)
    unwatched = {key: value for key, value in stage.config.items() if key != "attack"}
    RUN[stage.kind](unwatched, context)
    assert bool(seen & set(known.tolist())) == sees_known
    assert bool(seen & unknown) == sees_unknown


def test_audits_tell_known_rows_from_unknown_ones(half: Run) -> None:
    poisoned, known = poison_and_known(half)
    for method in ("none", "retrain", "retrain-known", "gd"):
        told = half.metrics(method=method, audit="gaussian")
        parts = told["mean_score_known"], told["mean_score_unknown"]
        share = len(known) / len(poisoned)
        assert told["mean_score"] == pytest.approx(share * parts[0] + (1 - share) * parts[1])
    assert "mean_score_known" not in half.metrics(method="none", audit="accuracy")


def test_retraining_without_the_known_poison_forgets_the_known_only(half: Run) -> None:
    told = half.metrics(method="retrain-known", audit="gaussian")
    none = half.metrics(method="none", audit="gaussian")
    assert told["mean_score_unknown"] > 0.5 * none["mean_score_unknown"] > 0.2
    assert abs(told["mean_score_known"]) < 4 / len(poison_and_known(half)[1]) ** 0.5


def test_the_subject_holds_all_of_the_poison(half: Run) -> None:
    (cell,) = half.cells(method="gd", audit="gaussian")
    stage = half.plan.stages[cell.key]
    scene = Scene(LocalContext(half.root, stage), stage.config)
    poisoned, known = poison_and_known(half)
    assert torch.equal(scene.subject(scene.load_model("model"), 0).forget.rows, poisoned)
    assert torch.equal(scene.forget_rows, known)
    part = scene.subject(scene.load_model("model"), 0).of_poison(torch.isin(poisoned, known))
    assert torch.equal(part.base.rows, known) and len(part.poison.extras["noise"]) == len(known)


def test_a_share_that_finds_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"forget.share = 0.001: finds none of 36 poisoned rows"):
        make_plan(small_experiment(forget={"share": 0.001}), "cpu", "mine.toml")
    for wrong in (0.0, 1.5, -1):
        with pytest.raises(BadInput, match=r"forget\.share"):
            small_experiment(forget={"share": wrong})


def test_shares_may_vary_in_one_preset() -> None:
    raw = json.loads(small_experiment(methods=METHODS).model_dump_json(exclude_unset=True))
    plan = make_plan(validate(raw | {"grid": {"forget.share": [0.25, 1.0]}}, "test"), "cpu")
    assert {cell.setting for cell in plan.cells} == {"forget.share=0.25", "forget.share=1.0"}
    assert len(keys(plan, "craft")) == 1
