"""What label attacks share: inputs are left alone, labels change hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def swap_two(labels: Tensor, first: int, second: int) -> Tensor:
    """`labels` int64 [P] with two classes exchanged; twice is none. A new tensor."""
    import torch

    swapped = torch.where(labels == first, second, labels)
    return torch.where(labels == second, first, swapped)  # asks the old labels: no class is lost


def partners(labels: Tensor, seed: int) -> Tensor:
    """int64 [P]: a random partner of another class for every row, whose partner it is in turn.

    Rows for which there is none (more than half are of one class, or their number is odd) are
    their own. The same labels and seed give the same pairs, on every device.
    """
    import torch

    from engine.lab.randomness import permutation

    told = labels.tolist()
    order = permutation(len(told), seed, "partners").tolist()
    pairs: list[tuple[int, int]] = []
    left: list[int] = []
    for row in order:  # as they come, each with the first one waiting of another class
        other = next((n for n, waiting in enumerate(left) if told[waiting] != told[row]), None)
        if other is None:
            left.append(row)
        else:
            pairs.append((left.pop(other), row))
    # All left are of one class: break up pairs of two other classes to take two of them in.
    for n, (a, b) in enumerate(pairs):
        if len(left) < 2:
            break
        if told[left[0]] not in (told[a], told[b]):
            pairs[n] = a, left.pop()
            pairs.append((b, left.pop()))
    found = torch.arange(len(told))
    for a, b in pairs:
        found[a], found[b] = b, a
    return found.to(labels.device)
