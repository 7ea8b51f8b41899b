"""What texts change for methods: lengths, padding, noise on embeddings, states between blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from engine.lab.meter import FORWARD, tail
from engine.lab.methods._nullspace import layer_inputs, layers
from engine.lab.methods._rows import label_gradient, per_row
from engine.lab.methods.cfk import CFK
from engine.lab.methods.euk import EUK
from engine.lab.methods.newton_head import NewtonHead
from engine.lab.methods.scrub import SCRUB
from engine.lab.methods.ssd import SSD
from engine.lab.methods.unsc import UNSC
from engine.lab.models.gpt2 import GPT2
from engine.lab.texts import is_text, joined, lengths_of, with_room
from engine.lab.training import autocast, fit
from engine.lab.units import forward_flops, split, tail_share, units, weighty
from engine.spec.experiment import Train
from tests.helpers import LocalContext
from tests.lab import toy_texts
from tests.lab.methods.tasks import FORGOTTEN, double, ended, of_texts
from tests.lab.toys import same, weights

RETAINED = torch.arange(FORGOTTEN, toy_texts.ROWS)


# --- inputs --------------------------------------------------------------------------------------


def test_joining_batches_pads_and_changes_no_text() -> None:
    data = toy_texts.text_set()
    parts = [batch.inputs for batch in data.batches(torch.arange(20), 6)]
    assert len({part.shape[1] for part in parts}) > 1
    whole = joined(parts)
    assert torch.equal(whole, data.take(torch.arange(20)).inputs[:, : whole.shape[1]])
    noised = joined([with_room(part, 3) for part in parts])
    assert torch.equal(noised, with_room(whole, 3))
    images = [torch.rand(2, 1, 4, 4), torch.rand(3, 1, 4, 4)]
    assert torch.equal(joined(images), torch.cat(images))


@pytest.mark.parametrize("noise", [False, True])
def test_all_rows_come_once_with_their_kind_of_length(noise: bool) -> None:
    source = of_texts(noise).retain
    batches = list(source.every(8, price=0.0))
    found = torch.cat([lengths_of(batch.inputs) for batch in batches])
    assert torch.equal(found, toy_texts.text_set().lengths[RETAINED].sort().values)
    cells = sum(batch.inputs.shape[0] * batch.inputs.shape[1] for batch in batches)
    assert cells < 1.2 * int(found.sum())  # hardly any padding


def test_places_are_those_of_the_rows_in_the_order_of_every() -> None:
    task = of_texts()
    every = torch.cat([b.inputs.flatten(1)[:, 0] for b in task.retain.every(8, price=0.0)])
    places, labels = task.retain.places(16, 0.0)
    task.retain.refund()
    batch = task.retain.batch(16, 0.0)
    assert torch.equal(every[places], batch.inputs[:, 0]) and torch.equal(labels, batch.labels)


def test_the_example_is_of_the_mean_length() -> None:
    task = of_texts()
    lengths = toy_texts.text_set().lengths[RETAINED].double()
    example = lengths_of(task.retain.example()).double()
    assert ((example - lengths.mean()).abs() <= 1).all() and len(example) == 2
    assert task.meter.pending == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_token_ids_stay_exact_in_every_precision(precision: str) -> None:
    """bf16 has 8 bits: from 256 on, every other id would become its neighbour."""
    torch.manual_seed(0)
    model = GPT2(layers=1, width=8, heads=2).build((6, 50257, 1), 2, [], []).eval()
    ids = torch.tensor([[257, 4097, 50256, 33333, -1, -1], [1025, 513, 50001, 1, 2, 40001]])
    with torch.no_grad(), autocast(precision, "cpu"):
        assert torch.equal(model(with_room(ids, 8)), model(ids))
        assert not torch.equal(model(with_room(ids + (ids == 257), 8)), model(ids))


# --- tails ---------------------------------------------------------------------------------------


def test_k_counts_blocks_and_the_head() -> None:
    model = of_texts().model
    names = [type(units(model)[place]).__name__ for place in weighty(units(model))]
    assert names == ["Embed", "Block", "Block", "Linear"]
    ends = [[type(unit).__name__ for unit in split(model, k)[1]] for k in (1, 2)]
    assert ends == [["Linear"], ["Block", "LastToken", "LayerNorm", "Linear"]]
    assert len(split(model, 4)[1]) == len(units(model))


def test_attention_is_counted_and_a_block_is_half_of_two() -> None:
    model, ids = of_texts().model, torch.randint(0, 99, (2, 32))
    first, _ = forward_flops([model], ids[:, :16])
    second, _ = forward_flops([model], ids)
    assert second > 2 * first  # linear without attention
    prefix, end = split(model, 2)
    assert tail_share(prefix, end, ids) == pytest.approx(0.5, abs=0.01)
    assert tail_share(*split(model, 1), ids) < 0.01


@pytest.mark.parametrize("make", [CFK, EUK])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("noise", [False, True])
def test_tails_of_every_length(make: type[CFK], k: int, noise: bool, ctx: LocalContext) -> None:
    """Only one vector a row is kept; in the midst of blocks the prefix is computed at every step."""
    task = of_texts(noise)
    before = weights(task.model)
    method = make(k=k, lr=0.1, batch_size=16, max_epochs=2)
    ended(method, task, ctx, budget=2.5)
    assert ("features" in task.state) == (k == 1)
    share = float(task.state["tail share"])
    rows = len(RETAINED)
    price = FORWARD * (1 - share) + 2 * share if k == 1 else 2 * tail(share)
    assert task.meter.spent == pytest.approx(rows * price)
    after = weights(task.model)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"5"} | ({"2", "4"} if k > 1 else set()) | ({"1"} if k > 2 else set()) | (
        {"0"} if k > 3 else set()
    )


def test_kept_features_give_what_the_whole_network_gives(ctx: LocalContext) -> None:
    method = CFK(lr=0.1, batch_size=8)
    kept = ended(method, of_texts(), ctx, budget=0.4)
    plain = of_texts()
    method.begin(plain)
    del plain.state["features"]
    plain.settle()
    for _ in range(kept.steps):
        method.step(plain)
        plain.settle()
        plain.steps += 1
    for a, b in zip(weights(kept.model).values(), weights(plain.model).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_renewing_everything_by_the_recipe_is_retraining_dropout_and_all(ctx: LocalContext) -> None:
    recipe = Train(
        epochs=2, batch_size=8, lr=0.05, momentum=0.9, weight_decay=5e-4, schedule="constant",
        precision="fp32", channels_last=False,
    )  # fmt: skip
    task = of_texts(recipe=recipe)
    retrained = task.fresh_model()
    fit(retrained, toy_texts.text_set(), RETAINED, recipe, task.seed, ctx)
    ended(EUK(k=99, lr=0.05, batch_size=8), task, ctx, budget=2 * len(RETAINED) / toy_texts.ROWS)
    assert task.retain.drawn == 2 * len(RETAINED)
    assert same(weights(task.model), weights(retrained))


# --- single rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [False, True])
def test_gradients_of_single_texts_are_those_of_a_loop(noise: bool) -> None:
    """Through attention and transformers' own linear layers, whatever a text is padded to."""
    task = of_texts(noise)
    model = task.model.eval()
    batches = list(task.retain.every(32, price=0.0))
    trees = list(per_row(model, batches, label_gradient("cross-entropy")))
    found = {name: torch.cat([tree[name] for tree in trees]) for name in trees[0]}
    exact, row = double(model), 0
    for batch in batches:
        for length, one, label in zip(lengths_of(batch.inputs), *batch, strict=True):
            alone = one[None, :length]
            loss = cross_entropy(exact(alone.double() if noise else alone), label[None])
            grads = torch.autograd.grad(loss, list(exact.parameters()))
            for name, grad in zip(found, grads, strict=True):
                torch.testing.assert_close(found[name][row].double(), grad, rtol=1e-4, atol=1e-6)
            row += 1
    assert row == len(RETAINED)


