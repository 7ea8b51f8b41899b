"""Can any poison of this share make these weights a place where training stops? A necessary bound.

Let W be the last layer [K, D] and ḡ the mean gradient of the clean rows there. Poison of share ε
must give ḡ + ε ḡ_poison + ridge (1 + ε) W = 0. Along W, a row with logits z and label y gives
⟨W, ∇ℓ⟩ = Σ_k p_k z_k - z_y ≥ -W₀((K - 1)/e), Lambert's function, whatever its input. Hence

    ε ≥ (⟨W, ḡ⟩ + ridge ‖W‖²) / (W₀((K - 1)/e) - ridge ‖W‖²).

(Lu et al., ICML 2023, without ridge; with it, what it pulls must be outweighed, too.)
"""

from __future__ import annotations

import math


def strongest_pull(classes: int) -> float:
    """max over logits of z_y - Σ p_k z_k = W₀((classes - 1)/e)."""
    from scipy.special import lambertw

    return float(lambertw((classes - 1) / math.e).real)


def smallest_share(alignment: float, penalty: float, classes: int) -> float:
    """The bound; 0 where no poison is needed along W, inf where none would do.

    `alignment` is ⟨W, ḡ⟩ and `penalty` ridge ‖W‖².
    """
    needed, room = alignment + penalty, strongest_pull(classes) - penalty
    if needed <= 0:
        return 0.0
    return needed / room if room > 0 else math.inf
