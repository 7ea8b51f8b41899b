"""Random numbers that depend on what they are for and on the step, never on how one got there.

A stage resumed at step 500 draws what an undisturbed one draws at step 500, because no generator
lives longer than a step or an epoch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def stream(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose; different purposes or seeds give unrelated streams."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *purpose: str | int, device: str = "cpu") -> torch.Generator:
    import torch

    return torch.Generator(device=device).manual_seed(stream(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    import numpy as np

    return np.random.Generator(np.random.Philox(stream(seed, *purpose)))


def permutation(count: int, seed: int, *purpose: str | int) -> torch.Tensor:
    """int64 [count] on the CPU, so that every device sees the same order."""
    import torch

    return torch.randperm(count, generator=torch_generator(seed, *purpose))
