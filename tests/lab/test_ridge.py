"""Ridge regression in closed form: exact solutions, exact removal, an honest price, its own loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_tensors
from engine.lab.context import NotApplicable
from engine.lab.losses import loss_of, slope
from engine.lab.methods._head import head_weights
from engine.lab.methods.newton_head import NewtonHead
from engine.lab.models.ridge import Ridge
from engine.lab.solving import solve
from engine.lab.state import MODEL
from engine.lab.unlearning import UnlearnTask
from engine.lab.views import Rows
from engine.spec.closed_form import ClosedForm
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.experiment import Train
from engine.spec.plan import make_plan
from engine.spec.registry import registered
from tests.helpers import LocalContext, Run, run_plan, small_experiment
from tests.lab.methods.tasks import RETAINED, ended
from tests.lab.toys import CLASSES, POISONED, ROWS, toy_set

HOW = ClosedForm(penalty=0.7)
EVERY = torch.arange(ROWS)
INPUTS = 36
NEEDS_PROBABILITIES = {"fisher", "scrub", "bad-teacher"}
UNLEARN = sorted(
    name
    for name, cls in registered("method").items()
    if cls.role == "unlearn" and name not in NEEDS_PROBABILITIES  # type: ignore[attr-defined]
)

# Where the default finds nothing to dampen in so small a model.
FITTING: dict[str, dict[str, Any]] = {"ssd": {"selection": 1.0}}


def untrained(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Ridge().build((1, 6, 6), CLASSES, [0.4], [0.2])


def solved(rows: Tensor, ctx: LocalContext, seed: int = 0) -> nn.Module:
    model = untrained(seed)
    solve(model, Rows(toy_set(), rows), HOW, ctx)
    return model


def by_numpy(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """[d + 1, K]: the least squares of rows and of √penalty times the weights, biases left out."""
    n, d = inputs.shape
    system = np.block([[inputs, np.ones((n, 1))], [np.sqrt(penalty) * np.eye(d), np.zeros((d, 1))]])
    right = np.concatenate([targets, np.zeros((d, targets.shape[1]))])
    found: np.ndarray = np.linalg.lstsq(system, right, rcond=None)[0]
    return found


def table(**changes: Any) -> Any:
    """Ridge regression on two classes of 30 numbers a row."""
    raw: dict[str, Any] = {
        "data": {"name": "bundled-table", "table": "breast-cancer"},
        "model": {"name": "ridge", "penalty": 2.0},
        "train": {},
        "budgets": [0.5, 1.0],
        "methods": [
            {"name": name} | FITTING.get(name, {})
            for name in ("none", "retrain", "retrain-fresh", *UNLEARN)
        ],
    }
    return small_experiment(**raw | changes)


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    return run_plan(table(), workshop)


def model_of(run: Run, **wanted: Any) -> dict[str, Tensor]:
    stage = run.model_stage(audit="accuracy", **wanted)
    return load_tensors(run.root / stage.key / MODEL)


@pytest.mark.parametrize("kind", ["cross-entropy", "squared-error"])
def test_a_slope_is_the_gradient_of_its_loss(kind: Any) -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2])
    (expected,) = torch.autograd.grad(loss_of(kind, logits, labels, "sum"), logits)
    torch.testing.assert_close(slope(kind, logits, labels), expected)
    mean, total = loss_of(kind, logits, labels), loss_of(kind, logits, labels, "sum")
    torch.testing.assert_close(mean * 5, total)


def test_it_is_the_least_squares_solution(ctx: LocalContext) -> None:
    batch = toy_set().take(EVERY)
    inputs = ((batch.inputs.flatten(1) - 0.4) / 0.2).double().numpy()
    expected = by_numpy(inputs, np.eye(CLASSES)[batch.labels.numpy()], HOW.penalty)
    found = head_weights(solved(EVERY, ctx)[-1])  # type: ignore[index]
    np.testing.assert_allclose(found.numpy(), expected.T, atol=1e-5)


def test_nothing_is_random(ctx: LocalContext) -> None:
    one, two = solved(EVERY, ctx, seed=0), solved(EVERY, ctx, seed=1)
    assert torch.equal(head_weights(one[-1]), head_weights(two[-1]))  # type: ignore[index]
    other = head_weights(solved(EVERY.flip(0), ctx)[-1])  # type: ignore[index]
    torch.testing.assert_close(other, head_weights(one[-1]), rtol=0, atol=1e-6)  # type: ignore[index]


def unlearning(ctx: LocalContext) -> UnlearnTask:
    recipe = Train(precision="fp32", channels_last=False)
    return UnlearnTask(
        solved(EVERY, ctx), toy_set(), RETAINED, POISONED, recipe, 3, "cpu", CLASSES,
        fresh=lambda: untrained(99), closed_form=HOW,
    )  # fmt: skip


def test_methods_descend_the_loss_it_minimises(ctx: LocalContext) -> None:
    """At the solution the loss of all rows pulls against the penalty, and at the bias not at all."""
    task = unlearning(ctx)
    head = task.model[-1]  # type: ignore[index]
    loss = task.loss(toy_set().take(EVERY)) * ROWS
    weight, bias = torch.autograd.grad(loss, [head.weight, head.bias])
    torch.testing.assert_close(weight, -HOW.penalty * head.weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(bias, torch.zeros_like(bias), rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_newton_removal_is_retraining(steps: int, ctx: LocalContext) -> None:
    whole, without = (head_weights(solved(r, ctx)[-1]) for r in (EVERY, RETAINED))  # type: ignore[index]
    whole_price = HOW.passes(ROWS, INPUTS, CLASSES)
    task = ended(NewtonHead(newton_steps=steps), unlearning(ctx), ctx, budget=whole_price / ROWS)
    found = head_weights(task.model[-1])  # type: ignore[index]
    assert (whole - without).abs().max() > 1e-2
    torch.testing.assert_close(found, without, rtol=0, atol=1e-6)
    assert task.meter.spent == pytest.approx(whole_price)


def test_a_smaller_budget_gets_a_sample_and_one_too_small_nothing(ctx: LocalContext) -> None:
    price, solving = (f(INPUTS, CLASSES) for f in (HOW.row_price, HOW.solving_price))
    small = ended(NewtonHead(), unlearning(ctx), ctx, budget=(20.5 * price + solving) / ROWS)
    assert int(small.state["rows/forget"]) == 5 and int(small.state["rows/retain"]) == 15
    assert small.meter.spent == pytest.approx(20 * price + solving)
    with pytest.raises(NotApplicable, match="TEE for its first step"):
        ended(NewtonHead(), unlearning(ctx), ctx, budget=0.5 * solving / ROWS)


def test_its_price_is_its_multiplications() -> None:
    """d + 1 squared and (d + 1) K a row, in units of a training step's 3 d K."""
    assert HOW.row_price(2, 3) == (9 + 9) / 18
    assert HOW.solving_price(2, 3) == (27 / 6 + 27) / 18
    assert HOW.passes(10, 2, 3) == 10 + 31.5 / 18


