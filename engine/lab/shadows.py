"""Non-members in the members' form (decoys), and the halves that shadow models learn.

Members are the poisoned rows. A decoy is a validation row under the same attack, so a model that
learned from neither cannot tell them apart: poison and validation rows are drawn from one set.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.lab.randomness import permutation, stream
from engine.lab.selection import qualified
from engine.lab.views import Poison, TrainingSet
from engine.spec.component import Attack


def decoys_of(
    attack: Attack,
    poison: Poison,
    sources: Sequence[tuple[TrainingSet, Tensor]],
    seed: int,
    limit: int,
) -> list[Poison]:
    """Up to `limit` decoys from (clean data, rows int64) sources, the first source's first.

    One `Poison` a source; its rows are those the attack's rule allows, in a random order. The same
    seed and limit give the same decoys.
    """
    found = []
    for number, (data, rows) in enumerate(sources):
        fit = torch.from_numpy(
            qualified(attack.selection(), rows.cpu().numpy(), data.labels.cpu().numpy())
        )
        chosen = fit[permutation(len(fit), seed, "decoys", number)[:limit]].to(rows.device)
        limit -= len(chosen)
        found.append(attack.decoys(data, chosen, poison, stream(seed, "decoys", number)))
    return found


def halves(seed: int, index: int, members: int, decoys: int) -> Tensor:
    """bool [members + decoys]: what shadow `index` learned of the poison, then of the decoys.

    Shadows 2j and 2j + 1 share them out between them, so every row is in half of all shadows.
    """
    drawn = []
    for name, count in (("poison", members), ("decoys", decoys)):
        rank = permutation(count, seed, "shadow", index // 2, name)
        drawn.append((rank < count // 2) == (index % 2 == 0))
    return torch.cat(drawn)


def joined(poison: Poison, decoys: Poison) -> Poison:
    """Both as one poison of a training set, without what audits keep."""
    return Poison(
        torch.cat([poison.rows, decoys.rows]),
        torch.cat([poison.inputs, decoys.inputs]),
        torch.cat([poison.labels, decoys.labels]),
        movable=poison.movable,
    )
