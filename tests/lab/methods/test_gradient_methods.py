"""Invariants of the methods that take gradient steps: §1 and §6 of the field's traps, one by one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from engine.lab.meter import FORWARD
from engine.lab.methods import scrub
from engine.lab.methods.cfk import CFK
from engine.lab.methods.euk import EUK
from engine.lab.methods.ga import GA
from engine.lab.methods.gd import GD
from engine.lab.methods.neggrad_plus import NegGradPlus
from engine.lab.methods.relabel import Relabel, forget_turn
from engine.lab.methods.salun import SalUn
from engine.lab.methods.scrub import SCRUB
from engine.lab.models.cnn_small import CNNSmall
from engine.lab.models.resnet18 import ResNet18
from engine.lab.training import fit
from engine.lab.units import run, split, units
from engine.lab.unlearning import UnlearnTask, frozen_copy, unlearn
from engine.lab.views import TrainingSet
from engine.spec.component import Method
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab.methods.tasks import NETWORKS, of_network
from tests.lab.toys import (
    CLASSES,
    FORGET,
    POISONED,
    ROWS,
    same,
    toy_model,
    toy_set,
    toy_task,
    weights,
)

RETAIN = ROWS - FORGET
SMALL: dict[str, Any] = {"batch_size": 8}
METHODS: dict[str, Method] = {
    "ga": GA(lr=0.01, batch_size=2),
    "neggrad-plus": NegGradPlus(lr=0.01, forget_weight=0.1, forget_batch_size=2, **SMALL),
    "cfk": CFK(lr=0.05, **SMALL),
    "euk": EUK(lr=0.05, **SMALL),
    "relabel": Relabel(lr=0.01, **SMALL),
    "relabel-runner-up": Relabel(lr=0.01, labels="runner-up", **SMALL),
    "salun": SalUn(lr=0.01, **SMALL),
    "scrub": SCRUB(lr=0.01, forget_batch_size=2, **SMALL),
    "scrub-rewind": SCRUB(lr=0.01, forget_batch_size=2, rewind=True, **SMALL),
}


def task_for(model: nn.Module | None = None, **changes: Any) -> UnlearnTask:
    """A toy task that can also make fresh models and has validation rows."""
    task = toy_task(model or toy_model())
    told = UnlearnTask(
        model=task.model,
        data=toy_set(),
        retain=torch.tensor([r for r in range(ROWS) if r not in POISONED.tolist()]),
        forget=POISONED,
        recipe=changes.pop("recipe", Train(precision="fp32", channels_last=False)),
        seed=3,
        device="cpu",
        classes=CLASSES,
        fresh=lambda: toy_model(seed=99),
        validation=(toy_set(poisoned=False), torch.arange(0, ROWS, 7)),
    )
    assert not changes
    return told


def ended(method: Method, ctx: LocalContext, budget: float = 1.5, **changes: Any) -> UnlearnTask:
    task = task_for(**changes)
    unlearn(method, task, budget, ctx)
    return task


class Spy:
    """Records the rows every forward takes from the data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        plain = TrainingSet._inputs

        def spied(data: TrainingSet, rows: Tensor, width: int | None = None) -> object:
            self.rows += rows.tolist()
            return plain(data, rows, width)

        monkeypatch.setattr(TrainingSet, "_inputs", spied)


# --- all methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_twice_is_the_same_and_the_budget_holds(name: str, ctx: LocalContext) -> None:
    before = weights(toy_model())
    one, two = ended(METHODS[name], ctx), ended(METHODS[name], ctx)
    assert same(weights(one.model), weights(two.model))
    assert not same(weights(one.model), before)
    assert 0 < one.meter.tee + one.finishing_tee <= 1.5 + 1e-9
    assert one.steps > 0