@pytest.mark.parametrize("noise", [False, True])
def test_ssd_by_batches_of_one_is_ssd_by_rows(noise: bool, ctx: LocalContext) -> None:
    single = ended(SSD(selection=1.0), of_texts(noise), ctx)
    ones = ended(SSD(selection=1.0, fisher="batch", batch_size=1), of_texts(noise), ctx)
    for a, b in zip(single.model.parameters(), ones.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    eights = ended(SSD(selection=1.0, fisher="batch"), of_texts(noise), ctx)
    assert not same(weights(eights.model), weights(ones.model))


# --- heads, checkpoints, null spaces -------------------------------------------------------------


def test_a_head_without_bias_is_solved_for(ctx: LocalContext) -> None:
    """With many steps the head ends at the optimum of the retained rows, and nothing else moves."""
    recipe = Train(precision="fp32", channels_last=False, weight_decay=0.02)
    task = of_texts(recipe=recipe)
    before = weights(task.model)
    ended(NewtonHead(newton_steps=20), task, ctx)
    after = weights(task.model)
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["5.weight"]
    head = task.model[5]  # type: ignore[index]
    batch = toy_texts.text_set().take(RETAINED)
    loss = cross_entropy(task.model.eval()(batch.inputs), batch.labels)
    loss = loss + 0.02 / 2 * head.weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, [head.weight])
    assert gradient.abs().max() < 1e-5


