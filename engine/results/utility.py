"""What a model lost of its test accuracy beside retraining, and whether that is shown.

A loss of more than `UTILITY_MARGIN` wrecks a model, and nothing is *removed* from one that may have
lost as much. Both are tests over seeds, whatever the audit: one-sided, paired with retraining.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.results import statistics
from engine.results.evidence import ALPHA, ROUNDING, Values, by_seed, smallest_step

UTILITY_AUDIT = "accuracy"
UTILITY_METRIC = "test_accuracy"
UTILITY_MARGIN = 0.02  # of test accuracy
COARSEST = 0.001  # the resolution of an accuracy whose rows nobody counted is at most this


@dataclass(frozen=True, slots=True)
class Loss:
    """Test accuracy of retraining minus the model's: mean over `n` shared seeds.

    `lo` and `hi` are the one-sided 95 % bounds, together a 90 % interval; `p` is of a loss beyond
    the margin, `p_adjusted` after Hommel's correction over the models of an attack. None with a
    single seed.
    """

    mean: float
    lo: float | None
    hi: float | None
    n: int
    p: float | None
    p_adjusted: float | None = None

    def seeds_to_exclude(self, margin: float) -> int | None:
        """Seeds (in all) that would show a loss below `margin` with 80 % power, if the loss and the
        spread seen are the true ones; None where it is not below, and with a single seed."""
        if self.hi is None or self.mean >= margin:
            return None
        arm = self.hi - self.mean
        sd = arm * math.sqrt(self.n) / statistics.t_quantile(1 - ALPHA, self.n - 1)
        room = margin - self.mean
        found = statistics.seeds_for_difference(room, sd, known=False, alpha=2 * ALPHA)
        return None if found is None else max(found, self.n + 1)

    def __str__(self) -> str:
        """In points: "loss of accuracy 0.4 points (90 % -0.9 to 1.7)"."""
        told = f"loss of accuracy {100 * self.mean + 0.0:.1f} points"
        if self.lo is None or self.hi is None:
            return told
        return f"{told} (90 % {100 * self.lo:.1f} to {100 * self.hi:.1f})"


def loss(
    model: Values, reference: Values, margin: float = UTILITY_MARGIN, step: float = 0.0
) -> Loss | None:
    """None without a shared seed. A deviation is taken to be no smaller than `step`."""
    losses = [other - own for own, other in by_seed(model, reference)]
    if not losses:
        return None
    centre, n = statistics.mean(losses), len(losses)
    if n == 1:
        return Loss(centre, None, None, 1, None)
    sd = max(statistics.standard_deviation(losses), step)
    arm = statistics.t_quantile(1 - ALPHA, n - 1) * sd / n**0.5
    p = statistics.t_above(losses, margin + ROUNDING, step)
    return Loss(centre, centre - arm, centre + arm, n, p)


def losses(
    models: Sequence[Values],
    reference: Values | None,
    tested: Sequence[bool],
    margin: float = UTILITY_MARGIN,
) -> list[Loss | None]:
    """The loss of each model of one attack, in order; those `tested` are corrected for one another.

    Accuracies come in steps of a row; how many there are is not told, so it is read off the values.
    """
    if reference is None:
        return [None] * len(models)
    seen = smallest_step(value for model in (*models, reference) for value in model.values())
    step = 0.0 if seen is None else min(seen, COARSEST)
    found = [loss(model, reference, margin, step) for model in models]
    numbered = {
        index: one.p
        for index, (one, counts) in enumerate(zip(found, tested, strict=True))
        if counts and one is not None and one.p is not None
    }
    adjusted = dict(zip(numbered, statistics.hommel(list(numbered.values())), strict=True))
    return [
        one if one is None or index not in adjusted else _corrected(one, adjusted[index])
        for index, one in enumerate(found)
    ]


def _corrected(one: Loss, p: float) -> Loss:
    return Loss(one.mean, one.lo, one.hi, one.n, one.p, p)
