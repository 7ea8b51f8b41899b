"""A network as a chain of units: layers, or residual and transformer blocks. For methods that split it.

Every model of ours is an `nn.Sequential`, perhaps of `nn.Sequential`s; the units are what is left
when these are unfolded. k counts the units that have weights; normalisation that stands alone in
the chain (the one behind a stem) belongs to the unit before it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def units(model: nn.Module) -> list[nn.Module]:
    """The chain: calling one after the other equals calling the model."""
    if not isinstance(model, nn.Sequential):
        return [model]
    return [unit for child in model for unit in units(child)]


def weighty(chain: list[nn.Module]) -> list[int]:
    """Places in the chain of the units that k counts."""
    return [
        place
        for place, unit in enumerate(chain)
        if not isinstance(unit, NORMS) and any(True for _ in unit.parameters())
    ]


def split(model: nn.Module, k: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """(prefix, tail): the tail begins with the k-th weighty unit from the end; all if k is larger."""
    chain = units(model)
    places = weighty(chain)
    start = places[-k] if 0 < k < len(places) else 0
    return chain[:start], chain[start:]


def tail_share(prefix: list[nn.Module], tail: list[nn.Module], example: Tensor) -> float:
    """The tail's share of the network's forward FLOPs, on one example batch; changes nothing."""
    before, middle = forward_flops(prefix, example)
    after, _ = forward_flops(tail, middle)
    return after / (before + after) if before + after else 1.0


def forward_flops(chain: list[nn.Module], inputs: Any) -> tuple[int, Any]:
    """What a pass in eval mode costs, alike on every device, and what comes out; changes nothing."""
    modes = [(m, m.training) for unit in chain for m in unit.modules()]
    for unit in chain:
        unit.eval()  # or BatchNorm would take the example into its statistics
    # Attention in one kernel is not counted everywhere (on CPUs it is free); as products it is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outputs = run(chain, inputs)
    for module, training in modes:
        module.training = training
    return counter.get_total_flops(), outputs


def run(chain: list[nn.Module], inputs: Any) -> Any:
    """What comes out of the chain: a tensor, or between a transformer's blocks what these hand on."""
    for unit in chain:
        inputs = unit(inputs)
    return inputs
