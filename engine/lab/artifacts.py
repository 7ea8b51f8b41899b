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


def load_tensors(path: Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path, device=device)


def save_json(folder: Path, name: str, value: Any) -> None:
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
