"""The Gaussian score: exact where theory is exact, calibrated where it promises to be."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.lab.artifacts import load_json, load_tensors
from engine.lab.audits.gaussian import Gaussian, gaussian_scores, glimpse, margin_gradients
from engine.lab.models._layers import Normalise
from engine.lab.scene import Scene
from engine.lab.stages import run_audit
from engine.lab.subject import Subject
from engine.lab.views import Rows, TrainingSet
from tests.helpers import LocalContext, Run
from tests.lab.toys import CLASSES, SHAPE, toy_model, toy_set, toy_subject


class DoubleSet(TrainingSet):
    """Inputs in float64, for a float64 model."""

    def _inputs(self, rows: Tensor, width: int | None = None) -> tuple[Tensor, Tensor | None]:
        inputs, poisoned = super()._inputs(rows, width)
        return inputs.double(), poisoned


def doubled(subject: Subject) -> Subject:
    """The same poisoned rows' clean inputs, in float64."""
    clean = subject.base.data
    return replace(subject, base=Rows(DoubleSet(clean.pixels, clean.labels), subject.base.rows))


def subject_of(run: Run, tmp: Path, **cell: object) -> Subject:
    """What the gaussian audit of one cell looked at."""
    (found,) = run.cells(audit="gaussian", **cell)
    stage = run.plan.stages[found.key]
    context = LocalContext(run.root, replace(stage, key=str(tmp)))
    scene = Scene(context, stage.config)
    return scene.subject(scene.load_model("model").eval(), stage.config["seed"])


