"""Fisher forgetting: the true Fisher, and noise that goes by it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from engine.lab.meter import FORWARD
from engine.lab.methods._rows import mean_of, per_row
from engine.lab.methods.fisher import Fisher, _every_label, _own_label
from engine.lab.views import Batch
from tests.helpers import LocalContext
from tests.lab.methods.tasks import (
    NETWORKS,
    RETAINED,
    Spy,
    check_network,
    check_usual,
    double,
    ended,
    toy,
)
from tests.lab.toys import CLASSES, POISONED, ROWS, same, toy_model, toy_set, weights

PRICE = (1 + 2 * CLASSES) / 3


@pytest.mark.parametrize("labels", ["all", "sampled"])
def test_the_usual(labels: str, ctx: LocalContext) -> None:
    check_usual(Fisher(labels=labels), ctx)


def test_the_information_from_its_formula_in_float64() -> None:
    """E_x Σ_y p(y|x) (∂ℓ(x, y)/∂θ)², row by row, label by label."""
    exact, batch = double(toy_model()), toy_set().take(RETAINED)
    expected = [torch.zeros_like(p) for p in exact.parameters()]
    for image in batch.inputs.double():
        logits = exact(image[None])
        for label in range(CLASSES):
            loss = cross_entropy(logits, torch.tensor([label]))
            grads = torch.autograd.grad(loss, list(exact.parameters()), retain_graph=True)
            for total, grad in zip(expected, grads, strict=True):
                total += float(logits.detach().softmax(1)[0, label]) * grad**2 / len(RETAINED)
    model = toy_model()
    found = mean_of(model, per_row(model, [batch], _every_label), len(RETAINED))
    for one, two in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-9)


def test_drawn_labels_are_right_on_average() -> None:
    """Squares for one label, weighted by its chance and summed, are those for all labels."""
    model, batch = toy_model(), toy_set().take(RETAINED[:1])
    chances = model(batch.inputs).softmax(1)[0]
    whole = mean_of(model, per_row(model, [batch], _every_label), 1)
    for name, value in whole.items():
        parts = [
            mean_of(model, per_row(model, [Batch(batch.inputs, torch.tensor([y]))], _own_label), 1)
            for y in range(CLASSES)
        ]
        total = sum(chances[y] * parts[y][name] for y in range(CLASSES))
        torch.testing.assert_close(value, total, rtol=1e-4, atol=1e-9)


def test_the_labels_of_the_data_do_not_matter(ctx: LocalContext) -> None:
    other = toy_set()
    other.labels = (other.labels + 1) % CLASSES
    one, two = ended(Fisher(), toy(), ctx), ended(Fisher(), toy(data=other), ctx)
    assert same(weights(one.model), weights(two.model))


def test_no_noise_is_no_change(ctx: LocalContext) -> None:
    assert same(weights(ended(Fisher(noise_scale=0.0), toy(), ctx).model), weights(toy_model()))


def test_seeds_draw_their_own_noise(ctx: LocalContext) -> None:
    one, two, other = (ended(Fisher(), toy(seed=seed), ctx) for seed in (1, 1, 2))
    assert same(weights(one.model), weights(two.model))
    assert not same(weights(one.model), weights(other.model))


def test_noise_falls_with_information_and_is_capped() -> None:
    method = Fisher(noise_scale=1e-4)
    information = torch.logspace(-9, 6, 40, dtype=torch.float64)[:, None]
    hidden = method.variance(information, of_head=False)[:, 0]
    head = method.variance(information, of_head=True)[:, 0]
    vector = method.variance(information[:, 0], of_head=False)
    for variance in (hidden, head, vector):
        assert (variance.diff() <= 0).all() and variance[-1] < variance[0]
    assert hidden.max() == pytest.approx(1e-4 * 1e3)
    assert head.max() == pytest.approx(1e-4 * 1e2 * 10)
    torch.testing.assert_close(vector, 10 * hidden)
    two_inputs = method.variance(torch.tensor([[1.0, 4.0]]), of_head=False)
    assert two_inputs.tolist() == [[pytest.approx(1e-4 * 0.625)] * 2], (
        "averaged over a unit's inputs"
    )


def test_the_noise_has_the_variance_it_should(ctx: LocalContext) -> None:
    method = Fisher(noise_scale=1e-4)
    start = toy_model(width=200)
    task = ended(method, toy(toy_model(width=200)), ctx, budget=PRICE)
    batch = toy_set().take(RETAINED)
    information = mean_of(start, per_row(start, [batch], _every_label), len(RETAINED))
    scores = []
    for (name, was), now in zip(start.named_parameters(), task.model.parameters(), strict=True):
        variance = method.variance(information[name], of_head=name.startswith("3."))
        scores.append(((now - was) / variance.sqrt()).flatten())
    z = torch.cat(scores).detach()
    assert abs(float(z.mean())) < 4 / len(z) ** 0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / len(z)) ** 0.5


def test_it_reads_the_retain_set_only_and_pays_for_every_label(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    task = ended(Fisher(), toy(), ctx, budget=1.0)
    rows = int(ROWS / PRICE)
    assert len(set(spy.rows)) == len(spy.rows) == rows == int(task.state["rows/retain"])
    assert not set(spy.rows) & set(POISONED.tolist())
    assert task.meter.spent == pytest.approx(rows * PRICE)
    cheap = ended(Fisher(labels="sampled"), toy(), ctx, budget=1.0)
    assert cheap.meter.spent == pytest.approx(36 * (1 + FORWARD))
    assert cheap.steps == 1 and not Fisher.continues


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_on_every_network(name: str, ctx: LocalContext) -> None:
    check_network(Fisher(), name, ctx)
