"""A network as a chain of units: layers, or residual and transformer blocks. For methods that split it.

Every model of ours is an `nn.Sequential`, perhaps of `nn.Sequential`s; the units are what is left
when these are unfolded. k counts the units that have weights; normalisation that stands alone in
the chain (the one behind a stem) belongs to the unit before it.
"""

from __future__ import annotations

from torch import Tensor, nn
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
    costs = []
    modes = [(m, m.training) for unit in prefix + tail for m in unit.modules()]
    for unit in prefix + tail:
        unit.eval()  # or BatchNorm would take the example into its statistics
    for part in (prefix, tail):
        with FlopCounterMode(display=False) as counter:
            example = run(part, example)
        costs.append(counter.get_total_flops())
    for module, training in modes:
        module.training = training
    whole = sum(costs)
    return costs[1] / whole if whole else 1.0


def run(chain: list[nn.Module], inputs: Tensor) -> Tensor:
    for unit in chain:
        inputs = unit(inputs)
    return inputs
