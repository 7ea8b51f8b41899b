"""Appended poison: what retraining sees, the box, the residual, the bound and the implicit gradient."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from engine.lab.artifacts import load_tensors
from engine.lab.attacks._appended import wrong_labels
from engine.lab.attacks._ascent import Walk, ascend
from engine.lab.attacks._canceling import cancel, head_condition, model_condition, norm
from engine.lab.attacks._feasibility import smallest_share, strongest_pull
from engine.lab.attacks._heads import (
    Embedding,
    HeadProblem,
    curvature,
    harm_gradient,
    solve,
    with_ones,
)
from engine.lab.attacks.gradient_canceling import GradientCanceling
from engine.lab.context import Failed
from engine.lab.crafting import Loop, Tensors
from engine.lab.models.linear import Linear
from engine.lab.models.mlp import MLP
from engine.lab.randomness import stream
from engine.lab.scene import Scene
from engine.lab.state import MODEL
from engine.lab.training import fit
from engine.lab.views import Rows, TrainingSet
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment, Train
from engine.spec.plan import Stage, make_plan
from tests.helpers import LocalContext, Run, run_plan, run_stage, small_experiment
from tests.lab.toys import CLASSES, SHAPE, same, toy_pixels

TRAINED, SHARE, POISONS = 360, 0.05, 18
ATTACKS: list[dict[str, Any]] = [
    {"name": "appended-label-flip", "share": SHARE},
    {"name": "bilevel-head", "share": SHARE, "steps": 8},
    {"name": "gradient-canceling", "share": SHARE, "steps": 12, "target_steps": 8},
    {"name": "gradient-canceling", "share": SHARE, "steps": 4, "scope": "all", "label": "all"},
    {
        "name": "gradient-canceling",
        "share": SHARE,
        "steps": 4,
        "target": "gradpc",
        "radius": 0.1,
        "label": "pc",
    },
]


def experiment(**changes: Any) -> Experiment:
    """360 digits and a linear model; poison of 18 rows."""
    raw: dict[str, Any] = {
        "model": {"name": "linear"},
        "train": {"epochs": 4, "batch_size": 32, "lr": 0.02, "weight_decay": 0.01},
        "attacks": ATTACKS,
        "methods": [{"name": n} for n in ("none", "retrain", "gd")],
        "audits": [{"name": "accuracy"}],
    }
    return small_experiment(**raw | changes)


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    return run_plan(experiment(), workshop)


def crafts(run: Run) -> list[Stage]:
    return run.stages("craft")


def poison(run: Run, stage: Stage) -> tuple[dict[str, Tensor], dict[str, float]]:
    folder = run.root / stage.key
    told = json.loads((folder / "poison.json").read_text())
    return load_tensors(folder / "poison.safetensors"), told["facts"]


# --- added rows ----------------------------------------------------------------------------------


def test_rows_are_added_behind_the_last_with_wrong_labels_inside_the_box(run: Run) -> None:
    (select,) = run.stages("select")
    base = load_tensors(run.root / select.key / "rows.safetensors")["poisoned"]
    (data,) = run.stages("data")
    truth = load_tensors(run.root / data.key / "pixels.safetensors")["train_y"][base]
    assert len(crafts(run)) == len(ATTACKS)
    for stage in crafts(run):
        tensors, facts = poison(run, stage)
        assert tensors["rows"].tolist() == list(range(400, 400 + POISONS))
        assert facts["poisons"] == POISONS
        assert tensors["inputs"].min() >= 0 and tensors["inputs"].max() <= 1
        assert torch.equal(tensors["labels"], wrong_labels(truth, 10, seed=0))
        assert not (tensors["labels"] == truth).any()


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    labels = torch.full((9000,), 4)
    counts = torch.bincount(wrong_labels(labels, 10, seed=1), minlength=10)
    assert counts[4] == 0
    others = counts[counts > 0].double()
    assert len(others) == 9
    # chi-square with 8 degrees of freedom: above 26.1 once in a thousand
    assert float(((others - 1000) ** 2 / 1000).sum()) < 26.1


def test_training_sees_the_added_rows_and_retraining_the_original_ones(run: Run) -> None:
    for craft in crafts(run):
        (trained,) = [s for s in run.stages("train") if s.inputs.get("craft") == craft.key]
        scene = Scene(LocalContext(run.root, trained), trained.config)
        assert len(scene.training_rows) == TRAINED + POISONS
        assert scene.forget_rows.tolist() == list(range(400, 400 + POISONS))
        assert torch.equal(scene.retain_rows, scene.split["training"])
        taken = scene.data.take(scene.forget_rows)
        assert torch.equal(taken.inputs, poison(run, craft)[0]["inputs"])
    retrained = {run.model_stage(method="retrain", attack=c.attack).key for c in run.plan.cells}
    assert len(retrained) == 1, "attacks that only add rows share their retraining"
    (key,) = retrained
    assert run.plan.stages[key].inputs.keys() == {"data", "split"}


def test_retraining_is_the_clean_run_bit_for_bit_in_as_many_steps(run: Run, tmp_path: Path) -> None:
    """Against the training loop called by hand on the data set as it was before any attack."""
    stage = run.model_stage(method="retrain", attack="bilevel-head")
    _, context = run_stage(stage, tmp_path_of(run, tmp_path), always_due=True)
    assert context.steps[-1] == (4 * math.ceil(TRAINED / 32),) * 2
    clean = Scene(LocalContext(run.root, stage), stage.config)
    assert clean.poison is None and len(clean.training_rows) == TRAINED
    model = clean.initial_model(0, "paired")
    recipe = Train.model_validate(stage.config["train"])
    fit(model, clean.clean, clean.split["training"], recipe, stream(0, "paired"), context)
    assert same(model.state_dict(), load_tensors(run.root / stage.key / MODEL))
    poisoned = run.model_stage(method="none", attack="bilevel-head")
    _, context = run_stage(poisoned, run.root, always_due=True)
    assert context.steps[-1] == (4 * math.ceil((TRAINED + POISONS) / 32),) * 2


def tmp_path_of(run: Run, tmp_path: Path) -> Path:
    """A root in which a stage finds the run's inputs but is computed anew."""
    for key in run.plan.stages:
        if (run.root / key).exists():
            (tmp_path / key).symlink_to(run.root / key)
    stage = run.model_stage(method="retrain", attack="bilevel-head")
    (tmp_path / stage.key).unlink()
    return tmp_path