def test_rewind_reads_clean_texts_beside_noised_ones(ctx: LocalContext, tmp_path: Path) -> None:
    task = of_texts(noise=True)
    ended(SCRUB(lr=0.5, batch_size=8, forget_batch_size=4, rewind=True), task, ctx)
    assert task.handed_out is not None or task.steps
    task.save(tmp_path)
    other = of_texts(noise=True)
    other.restore(tmp_path)
    assert same(weights(other.model), weights(task.model))


def test_null_spaces_hold_real_tokens_only() -> None:
    task = of_texts()
    names = layers(task.model)
    assert len(names) == 2 * 4 + 1  # attention and MLP have two each; the head
    rows = len(RETAINED)
    tokens = int(toy_texts.text_set().lengths[RETAINED].sum())
    one = list(task.retain.every(32, price=0.0))
    wide = [batch._replace(inputs=joined([batch.inputs, one[-1].inputs])[: len(batch.labels)])
            for batch in one]  # fmt: skip
    found = [
        layer_inputs(task.model, batches, rows, 10**6, torch.Generator()) for batches in (one, wide)
    ]
    for name in names:
        assert len(found[0][name]) == (rows if name == "5.weight" else tokens)
        torch.testing.assert_close(found[0][name], found[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("noise", [False, True])
def test_unsc_moves_no_answer_of_the_texts_in_its_bases(
    noise: bool, momentum: float, ctx: LocalContext
) -> None:
    """All of the energy of four texts: these keep their logits, the forget set does not."""
    task = of_texts(noise, width=64)
    sample = next(iter(task.retain.every(4, price=0.0, limit=4)))
    forgotten = next(iter(task.forget.every(8, price=0.0)))
    assert int(lengths_of(sample.inputs).sum()) < 64 and is_text(sample.inputs)

    def logits(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = task.model.eval()(inputs)
            return out

    before = weights(task.model)
    kept, lost = logits(sample.inputs), logits(forgotten.inputs)
    method = UNSC(lr=0.03, momentum=momentum, energy=1.0, basis_rows=4, patches=10**6, epochs=12)
    ended(method, task, ctx)
    torch.testing.assert_close(logits(sample.inputs), kept, rtol=0, atol=2e-4)
    assert (logits(forgotten.inputs) - lost).abs().max() > 0.05
    moved = {
        key for key, was in before.items() if not torch.equal(was, task.model.state_dict()[key])
    }
    assert moved <= layers(task.model).keys() and len(moved) >= 8
