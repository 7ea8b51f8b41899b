"""What the layers of a network read, and orthonormal bases of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from engine.lab.texts import is_text, on_token

if TYPE_CHECKING:
    from engine.lab.views import Batch


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """Weight name → layer, for every linear layer and ungrouped convolution."""
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or _plain_convolution(module) or _inputs_first(module)
    }


def columns(layer: nn.Module, inputs: Tensor) -> Tensor:
    """[M, d]: the vectors that the layer's weight, flattened to [outputs, d], multiplies."""
    if isinstance(layer, nn.Conv2d):
        padding = layer.padding
        if isinstance(padding, str):  # "same" or "valid"
            sides = layer._reversed_padding_repeated_twice
            inputs, padding = nn.functional.pad(inputs, sides), (0, 0)
        patches = unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return inputs.flatten(0, -2)


def layer_inputs(
    model: nn.Module,
    batches: Iterable[Batch],
    rows: int,
    most: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weight name → float32 [M, d], M about `most` at most, chosen at random, for each of `layers` that
    is called as a module; `rows` rows are expected in all. What lies behind a text's end is left out.

    Recorded where the layers are called, so that shortcuts and branches need no index of layers.
    """
    names = {layer: name for name, layer in layers(model).items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in names.values()}
    batch_rows = 0
    tokens: Tensor | None = None  # bool [B, L], of a batch of texts

    def keep(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        found = columns(layer, inputs[0].detach())
        if tokens is not None and inputs[0].shape[:-1] == tokens.shape:
            found = found[tokens.flatten()]
        quota = max(1, -(-most * batch_rows // rows))
        if quota < len(found):
            chosen = torch.randperm(len(found), generator=generator, device=found.device)[:quota]
            found = found[chosen]
        seen[names[layer]].append(found.float())

    hooks = [layer.register_forward_pre_hook(keep) for layer in names]
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                batch_rows = len(batch.labels)
                tokens = on_token(batch.inputs) if is_text(batch.inputs) else None
                model(batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(found) for name, found in seen.items() if found}


def felt(layer: nn.Module, gradient: Tensor, directions: Tensor) -> Tensor:
    """The part of a weight's gradient that changes what the layer answers to inputs within the span
    of `directions` [d, k]."""
    if _inputs_first(layer):
        return directions @ (directions.T @ gradient)
    inside = (gradient.flatten(1) @ directions) @ directions.T
    return inside.reshape(gradient.shape)


def _inputs_first(module: nn.Module) -> bool:
    """Whether it is the linear layer of transformers' GPT-2, whose weight is [inputs, outputs]."""
    return type(module).__name__ == "Conv1D" and module.__module__.startswith("transformers.")


def _plain_convolution(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d):
        return False
    return module.groups == 1 and module.padding_mode == "zeros"


def basis(inputs: Tensor, energy: float) -> Tensor:
    """float32 [d, k], orthonormal: the fewest leading directions of `inputs` [M, d] that hold at
    least `energy` of its squared norm; directions below rounding are never counted."""
    wide = inputs.double()
    gram = wide @ wide.T if len(wide) < wide.shape[1] else wide.T @ wide
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    before = values.cumsum(0) - values
    needed = (before < energy * values.sum()) & (values > 1e-11 * values[0])
    vectors = vectors[:, : int(needed.sum())]
    if len(wide) < wide.shape[1]:  # eigenvectors of the small side, carried over to the inputs'
        vectors = torch.linalg.qr(wide.T @ vectors).Q
    found: Tensor = vectors.float()
    return found