def test_crafting_again_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    root = tmp_path_of(run, tmp_path)
    flip, ascent, _, network, corrupted = crafts(run)  # `_` cancels as `corrupted` does
    for stage in (flip, ascent, network, corrupted):
        (root / stage.key).unlink()
        run_stage(stage, root)
        for name in ("poison.safetensors", "poison.json"):
            assert (root / stage.key / name).read_bytes() == (
                run.root / stage.key / name
            ).read_bytes()


def test_a_budget_counts_the_added_rows(run: Run) -> None:
    cell = run.cells(method="gd", attack="bilevel-head", budget=0.2)[0]
    told = json.loads((run.root / cell.cost_keys[-1] / "state.json").read_text())["counters"]
    rows = TRAINED + POISONS
    assert 0.2 * 4 - 64 / rows < told["spent"] / rows <= 0.2 * 4


# --- refusals and baselines ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ({"name": "bilevel-head", "share": 0.001}, "poisons none of 360 training rows; .* 0.0028"),
        ({"name": "bilevel-head", "share": 0.0}, "share"),
        ({"name": "gradient-canceling", "share": 1.5}, "share"),
        ({"name": "gradient-canceling", "radius": 1.0}, 'radius = 1.0: only for target = "gradpc"'),
        ({"name": "gradient-canceling", "target": "gradpc", "amplitude": 1.0}, "reachable"),
        ({"name": "gradient-canceling", "amplitude": 0}, "amplitude"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(attack: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_plan(experiment(attacks=[attack]), "cpu")


def test_more_poison_than_rows_may_be_added() -> None:
    make_plan(experiment(attacks=[{"name": "bilevel-head", "share": 1.0}]), "cpu")


def test_the_label_flip_baseline_is_always_there() -> None:
    attack = {"name": "gradient-canceling", "grid": {"share": [0.05, 0.1]}}
    plan = make_plan(experiment(attacks=[attack]), "cpu")
    flips = {c.attack: [] for c in plan.cells if c.attack.startswith("appended-label-flip")}
    for cell in plan.cells:
        flips.setdefault(cell.attack, []).append(cell.role)
    assert sorted(a for a in flips if a.startswith("app")) == [
        "appended-label-flip[share=0.05]", "appended-label-flip[share=0.1]",
    ]  # fmt: skip
    assert set(flips["appended-label-flip[share=0.1]"]) == {"none", "retrain"}
    listed = make_plan(experiment(), "cpu")
    names = {c.attack for c in listed.cells}
    assert names & {"appended-label-flip", "appended-label-flip[share=0.05]"} == {
        "appended-label-flip"
    }, "one that is listed is not added again"
    assert "unlearn" in {c.role for c in listed.cells if c.attack == "appended-label-flip"}


def test_without_weight_decay_there_is_no_optimum_to_move(workshop: Path) -> None:
    bare = {"epochs": 1, "batch_size": 64, "weight_decay": 0}
    with pytest.raises(Failed, match=r"weight_decay = 0"):
        run_plan(experiment(train=bare, attacks=[ATTACKS[1]]), workshop)


# --- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_strongest_pull_is_the_maximum_over_logits(classes: int) -> None:
    """W₀((K - 1)/e), against a fine search; two classes: .2785, ten: 1.101."""
    gap = torch.linspace(0, 12, 400_001, dtype=torch.float64)
    pull = gap * (classes - 1) / (gap.exp() + classes - 1)
    assert strongest_pull(classes) == pytest.approx(float(pull.max()), abs=1e-9)
    known = {2: 0.2785, 10: 1.101, 100: 2.629}
    if classes in known:
        assert strongest_pull(classes) == pytest.approx(known[classes], abs=5e-4)
    logits = torch.randn(20_000, classes, dtype=torch.float64) * 4
    pulls = logits[:, 0] - (logits.softmax(1) * logits).sum(1)
    assert float(pulls.max()) <= strongest_pull(classes) + 1e-12


def test_poison_at_the_bound_cancels_along_the_weights() -> None:
    """With every poisoned row at its strongest, the condition along W holds at the bound exactly."""
    alignment, penalty, classes = 0.04, 0.01, 10
    share = smallest_share(alignment, penalty, classes)
    assert alignment - share * strongest_pull(classes) + penalty * (1 + share) == pytest.approx(0)
    assert smallest_share(-0.02, 0.01, classes) == 0
    assert smallest_share(0.0, 2.0, classes) == math.inf


def test_an_infeasible_target_is_refused_with_the_smallest_share(workshop: Path) -> None:
    attack = {"name": "gradient-canceling", "target": "gradpc", "radius": 40.0, "share": 0.05}
    with pytest.raises(Failed, match=r"0.05: no poison .* (at least [\d.e+]+ is|no share)"):
        run_plan(experiment(attacks=[attack]), workshop)
    tried = run_plan(experiment(attacks=[attack | {"infeasible": "try", "steps": 2}]), workshop)
    _, facts = poison(tried, crafts(tried)[0])
    assert facts.get("smallest_share", math.inf) > 0.05 and facts["residual"] > 0.5


# --- cancelling ----------------------------------------------------------------------------------


def test_the_residual_falls_and_the_facts_say_so(run: Run) -> None:
    for stage in crafts(run)[2:]:
        _, facts = poison(run, stage)
        assert 0 <= facts["residual"] < facts["residual_start"]
        if stage.config["attack"]["infeasible"] == "refuse":
            assert facts["smallest_share"] <= SHARE
        assert 0 <= facts["target_accuracy"] <= 1
    _, reachable = poison(run, crafts(run)[2])
    assert reachable["exact_poisoned_accuracy"] < reachable["exact_flipped_accuracy"]


def toy_side(dtype: torch.dtype = torch.float64) -> tuple[HeadProblem, Embedding]:
    """48 rows of 36 pixels; the head is a linear model on them, the poison starts as rows 0 … 5."""
    pixels, labels = toy_pixels()
    torch.manual_seed(0)
    net = Linear().build(SHAPE, CLASSES, [0.4], [0.3])
    embed = Embedding(net, CLASSES)
    features, _ = embed.of(Rows(TrainingSet(pixels, labels), torch.arange(48)).batches())
    return HeadProblem(features.to(dtype), labels, CLASSES, ridge=0.05), embed


def converged(problem: HeadProblem, poison: Tensor, labels: Tensor) -> Tensor:
    start = problem.features.new_zeros(CLASSES, problem.features.shape[1])
    return problem.optimum(poison, labels, start, steps=30, solves=400)


def test_the_optimum_is_where_the_gradient_vanishes() -> None:
    problem, _ = toy_side()
    poison, labels = problem.features[:6], (problem.labels[:6] + 1) % CLASSES
    weights = converged(problem, poison, labels)
    assert norm([problem.objective(poison, labels).gradient(weights)]) < 1e-7
    condition = head_condition(problem, lambda x: x, weights, 6)
    assert norm(condition.gap(poison, labels)) < 1e-7, "it is what cancelling aims for"
    assert condition.whole > 1e-3


def test_solving_undoes_the_curvature() -> None:
    problem, _ = toy_side()
    objective = problem.objective(problem.features[:0], problem.labels[:0])
    weights = torch.randn(CLASSES, 37, dtype=torch.float64)
    product = curvature(objective, weights)
    direction = torch.randn_like(weights)
    dense = objective.hessian(weights) @ direction.flatten()
    assert torch.allclose(product(direction).flatten(), dense)
    found = solve(product, product(direction), 1000, tolerance=1e-12)
    assert torch.allclose(found, direction, atol=1e-6)


def test_the_implicit_gradient_is_that_of_the_optimum() -> None:
    """∂ harm(optimum(poison)) / ∂ poison against central differences, in float64."""
    problem, _ = toy_side()
    labels = (problem.labels[:3] + 1) % CLASSES
    inputs = problem.features[:3, :-1].clone()

    def embed(x: Tensor) -> Tensor:
        return with_ones(x, bias=True)

    def harm(x: Tensor) -> float:
        return problem.harm(converged(problem, embed(x), labels))[0]

    weights = converged(problem, embed(inputs), labels)
    slope = problem.harm(weights)[1]
    product = curvature(problem.objective(embed(inputs), labels), weights)
    adjoint = solve(product, slope, 1000, tolerance=1e-12)
    found = harm_gradient(problem, embed, inputs, labels, weights, adjoint)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        direction = torch.randn(inputs.shape, generator=generator, dtype=torch.float64)
        step = 1e-4
        difference = (harm(inputs + step * direction) - harm(inputs - step * direction)) / (
            2 * step
        )
        assert float((found * direction).sum()) == pytest.approx(difference, rel=1e-4)


class Unheard(Loop):
    """A loop without an attack around it."""

    def __init__(self) -> None:
        pass

    def resume(self) -> tuple[int, Tensors]:
        return 0, {}

    def before(self, step: int, state: object) -> None:
        pass


def test_the_ascent_does_more_harm_than_its_start() -> None:
    problem, embed = toy_side(torch.float32)
    inputs = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = (problem.labels[:6] + 1) % CLASSES
    first = problem.harm(problem.optimum(embed(inputs), labels, embed.weights, 6, 60))[0]
    found = ascend(problem, embed, inputs, labels, 0.0, 1.0, embed.weights, 25, 0.1, Unheard())
    assert found.harm > first
    assert found.inputs.min() >= 0 and found.inputs.max() <= 1


def test_a_walk_stays_in_its_box_and_leaves_its_start_alone() -> None:
    start = torch.full((2, 5), 0.5)
    walk = Walk(start, 0.4, 0.0, 1.0, steps=9)
    for _ in range(9):
        walk.descend(torch.tensor([[1.0, -1, 0, 2, 5], [0, 0, 0, 0, 0]]))
    assert walk.inputs[0].tolist() == [0, 1, 0.5, 0, 0]
    assert torch.equal(walk.inputs[1], start[1]) and float(start.min()) == 0.5


def test_the_slope_is_the_gradient_of_the_squared_gap() -> None:
    """For the head and for a whole network, against autograd through everything at once."""
    pixels, truth = toy_pixels()
    clean = Rows(TrainingSet(pixels, truth), torch.arange(48))
    inputs = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 2, 0])
    torch.manual_seed(0)
    net = MLP(width=5).build(SHAPE, CLASSES, [0.4], [0.3])
    condition = model_condition(net, clean, len(labels), ridge=0.02)

    def squared(x: Tensor) -> Tensor:
        """½‖∇(mean cross-entropy over all 52 rows + ridge/2 ‖θ‖²)‖²"""
        every = torch.cat([clean.data.take(clean.rows).inputs, x])
        loss = cross_entropy(net(every), torch.cat([truth, labels]))
        weights = list(net.parameters())
        given = torch.autograd.grad(loss, weights, create_graph=True)
        parts = [(g + 0.02 * w).square().sum() for g, w in zip(given, weights, strict=True)]
        return torch.stack(parts).sum() / 2

    leaf = inputs.clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(squared(leaf), leaf)
    gap = condition.gap(inputs, labels)
    assert norm(gap) ** 2 / 2 == pytest.approx(float(squared(leaf).detach()), rel=1e-4)
    assert torch.allclose(condition.slope(inputs, labels, gap), wanted, atol=1e-7)


