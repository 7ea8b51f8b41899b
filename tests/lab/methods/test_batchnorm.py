"""BatchNorm policies: which statistics move, and what recalibration makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.lab.meter import FORWARD
from engine.lab.methods._batchnorm import batchnorms, recalibrated
from engine.lab.methods.bad_teacher import BadTeacher
from engine.lab.methods.cfk import CFK
from engine.lab.methods.euk import EUK
from engine.lab.methods.gd import GD
from engine.lab.methods.neggrad_plus import NegGradPlus
from engine.lab.methods.ngd import NGD
from engine.lab.methods.relabel import Relabel
from engine.lab.methods.salun import SalUn
from engine.lab.methods.scrub import SCRUB
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab.methods.tasks import NETWORKS, RETAINED, Spy, of_network, toy
from tests.lab.toys import POISONED, ROWS, same, toy_model, weights

CALIBRATING: list[type[Any]] = [GD, NGD, NegGradPlus, Relabel, SalUn, SCRUB, BadTeacher]
TAILS: list[type[Any]] = [CFK, EUK]
FLAT = Train(precision="fp32", channels_last=False, batch_size=8)


def normed(seed: int = 0) -> nn.Module:
    """Two BatchNorm layers; the first reads what no other layer normalised."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


def task(recipe: Train = FLAT) -> UnlearnTask:
    made = toy(normed(), recipe=recipe)
    made.fresh_model = lambda: normed(9)
    return made


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.named_buffers()}


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.named_parameters()}


# --- a tail that starts anew ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 99])
def test_euk_starts_from_fresh_statistics_too(k: int) -> None:
    """The running statistics of the poisoned model have seen the poison: none may stay in the tail."""
    made = task()
    made.model.train()
    with torch.no_grad():
        for _ in range(3):
            made.model(5 + 2 * torch.randn(16, 1, 6, 6))  # far from where a fresh model starts
    seen, fresh = statistics(made.model), statistics(made.fresh_model())
    EUK(k=k, batch_size=8).begin(made)
    found = statistics(made.model)
    renewed = [name for name in found if same({name: found[name]}, {name: fresh[name]})]
    assert "6.running_mean" in renewed and "6.num_batches_tracked" in renewed
    assert ("2.running_mean" in renewed) == (k == 99)
    for name in renewed:
        assert not same({name: found[name]}, {name: seen[name]})


# --- recalibration -------------------------------------------------------------------------------


def test_recalibration_changes_running_statistics_of_a_copy_and_nothing_else() -> None:
    one = task()
    one.model[2].eval()
    before, modes = weights(one.model), [m.training for m in one.model.modules()]
    found = recalibrated(one, one.model)
    assert same(before, weights(one.model)), "the model under way is left alone"
    assert [m.training for m in found.modules()] == modes
    assert same(parameters(found), parameters(one.model))
    moved = {key for key, value in statistics(found).items() if not value.equal(before[key])}
    assert moved == {f"{layer}.running_{what}" for layer in (2, 6) for what in ("mean", "var")}


def test_recalibrated_statistics_are_those_of_the_retain_set_as_trained_on() -> None:
    """Of the whole set, exactly, where one batch holds it; the first layer whatever the batches."""
    for size in (8, 64):
        one = task(FLAT.model_copy(update={"batch_size": size}))
        found = recalibrated(one, one.model)
        inputs, _ = one.retain._data.take(RETAINED)
        read = one.model[1](one.model[0](inputs)).double()
        assert torch.allclose(found[2].running_mean.double(), read.mean(0), atol=1e-6)
        assert torch.allclose(found[2].running_var.double(), read.var(0), rtol=1e-5)
        if size == 64:
            normal = (read - read.mean(0)) / (read.var(0, correction=0) + 1e-5).sqrt()
            deeper = one.model[5](normal.relu().float()).double()
            assert torch.allclose(found[6].running_mean.double(), deeper.mean(0), atol=1e-5)
            assert torch.allclose(found[6].running_var.double(), deeper.var(0), rtol=1e-4)


def test_recalibration_reads_every_retained_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    one = task()
    recalibrated(one, one.model)
    assert sorted(spy.rows) == RETAINED.tolist()
    assert one.meter.pending == pytest.approx(FORWARD * len(RETAINED))