def test_budgets_are_shares_of_what_solving_costs(run: Run) -> None:
    trained = run.model_stage(method="none", audit="accuracy")
    assert run.tee[trained.key] == pytest.approx(trained.tee)
    assert trained.tee == pytest.approx(31 * 33 / 180, rel=0.1)
    for cell in run.cells(audit="accuracy"):
        if cell.budget is not None:
            stage = run.plan.stages[run.plan.stages[cell.key].inputs["model"]]
            assert stage.config["budget_tee"] == pytest.approx(cell.budget * trained.tee)
            assert run.tee[stage.key] <= stage.config["budget_tee"] + 1e-9
    retrained = run.model_stage(method="retrain", audit="accuracy")
    assert run.tee[retrained.key] == pytest.approx(0.9 * trained.tee, rel=0.01)


def test_all_methods_run_and_newton_removal_alone_is_exact(run: Run) -> None:
    assert not run.na
    exact = model_of(run, method="retrain")
    fresh = model_of(run, method="retrain-fresh")
    assert all(torch.equal(exact[name], fresh[name]) for name in exact)
    start = model_of(run, method="none")
    for method in UNLEARN:
        found = model_of(run, method=method, budget=1.0)
        gap = max(float((found[name] - exact[name]).abs().max()) for name in exact)
        assert (gap < 1e-5) == (method == "newton-head"), method
        assert not all(torch.equal(found[name], start[name]) for name in start), method


