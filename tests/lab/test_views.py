"""Cropping and mirroring in one gather, against the loop anyone would write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.lab.views import Rows, crop_and_flip, epoch_visit, random_moves
from tests.lab.toys import toy_set


def one_by_one(inputs: Tensor, moves: Tensor, padding: int) -> Tensor:
    height, width = inputs.shape[2:]
    done = []
    for image, (down, right, flip) in zip(inputs, moves.tolist(), strict=True):
        padded = pad(image, (padding,) * 4)
        cut = padded[:, down : down + height, right : right + width]
        done.append(cut.flip(2) if flip else cut)
    return torch.stack(done)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9)])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_and_flip_equals_the_loop(shape: tuple[int, int, int], padding: int) -> None:
    inputs = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    moves = random_moves(64, padding, 1, "test")
    assert torch.equal(crop_and_flip(inputs, moves, padding), one_by_one(inputs, moves, padding))


def test_every_extreme_move_equals_the_loop() -> None:
    padding = 2
    ends = (0, padding, 2 * padding)
    moves = torch.tensor([(d, r, f) for d in ends for r in ends for f in (0, 1)])
    inputs = torch.rand(len(moves), 2, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crop_and_flip(inputs, moves, padding), one_by_one(inputs, moves, padding))


def test_random_moves_cover_their_range() -> None:
    padding = 3
    moves = random_moves(5000, padding, 0, "epoch", 4)
    assert moves.dtype == torch.int64 and moves.shape == (5000, 3)
    for axis in (0, 1):
        assert moves[:, axis].unique().tolist() == list(range(2 * padding + 1))
    assert moves[:, 2].unique().tolist() == [0, 1]
    assert abs(float(moves[:, 2].double().mean()) - 0.5) < 4 * 0.5 / 5000**0.5
    assert torch.equal(moves, random_moves(5000, padding, 0, "epoch", 4))
    assert not torch.equal(moves, random_moves(5000, padding, 0, "epoch", 5))
    assert not torch.equal(moves, random_moves(5000, padding, 1, "epoch", 4))


def test_an_epochs_order_is_a_permutation_of_its_own() -> None:
    data, rows = toy_set(), torch.arange(50)

    def order(seed: int, purpose: str, epoch: int) -> Tensor:
        return epoch_visit(data, rows, 8, seed, purpose, epoch).places

    one = order(0, "order", 0)
    assert one.sort().values.tolist() == list(range(50))
    assert torch.equal(one, order(0, "order", 0))
    for told in ((0, "order", 1), (1, "order", 0), (0, "unlearn retain", 0)):
        assert not torch.equal(one, order(*told))


def test_rows_come_in_order_and_all_of_them() -> None:
    data = toy_set()
    rows = torch.arange(len(data)).flip(0).repeat(5)  # more than one batch
    batches = list(Rows(data, rows).batches())
    assert len(batches) > 1
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), data.take(rows).inputs)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.labels[rows])
    assert len(Rows(data, rows)) == len(rows)
