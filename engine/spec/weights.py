"""Files of weights that a preset names: their content decides results, not where they lie."""

from __future__ import annotations

import json

from engine.spec.bounds import WEIGHTS
from engine.spec.errors import BadInput, cut
from engine.spec.files import head_of, sha256_of
from engine.spec.places import expanded

LARGEST_HEADER = (
    1 << 25
)  # bytes; safetensors itself reads 100 MB, of which none of a model comes near


def weights_digest(path: str | None, key: str = "train.from") -> str | None:
    """sha256 of a file of weights, None without one; `key` is the preset's.

    Raises BadInput unless it is a safetensors file.
    """
    if path is None:
        return None
    where = f"{key} = {cut(repr(path))}"
    file = expanded(path, key)
    size = int.from_bytes(head_of(file, where, 8, WEIGHTS), "little")
    try:
        if size > LARGEST_HEADER:
            raise ValueError
        header = json.loads(head_of(file, where, 8 + size, WEIGHTS)[8:])
        if not isinstance(header, dict) or not all(map(_describes, header.items())):
            raise ValueError
    except BadInput:
        raise
    except (ValueError, RecursionError):
        raise BadInput(f"{where}: is not a safetensors file.") from None
    return sha256_of(file, where, WEIGHTS)


def _describes(entry: tuple[str, object]) -> bool:
    """Whether a header's entry is that of a tensor, or of what the writer says beside them."""
    name, told = entry
    if not isinstance(told, dict):
        return False
    if name == "__metadata__":
        return all(isinstance(value, str) for value in told.values())
    return told.keys() == {"dtype", "shape", "data_offsets"} and all(
        isinstance(told[part], list) and all(type(one) is int and one >= 0 for one in told[part])
        for part in ("shape", "data_offsets")
    )
