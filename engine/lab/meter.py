"""Compute, in training-epoch equivalents: the only currency in which methods are compared.

1 TEE = N rows × (forward + backward for activations + backward for weights), a third each, where
N is the number of rows of the original training.
"""

from __future__ import annotations

FORWARD = 1 / 3
TRAIN = 1.0
# The inputs' gradient of a function of the weights' gradient: the three products of a training step,
# and a backward pass through them that needs five more.
SECOND_ORDER = 8 / 3


def tail(share: float) -> float:
    """Price of training only the last `share` of the network (by FLOPs): whole forward, tail back."""
    return FORWARD + share * (TRAIN - FORWARD)


class BudgetSpent(Exception):
    """The next draw would exceed the budget. `needed` is what it would have brought the meter to."""

    def __init__(self, needed: float) -> None:
        super().__init__(f"{needed:.4g} TEE")
        self.needed = needed


class Meter:
    """Counts what a method spends and refuses what it cannot afford.

    A step's charges are pending until `settle`; `refund` forgets them, so that a step refused at
    one budget can be taken again, identically, at a larger one.
    """

    def __init__(self, rows: int, limit: float = float("inf"), spent: float = 0.0) -> None:
        self.rows = rows
        self.limit = limit
        self.spent = spent  # sample-passes, settled
        self.pending = 0.0

    @property
    def tee(self) -> float:
        return self.spent / self.rows

    def charge(self, samples: float, price: float = TRAIN) -> None:
        """Charge `samples` × `price`. Raises BudgetSpent, having charged nothing, if over the limit."""
        after = self.spent + self.pending + samples * price
        # A millionth of a sample of slack: sums of thirds must not lose a step to rounding.
        if after > self.limit * self.rows + 1e-6:
            raise BudgetSpent(after / self.rows)
        self.pending += samples * price

    def settle(self) -> None:
        self.spent += self.pending
        self.pending = 0.0

    def refund(self) -> None:
        self.pending = 0.0