def test_the_heads_condition_is_the_networks_where_only_the_head_trains() -> None:
    pixels, truth = toy_pixels()
    clean = Rows(TrainingSet(pixels, truth), torch.arange(48))
    problem, embed = toy_side(torch.float32)
    inputs = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 2, 0])
    head = head_condition(problem, embed, embed.weights, 4)
    whole = model_condition(embed.model, clean, 4, problem.ridge)
    one, two = head.gap(inputs, labels), whole.gap(inputs, labels)
    assert torch.allclose(one[0], torch.cat([two[0], two[1][:, None]], dim=1), atol=1e-6)
    assert head.whole == pytest.approx(whole.whole, rel=1e-5)
    found = cancel(head, inputs, labels, 30, 0.1, Unheard())
    assert found.residual < found.start == pytest.approx(norm(one) / head.whole, rel=1e-6)
    assert found.inputs.min() >= 0 and found.inputs.max() <= 1


def test_a_gradpc_target_lies_on_its_radius(run: Run) -> None:
    """The epoch goes uphill further than the radius, so the projection decides."""
    craft = crafts(run)[4]
    assert craft.config["attack"]["target"] == "gradpc"
    scene = Scene(LocalContext(run.root, craft), craft.config)
    model = scene.load_model("surrogate-0")
    before = Embedding(model, 10).weights.clone()
    from engine.lab.attacks._side import AttackerSide
    from engine.lab.stages import craft_task

    side = AttackerSide(craft_task(craft.config, LocalContext(run.root, craft)))
    GradientCanceling(target="gradpc", radius=0.25)._corrupt(side)
    shift = side.embed.weights - before
    assert float(shift.norm()) == pytest.approx(0.25, rel=1e-4)
    clean = side.problem.objective(side.problem.features[:0], side.problem.labels[:0])
    assert clean.value(side.embed.weights) > clean.value(before)


def test_only_models_of_the_run_are_used(run: Run) -> None:
    """Surrogates are clean trainings of their own: no craft depends on what it poisons."""
    trained = {s.key: s for s in run.stages("train")}
    for craft in crafts(run):
        for role, key in craft.inputs.items():
            if role.startswith("surrogate"):
                assert "craft" not in trained[key].inputs
                assert (run.root / key / MODEL).exists()