@pytest.mark.parametrize(("method", "excluded"), [("none", False), ("retrain", True)])
def test_the_score_is_the_closed_form_of_the_theory(run: Run, method: str, excluded: bool) -> None:
    """Two classes: the outputs' difference is ridge on ±1 labels, so s = y ⟨θ, ξ⟩ / (ε ‖θ‖), with
    θ solved for here, and ξ in the units the model sees (a column's noise over its std)."""
    (data,), (split,), (craft,) = (run.stages(kind) for kind in ("data", "split", "craft"))
    pixels = load_tensors(run.root / data.key / "pixels.safetensors")
    rows = load_tensors(run.root / split.key / "rows.safetensors")["training"]
    poison = load_tensors(run.root / craft.key / "poison.safetensors")
    x = pixels["train_x"].flatten(1).double()
    y = 2.0 * pixels["train_y"].double().numpy() - 1
    x[poison["rows"]] = poison["inputs"].flatten(1).double()
    if excluded:
        rows = rows[~torch.isin(rows, poison["rows"])]
    facts = json.loads((run.root / data.key / "data.json").read_text())
    scaled = (x.numpy() - np.array(facts["mean"])) / np.array(facts["std"])
    theta = by_numpy(scaled[rows], y[rows][:, None], 2.0)[:-1, 0] / np.array(facts["std"])
    noise = poison["noise"].flatten(1).double().numpy()
    expected = y[poison["rows"]] * (noise @ theta) / (0.31 * np.linalg.norm(theta))
    (cell,) = run.cells(method=method, audit="gaussian")
    found = load_tensors(run.root / cell.key / "scores.safetensors")["scores"].double().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"epochs": 5}}, r"train.epochs = 5: model 'ridge' is solved for in closed form"),
        ({"train": {"weight_decay": 0.1}}, r"train.weight_decay = 0.1: .*model.penalty is its"),
        (
            {"methods": [{"name": "none"}, {"name": "scrub"}]},
            r"method 'scrub' needs a model trained",
        ),
        ({"attacks": [{"name": "bilevel-head"}]}, r"attack 'bilevel-head' needs a model trained"),
        (
            {"attacks": [{"name": "gradient-matching"}]},
            r"attack 'gradient-matching' needs a model trained",
        ),
        (
            {"audits": [{"name": "accuracy"}, {"name": "relearn-time"}]},
            r"audit 'relearn-time' needs a model trained by cross-entropy",
        ),
    ],
)
def test_what_has_no_meaning_for_it_is_refused(changes: dict[str, Any], told: str) -> None:
    plain = {"methods": [{"name": "none"}], "audits": [{"name": "accuracy"}]}
    with pytest.raises(BadInput, match=told):
        make_plan(table(**plain | changes), "cpu")


def test_too_many_inputs_are_refused() -> None:
    info = DataInfo("", 9, 9, (3, 64, 64), ("a", "b"), (5, 4))
    with pytest.raises(BadInput, match=r"up to 5,000 inputs; the data have 12,288"):
        Ridge().check(info)
    with pytest.raises(ValueError, match="greater than 0"):
        Ridge(penalty=0)
