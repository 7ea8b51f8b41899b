"""Gaussian poison: the noise that was stored is the noise that was trained on."""

from __future__ import annotations

import pytest
import torch

from engine.lab.attacks.gaussian import Gaussian
from engine.lab.views import Poison, TrainingSet, random_moves
from tests.lab.toys import toy_pixels

P, STD = 200, 0.31
ROWS = torch.arange(0, 2 * P, 2)


@pytest.fixture(scope="module")
def clean() -> TrainingSet:
    return TrainingSet(*toy_pixels(3 * P, (2, 8, 8)))


@pytest.fixture(scope="module")
def poison(clean: TrainingSet) -> Poison:
    return Gaussian(noise_std=STD).craft(clean, ROWS, seed=5)


def test_stored_minus_base_is_the_noise_bit_for_bit(clean: TrainingSet, poison: Poison) -> None:
    assert poison.inputs.dtype == poison.extras["noise"].dtype == torch.float32
    assert torch.equal(poison.inputs - clean.base(ROWS), poison.extras["noise"])


def test_the_learner_sees_the_stored_rows_and_clean_others(
    clean: TrainingSet, poison: Poison
) -> None:
    data = TrainingSet(clean.pixels, clean.labels, poison)
    everything = torch.arange(len(data))
    seen = data.take(everything)
    others = everything[~torch.isin(everything, ROWS)]
    assert len(data) == len(clean)
    assert torch.equal(seen.inputs[ROWS], poison.inputs)
    assert torch.equal(seen.inputs[others], clean.base(others))
    assert torch.equal(seen.labels, clean.labels)


def test_labels_stay(clean: TrainingSet, poison: Poison) -> None:
    assert torch.equal(poison.labels, clean.labels[ROWS])
    assert torch.equal(poison.rows, ROWS)


def test_poisoned_labels_never_reach_the_clean_set(clean: TrainingSet, poison: Poison) -> None:
    before = clean.labels.clone()
    flipped = Poison(poison.rows, poison.inputs, (poison.labels + 1) % 3)
    poisoned = TrainingSet(clean.pixels, clean.labels, flipped)
    assert torch.equal(clean.labels, before)
    assert torch.equal(poisoned.labels[ROWS], flipped.labels)


def test_rows_beyond_the_last_are_added(clean: TrainingSet, poison: Poison) -> None:
    rows = torch.arange(len(clean), len(clean) + P)
    data = TrainingSet(clean.pixels, clean.labels, Poison(rows, poison.inputs, poison.labels))
    assert len(data) == len(clean) + P
    assert torch.equal(data.take(rows).inputs, poison.inputs)
    assert torch.equal(data.take(rows).labels, poison.labels)
    assert torch.equal(data.take(ROWS).inputs, clean.base(ROWS))


def test_the_noise_has_its_variance_and_no_correlation(poison: Poison) -> None:
    noise = poison.extras["noise"].double() / STD
    count = noise.numel()
    # The sum of squares is chi-square with `count` degrees of freedom: variance 2·count.
    assert abs(float((noise**2).sum()) - count) < 4 * (2 * count) ** 0.5
    assert abs(float(noise.mean())) < 4 / count**0.5
    flat = noise.flatten(1)
    covariance = (flat.T @ flat) / len(flat)
    off = covariance[~torch.eye(len(covariance), dtype=torch.bool)]
    # Entries are about N(0, 1/P); the largest of 16,256 stays below 5.5 standard errors.
    assert float(off.abs().max()) < 5.5 / P**0.5
    assert abs(float((off**2).mean()) * P - 1) < 0.1


def test_the_noise_is_not_clipped(poison: Poison) -> None:
    assert (poison.inputs < 0).any() and (poison.inputs > 1).any()


def test_the_noise_belongs_to_its_seed(clean: TrainingSet, poison: Poison) -> None:
    again = Gaussian(noise_std=STD).craft(clean, ROWS, seed=5)
    other = Gaussian(noise_std=STD).craft(clean, ROWS, seed=6)
    assert torch.equal(again.inputs, poison.inputs)
    assert not (other.extras["noise"] == poison.extras["noise"]).all(dim=(1, 2, 3)).any()


def test_crafting_leaves_the_global_generator_alone(clean: TrainingSet) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Gaussian().craft(clean, ROWS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_leaves_poisoned_rows_alone(clean: TrainingSet, poison: Poison) -> None:
    data = TrainingSet(clean.pixels, clean.labels, poison)
    everything = torch.arange(len(data))
    moves = random_moves(len(data), 2, seed=0)
    moved = data.take_augmented(everything, moves, 2)
    untouched = TrainingSet(clean.pixels, clean.labels).take_augmented(everything, moves, 2)
    others = everything[~torch.isin(everything, ROWS)]
    assert torch.equal(moved.inputs[ROWS], poison.inputs)
    assert torch.equal(moved.inputs[others], untouched.inputs[others])
    assert torch.equal(moved.labels, clean.labels)
    assert not torch.equal(untouched.inputs, clean.base(everything))


def test_movable_poison_is_augmented_like_the_rest(clean: TrainingSet, poison: Poison) -> None:
    movable = Poison(poison.rows, poison.inputs, poison.labels, movable=True)
    data = TrainingSet(clean.pixels, clean.labels, movable)
    moves = torch.tensor([[2, 2, 1]]).expand(P, 3)  # no shift, mirrored
    assert torch.equal(data.take_augmented(ROWS, moves, 2).inputs, poison.inputs.flip(3))