@pytest.mark.parametrize("cls", CALIBRATING, ids=lambda cls: cls.__name__)
def test_what_is_handed_out_is_the_frozen_model_recalibrated(
    cls: type[Any], ctx: LocalContext, tmp_path: Path
) -> None:
    method, one = cls(batchnorm="recalibrate"), task()
    before = statistics(one.model)
    unlearn(method, one, 3.0, ctx)
    assert same(before, statistics(one.model)), "steps leave statistics alone"
    handed = one.handed_out
    assert handed is not None
    assert same(parameters(handed), parameters(one.model))
    assert not same(before, statistics(handed))
    # What it costs lies within the budget, and beside the trajectory that goes on.
    price = FORWARD * len(RETAINED) / ROWS
    assert one.finishing_tee == pytest.approx(price)
    assert one.meter.tee + one.finishing_tee <= 3.0 + 1e-9
    # Budget after budget is the same as the larger one at once.
    folder = tmp_path / "first"
    folder.mkdir()
    first = task()
    unlearn(method, first, 1.7, ctx)
    first.save(folder)
    again = task()
    unlearn(method, again, 3.0, ctx, folder)
    assert again.handed_out is not None
    assert same(weights(again.handed_out), weights(handed))


def test_a_model_without_batchnorm_has_nothing_to_recalibrate(ctx: LocalContext) -> None:
    plain, asked = toy(toy_model()), toy(toy_model())
    unlearn(GD(batch_size=8), plain, 1.0, ctx)
    unlearn(GD(batch_size=8, batchnorm="recalibrate"), asked, 1.0, ctx)
    assert asked.handed_out is None and asked.steps == plain.steps
    assert same(weights(asked.model), weights(plain.model))


def test_scrub_recalibrates_what_it_rewinds_to(ctx: LocalContext) -> None:
    method = SCRUB(batchnorm="recalibrate", rewind=True, lr=0.1, batch_size=8, forget_batch_size=5)
    one = task()
    clean = one.retain._data
    one.validation._rows, one.validation._data = RETAINED[:10], clean
    unlearn(method, one, 4.0, ctx)
    assert one.handed_out is not None
    kept = [one.model, *(one.state[n] for n in one.state if n.startswith("checkpoint/"))]
    assert any(same(parameters(one.handed_out), parameters(model)) for model in kept)
    assert not same(statistics(one.handed_out), statistics(one.model))
    assert one.meter.tee + one.finishing_tee <= 4.0 + 1e-9


# --- update and frozen ---------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [GD, NGD], ids=lambda cls: cls.__name__)
def test_a_retain_only_method_moves_statistics_or_does_not(
    cls: type[Any], ctx: LocalContext
) -> None:
    for policy, moves in (("update", True), ("frozen", False)):
        one = task()
        before = statistics(one.model)
        unlearn(cls(batch_size=8, batchnorm=policy), one, 1.0, ctx)
        assert same(before, statistics(one.model)) != moves
        assert one.handed_out is None


@pytest.mark.parametrize("cls", CALIBRATING[2:], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("policy", ["update", "frozen"])
def test_frozen_forget_steps_leave_statistics_to_the_retain_set(
    policy: str, cls: type[Any], ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of batches tracked tells which steps moved them."""
    one = task()
    drawn = {"retain": 0, "forget": 0}
    for name in drawn:
        plain = getattr(one, name).batch

        def spied(*rest: Any, plain: Any = plain, name: str = name, **told: Any) -> Any:
            found = plain(*rest, **told)
            drawn[name] += 1
            return found

        monkeypatch.setattr(getattr(one, name), "batch", spied)
    unlearn(cls(batchnorm=policy, batch_size=8), one, 3.0, ctx)
    # The step that no longer fits may have drawn a batch, but has moved nothing.
    late = drawn["retain"] + drawn["forget"] - one.steps * (2 if cls is NegGradPlus else 1)
    moved = int(one.model[2].num_batches_tracked)
    if policy == "update":
        assert moved == drawn["retain"] + drawn["forget"] - late
    else:
        assert drawn["forget"] and moved == drawn["retain"] - late


@pytest.mark.parametrize("cls", TAILS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("policy", ["update", "frozen"])
def test_a_tail_has_its_policy_and_the_prefix_never_moves(
    cls: type[Any], policy: str, ctx: LocalContext
) -> None:
    one = of_network(NETWORKS["resnet18"])
    before = statistics(one.model)
    unlearn(cls(k=2, batchnorm=policy, batch_size=16, lr=0.001), one, 1.0, ctx)
    after = statistics(one.model)
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    last = [key for key in after if key.startswith(list(after)[-1].split(".")[0])]
    started = statistics(one.fresh_model()) if cls is EUK else before
    if policy == "frozen":
        assert all(torch.equal(after[key], started[key]) for key in moved)
    else:
        assert moved and moved <= set(last)


def test_the_policies_are_no_part_of_older_keys() -> None:
    """Keys that came later are left out while they hold their default: old results still count."""
    for cls in (GD, NGD, NegGradPlus, CFK, EUK):
        default = cls.model_fields["batchnorm"].default
        other = "frozen" if default == "update" else "update"
        assert "batchnorm" not in cls().identity()
        assert cls(batchnorm=other).identity()["batchnorm"] == other
        assert cls.model_validate(cls().identity()) == cls.model_validate(cls().config())
    assert Relabel().identity()["batchnorm"] == "frozen"
    assert POISONED.numel() and batchnorms(toy_model()) == []