@pytest.fixture(scope="module")
def trained(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(small_run, tmp_path_factory.mktemp("audit"), method="none")


@pytest.fixture(scope="module")
def retrained(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(small_run, tmp_path_factory.mktemp("audit"), method="retrain")


def with_noise(subject: Subject, noise: Tensor, seed: int | None = None) -> Subject:
    poison = replace(subject.poison, extras={"noise": noise})
    return replace(subject, poison=poison, seed=subject.seed if seed is None else seed)


def with_model(subject: Subject, model: nn.Module) -> Subject:
    return replace(subject, model=model.eval())


def fresh_noise(subject: Subject, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(10_000 + seed)
    noise = torch.randn(subject.poison.inputs.shape, generator=generator)
    return noise * subject.poison.facts["noise_std"]


def test_a_linear_models_score_is_its_closed_form() -> None:
    torch.manual_seed(0)
    std = 0.25
    linear = nn.Linear(math.prod(SHAPE), CLASSES)
    model = nn.Sequential(Normalise([0.4], [std]), nn.Flatten(), linear).double()
    subject = toy_subject(model, toy_set())
    subject = doubled(subject)
    scores, unit = gaussian_scores(subject)
    inputs, labels = next(subject.base.batches())
    noise = subject.poison.extras["noise"].flatten(1).double()
    weight = linear.weight.detach()
    with torch.no_grad():
        logits = model(inputs)
    for row, label in enumerate(labels.tolist()):
        others = [k for k in range(CLASSES) if k != label]
        pull = torch.softmax(logits[row, others], 0) @ weight[others]
        gradient = (pull - weight[label]) / std
        direction = gradient / gradient.norm()
        expected = -(direction @ noise[row]) / subject.poison.facts["noise_std"]
        assert torch.allclose(unit[row], direction, rtol=0, atol=1e-12)
        assert abs(float(scores[row] - expected)) < 1e-12
    assert scores.dtype == torch.float64


def test_one_backward_of_a_batch_equals_one_of_each_row() -> None:
    model = toy_model().double().eval()
    inputs, labels = next(Rows(toy_set(), torch.arange(20)).batches())
    together = margin_gradients(model, inputs.double(), labels)
    for row in range(20):
        alone = margin_gradients(model, inputs[row : row + 1].double(), labels[row : row + 1])
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-12)


def test_the_margins_gradient_points_where_the_losss_does() -> None:
    model = toy_model(width=64).double().eval()
    inputs, labels = next(Rows(toy_set(), torch.arange(20)).batches())
    inputs = inputs.double().requires_grad_(True)
    loss = cross_entropy(model(inputs), labels, reduction="sum")
    (of_loss,) = torch.autograd.grad(loss, inputs)
    of_margin = margin_gradients(model, inputs, labels)
    cosine = torch.cosine_similarity(of_loss.flatten(1), of_margin.flatten(1))
    assert torch.allclose(cosine, torch.ones_like(cosine), rtol=0, atol=1e-12)


def test_the_audit_leaves_no_gradients_in_the_model(trained: Subject) -> None:
    Gaussian(null_draws=50).measure(trained)
    assert all(p.grad is None for p in trained.model.parameters())
    assert not trained.model.training


def test_a_saturated_model_keeps_its_score(trained: Subject) -> None:
    """Where the cross-entropy's gradient is exactly zero in float32, the margin's is not."""
    loud = copy.deepcopy(trained.model)
    with torch.no_grad():
        for parameter in loud[-1].parameters():
            parameter.mul_(30)
    quiet_z = Gaussian().measure(trained).metrics["z"]
    loud_metrics = Gaussian().measure(with_model(trained, loud)).metrics
    assert quiet_z is not None and loud_metrics["z"] is not None
    assert loud_metrics["zero_gradients"] == 0
    assert abs(loud_metrics["z"] - quiet_z) < 0.1 * abs(quiet_z)

    inputs, labels = next(trained.base.batches())
    inputs.requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(loud(inputs), labels, reduction="sum"), inputs)
    assert (gradient.flatten(1).norm(dim=1) == 0).any()


def test_training_on_the_noise_makes_the_score_positive(
    trained: Subject, retrained: Subject
) -> None:
    before, after = (Gaussian().measure(subject).metrics for subject in (trained, retrained))
    assert before["z"] > 4
    assert before["p_two_sided"] < 1e-4
    assert before["tpr_at_1pct_fpr"] > 0.05
    assert abs(after["z"]) < 4


def test_a_model_that_never_saw_the_noise_scores_a_standard_normal(retrained: Subject) -> None:
    metrics = Gaussian().measure(retrained).metrics
    count = metrics["count"]
    assert abs(metrics["mean_score"]) < 4 / count**0.5
    # (count - 1) s² is chi-square with count - 1 degrees of freedom.
    assert abs(metrics["std_score"] ** 2 - 1) < 4 * (2 / (count - 1)) ** 0.5
    assert metrics["ks_p"] > 1e-4
    assert metrics["min_detectable"] == pytest.approx(2.8 / count**0.5)


def test_the_sign_turns_with_the_noise(trained: Subject) -> None:
    turned = with_noise(trained, -trained.poison.extras["noise"])
    assert torch.equal(gaussian_scores(turned)[0], -gaussian_scores(trained)[0])
    one, other = (Gaussian(null_draws=50).measure(s).metrics for s in (trained, turned))
    assert one["z"] == -other["z"]
    assert one["p_two_sided"] == other["p_two_sided"]


class Scaled(nn.Module):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, inputs: Tensor) -> Tensor:
        return self.factor * self.model(inputs)


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_the_score_ignores_the_scale_of_a_two_class_models_logits(factor: float) -> None:
    """With two classes the margin is the difference of two logits: its direction has no scale."""
    torch.manual_seed(0)
    data = toy_set()
    data.labels.remainder_(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), 4), nn.ReLU(), nn.Linear(4, 2))
    subject = toy_subject(model.double(), data)
    subject = doubled(subject)
    scaled = with_model(subject, Scaled(model, factor))
    assert torch.allclose(
        gaussian_scores(subject)[0], gaussian_scores(scaled)[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_score_ignores_the_scale_of_the_loss(
    trained: Subject, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = gaussian_scores(trained)
    monkeypatch.setattr(
        "engine.lab.audits.gaussian.margin_gradients",
        lambda *args: factor * margin_gradients(*args),
    )
    assert torch.allclose(gaussian_scores(trained)[0], plain, rtol=0, atol=1e-6)


def test_zero_gradients_are_counted_and_not_scored() -> None:
    class Half(nn.Module):
        """Deaf to dark rows, whose gradient is then exactly zero."""

        def __init__(self, deaf_below: float) -> None:
            super().__init__()
            self.inner, self.deaf_below = toy_model(), deaf_below

        def forward(self, inputs: Tensor) -> Tensor:
            heard = inputs.flatten(1).mean(1, keepdim=True) > self.deaf_below
            return torch.where(heard, self.inner(inputs), torch.zeros(1, CLASSES))

    data = toy_set()
    subject = toy_subject(Half(0.4), data)
    inputs, _ = next(subject.base.batches())
    deaf = int((inputs.flatten(1).mean(1) <= 0.4).sum())
    assert 0 < deaf < len(inputs), "the toy must have both kinds"
    measured = Gaussian(null_draws=50).measure(subject)
    assert measured.metrics["zero_gradients"] == deaf
    assert measured.metrics["count"] == len(inputs) - deaf == len(measured.arrays["scores"])
    assert torch.isfinite(measured.arrays["scores"]).all()


def test_a_model_deaf_to_everything_has_no_score() -> None:
    subject = toy_subject(toy_model(), toy_set())
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter.zero_()
    metrics = Gaussian().measure(subject).metrics
    assert metrics["count"] == 0
    assert metrics["zero_gradients"] == len(subject.base)
    assert metrics["mean_score"] is None and metrics["z"] is None
    glimpse(subject)  # must not fail either: it runs while methods do


def test_measured_are_exactly_the_declared_metrics(trained: Subject) -> None:
    assert Gaussian(null_draws=50).measure(trained).metrics.keys() == Gaussian.metrics.keys()


def test_the_audit_is_deterministic(trained: Subject) -> None:
    one, other = (Gaussian(null_draws=50).measure(trained) for _ in range(2))
    assert one.metrics == other.metrics
    assert torch.equal(one.arrays["scores"], other.arrays["scores"])


def test_the_stored_scores_are_those_of_the_metrics(small_run: Run) -> None:
    (cell,) = small_run.cells(method="none", audit="gaussian")
    scores = load_tensors(small_run.root / cell.key / "scores.safetensors")["scores"]
    metrics = small_run.metrics(method="none", audit="gaussian")
    assert metrics["mean_score"] == float(scores.mean())
    assert metrics["count"] == len(scores) == 36


def test_the_rows_of_the_stored_scores_stand_beside_them(small_run: Run) -> None:
    (cell,) = small_run.cells(method="none", audit="gaussian")
    told = load_json(small_run.root / cell.key / "score_rows.json")
    craft = small_run.plan.stages[cell.key].inputs["craft"]
    rows = load_tensors(small_run.root / craft / "poison.safetensors")["rows"]
    assert told == {"rows": rows.tolist(), "scored": None}


def test_scores_know_their_places_where_rows_are_left_out(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 1 and 5 of the poison lose their gradient; ranks are those of all rows as before."""
    (cell,) = small_run.cells(method="none", audit="gaussian")
    whole = load_tensors(small_run.root / cell.key / "scores.safetensors")
    rows = load_json(small_run.root / cell.key / "score_rows.json")["rows"]
    seen = {"rows": 0}

    def blind(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        places = torch.arange(seen["rows"], seen["rows"] + len(labels))
        seen["rows"] += len(labels)
        found = margin_gradients(model, inputs, labels)
        found[torch.isin(places, torch.tensor([1, 5]))] = 0
        return found

    monkeypatch.setattr("engine.lab.audits.gaussian.margin_gradients", blind)
    context = LocalContext(small_run.root, small_run.plan.stages[cell.key])
    context.folder = tmp_path  # not over what the other tests read
    run_audit(small_run.plan.stages[cell.key].config, context)
    left = [place for place in range(len(rows)) if place not in (1, 5)]
    assert load_json(tmp_path / "score_rows.json") == {"rows": rows, "scored": left}
    found = load_tensors(tmp_path / "scores.safetensors")
    assert torch.equal(found["scores"], whole["scores"][left])
    assert torch.equal(found["ranks"], whole["ranks"])


def test_a_glimpse_counts_every_row_once_and_changes_nothing(trained: Subject) -> None:
    trained.model.train()
    told = glimpse(trained)
    assert trained.model.training
    trained.model.eval()
    low, high, width = told["edges"]
    assert len(told["counts"]) == (high - low) / width
    assert sum(told["counts"]) == told["count"] == len(trained.base)
    assert told["mean"] == pytest.approx(Gaussian().measure(trained).metrics["mean_score"])


def calibration(subject: Subject, draws: int, **cheaper: int) -> list[dict[str, float]]:
    audit = Gaussian(**{"null_draws": 64} | cheaper)
    return [
        audit.measure(with_noise(subject, fresh_noise(subject, d), seed=d)).metrics
        for d in range(draws)
    ]


def test_both_thresholds_agree_on_fresh_noise(trained: Subject) -> None:
    found = calibration(trained, 25)
    analytic, empirical = (
        sum(m[name] for m in found) / len(found)
        for name in ("tpr_at_1pct_fpr", "tpr_at_1pct_fpr_empirical")
    )
    error = (0.01 / (len(found) * found[0]["count"])) ** 0.5
    # The rows' gradients are alike, so their shared null draws are worth less than their number.
    assert abs(analytic - empirical) < 6 * error
    assert abs(analytic - 0.01) < 5 * error


def test_the_two_sided_test_has_its_size(trained: Subject) -> None:
    """Even of a model that was trained on other noise: fresh noise is independent of it."""
    found = calibration(trained, 200, null_draws=50, rank_draws=0)  # neither p nor z looks at these
    share = sum(m["p_two_sided"] < 0.05 for m in found) / len(found)
    assert 0.02 <= share <= 0.09
    spread = torch.tensor([m["z"] for m in found]).std()
    assert abs(float(spread) - 1) < 4 / (2 * len(found)) ** 0.5
