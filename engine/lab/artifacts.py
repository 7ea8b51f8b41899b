"""Tensors as safetensors, everything else as JSON: nothing here can execute what it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def save_tensors(folder: Path, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write `tensors` to folder/name. Equal tensors give equal bytes; shared storage is copied.

    Raises OSError when the disk does not take them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        save_file(plain, folder / name)
    except SafetensorError as problem:
        raise OSError(f"{name}: {problem}") from problem


ALIGNED = 64  # bytes; where torch's own allocations begin


def load_tensors(path: Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The tensors of a file, each where a freshly computed one would lie.

    In the file they follow each other without gaps. Matrix products of the same numbers from such a
    place differ in their last bits, so what goes on from a file would not be what goes on without.
    """
    from safetensors.torch import load_file

    loaded = load_file(path, device=device)
    return {k: v.clone() if v.data_ptr() % ALIGNED else v for k, v in loaded.items()}


def save_json(folder: Path, name: str, value: Any) -> None:
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