@pytest.mark.parametrize("name", METHODS)
def test_budgets_are_one_trajectory(name: str, ctx: LocalContext, tmp_path: Path) -> None:
    method = METHODS[name]
    previous: Path | None = None
    for budget in (0.6, 1.1, 1.9):
        task = task_for()
        unlearn(method, task, budget, ctx, previous)
        previous = tmp_path / f"{budget}"
        previous.mkdir()
        task.save(previous)
    alone, folder = task_for(), tmp_path / "alone"
    folder.mkdir()
    unlearn(method, alone, 1.9, ctx)
    alone.save(folder)
    assert previous is not None
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in previous.iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (previous / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["cfk", "euk"])
def test_retain_only_methods_never_see_a_poisoned_row(
    name: str, ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    ended(METHODS[name], ctx)
    assert spy.rows
    assert not set(spy.rows) & set(POISONED.tolist())


def test_ascent_sees_nothing_but_the_forget_set(
    ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    ended(METHODS["ga"], ctx)
    assert set(spy.rows) == set(POISONED.tolist())


HAND_COUNTS = {
    # method: cost in rows × price of the first steps, counted by hand
    "ga": [2.0, 2.0, 1.0, 2.0],
    "neggrad-plus": [8 + 2, 8 + 2, 8 + 1, 8 + 2],
    "relabel": [8.0, 8.0, 8.0],
    "scrub": [8 * 4 / 3, 8 * 4 / 3, 2 * 4 / 3],
    # 43 retained rows are six steps; then comes the forget step, with a forward of the start.
    "relabel-runner-up": [8.0, 8.0, 8.0, 8.0, 8.0, 3.0, 5 * 4 / 3],
}


@pytest.mark.parametrize("name", HAND_COUNTS)
def test_the_meter_agrees_with_a_hand_count(name: str, ctx: LocalContext) -> None:
    """A budget of exactly the first steps' cost gives exactly those steps."""
    costs = HAND_COUNTS[name]
    task = ended(METHODS[name], ctx, budget=sum(costs) / ROWS)
    assert task.steps == len(costs)
    assert task.meter.spent == pytest.approx(sum(costs))
    short = ended(METHODS[name], ctx, budget=(sum(costs) - 0.1) / ROWS)
    assert short.steps == len(costs) - 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_method_runs_on_a_residual_net(name: str, norm: str, ctx: LocalContext) -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    data = TrainingSet(pixels, torch.arange(20) % 3)
    config = ResNet18(width=4, groups=2, norm=norm)

    def build() -> nn.Module:
        torch.manual_seed(1)
        return config.build((3, 16, 16), 3, [0.5] * 3, [0.25] * 3)

    recipe = Train(epochs=3, precision="fp32")
    task = UnlearnTask(
        build(), data, torch.arange(4, 20), torch.arange(4), recipe, 0, "cpu", 3,
        fresh=build, validation=(data, torch.arange(4, 20, 3)),
    )  # fmt: skip
    unlearn(METHODS[name], task, 3.0, ctx)
    assert task.steps > 0


# --- ascent and NegGrad+ -------------------------------------------------------------------------


def forget_loss(model: nn.Module) -> float:
    data = toy_set()
    batch = data.take(POISONED)
    model.eval()
    with torch.no_grad():
        return float(cross_entropy(model(batch.inputs), batch.labels))


def test_one_small_step_of_ascent_raises_the_forget_loss(ctx: LocalContext) -> None:
    task = ended(GA(lr=1e-3, batch_size=FORGET), ctx, budget=FORGET / ROWS)
    assert task.steps == 1
    assert forget_loss(task.model) > forget_loss(toy_model())


def test_ascent_stops_at_the_loss_of_guessing(ctx: LocalContext) -> None:
    capped = ended(GA(lr=0.5, batch_size=FORGET), ctx, budget=20.0)
    free = ended(GA(lr=0.5, batch_size=FORGET, cap=False), ctx, budget=20.0)
    assert forget_loss(capped.model) < 3 * math.log(CLASSES)
    assert forget_loss(free.model) > 3 * forget_loss(capped.model)


def test_without_a_forget_weight_it_is_descent(ctx: LocalContext) -> None:
    settings: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, **SMALL}
    plus = NegGradPlus(retain_weight=1.0, forget_weight=0.0, forget_batch_size=1, **settings)
    one = ended(plus, ctx, budget=4 * 9 / ROWS)
    two = ended(GD(**settings), ctx, budget=4 * 8 / ROWS)
    assert one.steps == two.steps == 4
    assert same(weights(one.model), weights(two.model))


def test_without_a_retain_weight_it_is_ascent(ctx: LocalContext) -> None:
    plus = NegGradPlus(
        lr=0.01, retain_weight=0.0, forget_weight=1.0, momentum=0.9, weight_decay=0.0,
        forget_batch_size=2, clip=1.0, **SMALL,
    )  # fmt: skip
    one = ended(plus, ctx, budget=(3 * 8 + 5) / ROWS)
    two = ended(GA(lr=0.01, momentum=0.9, batch_size=2, cap=False), ctx, budget=5 / ROWS)
    assert one.steps == two.steps == 3
    for a, b in zip(weights(one.model).values(), weights(two.model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_forget_batches_leave_running_statistics_alone(ctx: LocalContext) -> None:
    """Ascent has no say in them, NegGrad+ only by its retain batches: after one step they are
    those of descent."""

    def after_one_step(method: Method, rows: int) -> dict[str, Tensor]:
        task = of_network(NETWORKS["resnet18"])
        unlearn(method, task, rows / task.meter.rows, ctx)
        assert task.steps == 1
        return {name: value.clone() for name, value in task.model.named_buffers()}

    start = dict(of_network(NETWORKS["resnet18"]).model.named_buffers())
    assert same(after_one_step(GA(lr=0.01, batch_size=4), 4), start)
    mixed = after_one_step(NegGradPlus(forget_batch_size=4, **SMALL), 12)
    assert same(mixed, after_one_step(GD(**SMALL), 8)) and not same(mixed, start)


# --- tails ---------------------------------------------------------------------------------------


def conv_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return CNNSmall(width=4).build((1, 6, 6), CLASSES, [0.5], [0.25])


@pytest.mark.parametrize("make", [CFK, EUK])
@pytest.mark.parametrize("k", [1, 2])
def test_the_prefix_and_its_buffers_stay_bit_for_bit(
    make: type[CFK], k: int, ctx: LocalContext
) -> None:
    model, before = conv_net(), conv_net()
    task = UnlearnTask(
        model, toy_set(), torch.arange(5, ROWS), POISONED, Train(precision="fp32"), 3, "cpu",
        CLASSES, fresh=lambda: conv_net(99),
    )  # fmt: skip
    unlearn(make(k=k, lr=0.1, batch_size=8), task, 2.0, ctx)
    old_prefix, old_tail = split(before, k)
    prefix, tail = split(model, k)
    assert any(True for unit in prefix for _ in unit.parameters())
    for one, two in zip(prefix, old_prefix, strict=True):
        assert same(weights(one), weights(two))
    moved = [
        n
        for a, b in zip(tail, old_tail, strict=True)
        for n in weights(a)
        if not same(weights(a), weights(b))
    ]
    assert moved, "the tail, with the head, must train"


@pytest.mark.parametrize("method", [CFK(k=3), EUK(k=3), EUK(k=99)])
def test_pricing_the_tail_leaves_running_statistics_alone(method: CFK) -> None:
    task = of_network(NETWORKS["resnet18"])
    expected = task.fresh_model() if isinstance(method, EUK) else task.model
    before = {
        name: value.clone() for name, value in split(expected, method.k)[1][0].named_buffers()
    }
    method.begin(task)
    assert before and same(dict(split(task.model, method.k)[1][0].named_buffers()), before)


def test_a_renewed_tail_shares_no_value_with_the_old_one(ctx: LocalContext) -> None:
    task = task_for()
    old = weights(split(toy_model(), 1)[1][0])
    EUK(k=1).begin(task)
    fresh = weights(split(toy_model(seed=99), 1)[1][0])
    new = weights(split(task.model, 1)[1][0])
    assert same(new, fresh)
    assert not any((new[key] == old[key]).any() for key in new)


def test_renewing_everything_by_the_recipe_is_retraining(ctx: LocalContext) -> None:
    recipe = Train(
        epochs=3, batch_size=8, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule="constant",
        precision="fp32", channels_last=False,
    )  # fmt: skip
    retrained = toy_model(seed=99)
    task = task_for(recipe=recipe)
    rows = torch.tensor([r for r in range(ROWS) if r not in POISONED.tolist()])
    fit(retrained, toy_set(), rows, recipe, 3, ctx)
    method = EUK(k=99, lr=0.05, momentum=0.9, weight_decay=5e-4, batch_size=8)
    unlearn(method, task, 3 * RETAIN / ROWS, ctx)
    assert task.steps == 3 * math.ceil(RETAIN / 8)
    assert same(weights(task.model), weights(retrained))


def test_kept_features_change_the_price_and_not_the_result(ctx: LocalContext) -> None:
    """With augmentation declared the prefix runs every step: dearer, the same weights (here no
    augmentation moves anything, as the padding is 0 and images are symmetric)."""
    kept = ended(CFK(lr=0.05, **SMALL), ctx, budget=1.5)
    plain = task_for()
    features = CFK(lr=0.05, **SMALL)
    features.begin(plain)
    del plain.state["features"]
    plain.settle()
    share = float(plain.state["tail share"])
    assert 0 < share < 0.5
    assert plain.meter.spent == pytest.approx(RETAIN * FORWARD * (1 - share))
    for _ in range(kept.steps):
        features.step(plain)
        plain.settle()
        plain.steps += 1
    for a, b in zip(weights(kept.model).values(), weights(plain.model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    each = RETAIN / math.ceil(RETAIN / 8)
    assert kept.meter.spent < FORWARD * RETAIN + kept.steps * each * (share + 0.05)
    assert plain.meter.spent > kept.meter.spent


def test_a_tail_that_costs_nothing_ends_with_its_epochs(ctx: LocalContext) -> None:
    task = ended(CFK(lr=0.05, max_epochs=2, **SMALL), ctx, budget=50.0)
    assert task.retain.drawn == 2 * RETAIN
    assert task.meter.tee < 2.0


def test_units_chain_to_the_model() -> None:
    model = ResNet18(width=4).build((3, 16, 16), 3, [0.5] * 3, [0.25] * 3).eval()
    inputs = torch.rand(2, 3, 16, 16)
    chain = units(model)
    assert torch.equal(run(chain, inputs), model(inputs))
    prefix, tail = split(model, 3)
    names = [type(unit).__name__ for unit in tail]
    assert names == ["BasicBlock", "BasicBlock", "AdaptiveAvgPool2d", "Flatten", "Linear"]
    assert len(prefix) + len(tail) == len(chain)


# --- relabelling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["exclude-trained", "runner-up", "uniform"])
def test_new_labels(rule: str) -> None:
    task = task_for()
    method = Relabel(labels=rule)
    method.begin(task)
    seen: set[int] = set()
    for step in range(40):
        task.steps = step
        batch = task.forget.batch(FORGET)
        labels = method.new_labels(task, batch)
        assert labels.shape == batch.labels.shape
        assert ((labels >= 0) & (labels < CLASSES)).all()
        if rule != "uniform":
            assert (labels != batch.labels).all()
        seen |= set(labels.tolist())
    assert rule == "runner-up" or seen == set(range(CLASSES))


@pytest.mark.parametrize("rule", ["exclude-trained", "runner-up", "uniform"])
def test_a_forget_step_descends_on_the_new_labels(rule: str) -> None:
    task = task_for()
    method = Relabel(labels=rule, lr=0.1, momentum=0.0, weight_decay=0.0, **SMALL)
    method.begin(task)
    while not forget_turn(task, 8):
        task.steps += 1
    start, batch = toy_model(), toy_set().take(POISONED)
    drawn: list[Tensor] = []
    labels = method.new_labels
    object.__setattr__(method, "new_labels", lambda *a: drawn.append(labels(*a)) or drawn[-1])
    method.step(task)
    order = task.forget._visit(0)[0].places
    loss = cross_entropy(start(batch.inputs[order]), drawn[0])
    grads = torch.autograd.grad(loss, list(start.parameters()))
    for ours, was, grad in zip(task.model.parameters(), start.parameters(), grads, strict=True):
        torch.testing.assert_close(ours, was - 0.1 * grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_forget_turns_spread_evenly(size: int) -> None:
    task = task_for()
    cycle = task.retain.batches_per_epoch(size) + task.forget.batches_per_epoch(size)
    turns = []
    for step in range(2 * cycle):
        task.steps = step
        turns.append(forget_turn(task, size))
    assert sum(turns[:cycle]) == task.forget.batches_per_epoch(size)
    assert turns[:cycle] == turns[cycle:]


def test_the_mask_is_of_the_summed_gradient_however_it_is_batched() -> None:
    masks = []
    for size in (2, FORGET, 8):
        model = toy_model().double()
        task = task_for(model=model)
        task.logits = lambda b, m=None, model=model: (m or model)(b.inputs.double())  # type: ignore[method-assign, misc]
        SalUn(share=0.3, batch_size=size).begin(task)
        masks.append(torch.cat([task.state[k].flatten() for k in task.state if k[:5] == "mask/"]))
    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[1], masks[2])


def test_off_the_mask_nothing_moves(ctx: LocalContext) -> None:
    method = SalUn(share=0.3, lr=0.1, momentum=0.9, weight_decay=0.1, **SMALL)
    task, before = ended(method, ctx), weights(toy_model())
    ones = 0
    for name, parameter in task.model.named_parameters():
        mask = task.state[f"mask/{name}"]
        ones += int(mask.sum())
        assert torch.equal(parameter[~mask], before[name][~mask])
    assert ones == int(0.3 * sum(p.numel() for p in task.model.parameters()))


def test_the_whole_mask_is_plain_relabelling_and_none_is_nothing(ctx: LocalContext) -> None:
    settings: dict[str, Any] = {"lr": 0.05, "labels": "uniform", **SMALL}
    whole = ended(SalUn(share=1.0, **settings), ctx, budget=1.0 + FORGET / ROWS)
    plain = ended(Relabel(**settings), ctx, budget=1.0)
    assert whole.steps == plain.steps
    assert same(weights(whole.model), weights(plain.model))
    nothing = ended(SalUn(share=0.0, **settings), ctx)
    assert same(weights(nothing.model), weights(toy_model()))


def test_salun_from_its_formulas_in_float64(ctx: LocalContext) -> None:
    """Mask and two steps (retain steps of the cycle), written out anew."""
    model = toy_model().double()
    data = toy_set()
    reference = frozen_copy(model).requires_grad_(True)
    batch = data.take(POISONED)
    loss = cross_entropy(reference(batch.inputs.double()), batch.labels, reduction="sum")
    grads = torch.autograd.grad(loss, list(reference.parameters()))
    flat = torch.cat([g.abs().flatten() for g in grads])
    cut = flat.sort(descending=True).values[int(0.4 * len(flat)) - 1]
    masks = [g.abs() >= cut for g in grads]
    task = task_for(model=model)
    task.logits = lambda b, m=None: (m or task.model)(b.inputs.double())  # type: ignore[method-assign]
    task.loss = lambda b: cross_entropy(task.logits(b), b.labels)  # type: ignore[method-assign]
    method = SalUn(share=0.4, lr=0.1, momentum=0.0, weight_decay=0.01, **SMALL)
    method.begin(task)
    for mask, (name, _) in zip(masks, model.named_parameters(), strict=True):
        assert torch.equal(task.state[f"mask/{name}"], mask)
    task.settle()
    batches = []
    plain = task.retain.batch
    task.retain.batch = lambda *a, **k: batches.append(plain(*a, **k)) or batches[-1]  # type: ignore[method-assign, func-returns-value]
    for _ in range(2):
        method.step(task)
        task.settle()
        task.steps += 1
    start = [p.detach().clone() for p in reference.parameters()]
    for batch in batches:
        loss = cross_entropy(reference(batch.inputs.double()), batch.labels)
        grads = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for p, g, m, p0 in zip(reference.parameters(), grads, masks, start, strict=True):
                p.copy_(torch.where(m, p - 0.1 * (g + 0.01 * p), p0))
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# --- SCRUB ---------------------------------------------------------------------------------------


def test_scrub_without_its_terms_is_descent(ctx: LocalContext) -> None:
    settings: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, **SMALL}
    scrub = SCRUB(max_epochs=0, kl_weight=0.0, ce_weight=1.0, forget_batch_size=2, **settings)
    one, two = ended(scrub, ctx), ended(GD(**settings), ctx)
    assert one.steps == two.steps
    assert same(weights(one.model), weights(two.model))


def test_at_the_teacher_the_divergence_has_no_gradient_and_the_teacher_stays() -> None:
    task = task_for()
    method = SCRUB()
    method.begin(task)
    task.model.eval()
    batch = task.forget.batch(FORGET)
    method.divergence(task, batch, task.logits(batch)).backward()  # type: ignore[no-untyped-call]
    assert all(float(p.grad.norm()) < 1e-6 for p in task.model.parameters() if p.grad is not None)
    before = weights(task.state["teacher"])
    for _ in range(6):
        method.step(task)
        task.settle()
        task.steps += 1
    assert same(weights(task.state["teacher"]), before)
    assert not same(weights(task.model), before)


def test_a_forget_step_leads_away_from_the_teacher() -> None:
    task = task_for()
    method = SCRUB(lr=1e-3, forget_batch_size=FORGET, weight_decay=0.0, **SMALL)
    method.begin(task)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    while not forget_turn(task, 8, FORGET):
        task.steps += 1
    batch = toy_set().take(POISONED)

    def away() -> float:
        with torch.no_grad():
            return float(method.divergence(task, batch, task.logits(batch)))

    before = away()
    method.step(task)
    assert away() > before > 0


def test_scrub_from_its_formulas_in_float64() -> None:
    """The loss of a retain step and of a forget step, written out anew: T² Σ p (log p - log q)."""
    task = task_for(model=toy_model().double())
    task.logits = lambda b, m=None: (m or task.model)(b.inputs.double())  # type: ignore[method-assign]
    method = SCRUB(temperature=3.0, ce_weight=0.7, kl_weight=0.2)
    method.begin(task)
    with torch.no_grad():
        for p in task.model.parameters():
            p.add_(0.1)
    batch = task.retain.batch(8)
    student, teacher = (
        task.model(batch.inputs.double()),
        task.state["teacher"](batch.inputs.double()),
    )
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    divergence = 9 * (p * (p.log() - q.log())).sum(1).mean()
    ce = -student.log_softmax(1)[torch.arange(8), batch.labels].mean()
    assert float(method.retain_loss(task, batch).detach()) == pytest.approx(
        float((0.7 * ce + 0.2 * divergence).detach()), abs=1e-6
    )
    assert float(divergence.detach()) == pytest.approx(
        float(9 * kl_div(log_softmax(student / 3, 1), p, reduction="batchmean").detach()), abs=1e-9
    )


def test_forget_steps_end_after_their_passes(ctx: LocalContext) -> None:
    task = ended(SCRUB(max_epochs=2, forget_batch_size=2, **SMALL), ctx, budget=8.0)
    assert task.forget.drawn == 2 * FORGET


@pytest.mark.parametrize(("target", "chosen"), [(0.0, 0), (0.45, 1), (0.9, None)])
def test_rewind_chooses_the_error_nearest_to_that_of_unseen_rows(
    target: float, chosen: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors on the forget set: .1 and .4 at the checkpoints, .8 at the end."""
    task = task_for()
    kept = [toy_model(1), toy_model(2)]
    task.state |= {f"{scrub.CHECKPOINT}{place}": model for place, model in enumerate(kept)}
    errors = {id(kept[0]): 0.1, id(kept[1]): 0.4, id(task.model): 0.8}
    told = iter([target])
    monkeypatch.setattr(scrub, "_error", lambda model, *_: next(told, errors[id(model)]))
    found = SCRUB(rewind=True).finish(task)
    assert found is (None if chosen is None else kept[chosen])


def test_rewind_hands_out_a_kept_model_and_goes_on_from_the_live_one(
    ctx: LocalContext, tmp_path: Path
) -> None:
    method = SCRUB(lr=0.5, max_epochs=3, forget_batch_size=2, rewind=True, **SMALL)
    task = ended(method, ctx, budget=6.0)
    kept = [n for n in task.state if n.startswith("checkpoint/")]
    assert len(kept) == 3
    candidates = [weights(task.state[n]) for n in kept] + [weights(task.model)]
    handed = weights(task.handed_out or task.model)
    assert any(same(handed, candidate) for candidate in candidates)
    assert task.finishing_tee > 0
    assert task.meter.tee + task.finishing_tee <= 6.0 + 1e-9
