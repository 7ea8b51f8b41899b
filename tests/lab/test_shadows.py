"""Decoys look like the poison and nobody learns them; every row is in half of the shadows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.lab.attacks.badnets import BadNets
from engine.lab.attacks.gaussian import Gaussian
from engine.lab.selection import choose, qualified
from engine.lab.shadows import decoys_of, halves, joined
from engine.lab.views import Poison, TrainingSet
from tests.lab.toys import POISONED, toy_pixels, toy_set

VALIDATION = torch.arange(1, 48, 2)


def clean_set() -> TrainingSet:
    return toy_set(poisoned=False)


def some_decoys(attack: Gaussian | BadNets, limit: int = 9, seed: int = 0) -> tuple[Poison, Poison]:
    clean = clean_set()
    poison = attack.craft(clean, POISONED, seed=0)
    (found,) = decoys_of(attack, poison, [(clean, VALIDATION)], seed, limit)
    return poison, found


@pytest.mark.parametrize(("members", "decoys"), [(8, 6), (7, 5), (2, 0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_is_in_half_of_the_shadows(members: int, decoys: int, seed: int) -> None:
    drawn = torch.stack([halves(seed, i, members, decoys) for i in range(10)])
    assert drawn.shape == (10, members + decoys)
    assert (drawn.sum(0) == 5).all()
    assert torch.equal(drawn[0::2], ~drawn[1::2])
    for part, count in ((drawn[:, :members], members), (drawn[:, members:], decoys)):
        assert set(part.sum(1).tolist()) <= {count // 2, count - count // 2}
    if members > 2:
        assert len({tuple(row.tolist()) for row in drawn}) == 10


def test_more_shadows_leave_the_first_ones_alone() -> None:
    assert torch.equal(halves(3, 5, 20, 10), halves(3, 5, 20, 10))
    assert not torch.equal(halves(3, 5, 20, 10), halves(4, 5, 20, 10))


def test_gaussian_decoys_carry_fresh_noise_of_the_same_size() -> None:
    attack = Gaussian(noise_std=0.3)
    poison, decoys = some_decoys(attack, limit=24)
    noise = decoys.inputs - clean_set().base(decoys.rows)
    count = noise.numel()
    assert abs(float(noise.var() / 0.3**2) - 1) < 5 * (2 / count) ** 0.5
    cosine = torch.cosine_similarity(
        noise.flatten(1)[:, None], poison.extras["noise"].flatten(1)[None], dim=2
    )
    assert cosine.abs().max() < 6 / noise[0].numel() ** 0.5
    assert torch.equal(decoys.labels, clean_set().labels[decoys.rows])


def test_trigger_decoys_carry_the_trigger_and_the_target() -> None:
    attack = BadNets(size=2, target=1)
    _, decoys = some_decoys(attack, limit=24)
    clean = clean_set()
    assert (decoys.labels == 1).all()
    assert (clean.labels[decoys.rows] != 1).all(), "rows of the target class are never poisoned"
    differ = (decoys.inputs != clean.base(decoys.rows)).any(0)
    assert int(differ.sum()) <= 4 and (decoys.inputs[..., -2:, -2:] == 1).all()


def test_decoys_are_validation_rows_then_test_rows_up_to_the_limit() -> None:
    clean, attack = clean_set(), Gaussian(noise_std=0.3)
    poison = attack.craft(clean, POISONED, seed=0)
    pixels, labels = toy_pixels(60)
    test = TrainingSet(pixels, labels)
    sources = [(clean, VALIDATION), (test, torch.arange(60))]
    first, second = decoys_of(attack, poison, sources, 0, limit=30)
    assert sorted(first.rows.tolist()) == VALIDATION.tolist()
    assert len(second.rows) == 6 == len(set(second.rows.tolist()))
    few, none = decoys_of(attack, poison, sources, 0, limit=5)
    assert few.rows.tolist() == first.rows[:5].tolist() and len(none.rows) == 0


def test_decoys_are_the_same_every_time() -> None:
    attack = Gaussian(noise_std=0.3)
    one, other = (some_decoys(attack, seed=4)[1] for _ in range(2))
    assert torch.equal(one.rows, other.rows) and torch.equal(one.inputs, other.inputs)
    assert not torch.equal(one.rows, some_decoys(attack, seed=5)[1].rows)


def test_joined_poison_is_what_each_part_is() -> None:
    poison, decoys = some_decoys(BadNets(size=2))
    clean = clean_set()
    both = TrainingSet(clean.pixels, clean.labels, joined(poison, decoys))
    for part in (poison, decoys):
        seen = both.take(part.rows)
        assert torch.equal(seen.inputs, part.inputs) and torch.equal(seen.labels, part.labels)


@pytest.mark.parametrize(
    "rule", [{"share": 0.2}, {"share": 0.2, "not": 1}, {"share": 0.1, "only": 1}]
)
def test_the_control_is_as_many_rows_by_the_same_rule_and_none_of_the_poison(
    rule: dict[str, object],
) -> None:
    labels = np.arange(60) % 3
    rows = np.arange(3, 57)
    poison = choose(rule, rows, labels, seed=2)
    control = choose(rule | {"control": True}, rows, labels, seed=2)
    assert len(control) == len(poison) > 0
    assert not set(control) & set(poison)
    assert set(control) <= set(qualified(rule, rows, labels))


def test_half_a_rule_of_two_classes_from_either() -> None:
    labels = np.arange(60) % 3
    rule = {"share": 0.25, "each": [0, 2], "paired": True}
    chosen = choose(rule, np.arange(60), labels, seed=1)
    assert np.bincount(labels[chosen], minlength=3).tolist() == [7, 0, 7]  # .25 of 60, made even
