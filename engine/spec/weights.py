"""Files of weights that a preset names: their content decides results, not where they lie."""

from __future__ import annotations

import hashlib
import json

from engine.spec.errors import BadInput
from engine.spec.places import expanded


def weights_digest(path: str | None, key: str = "train.from") -> str | None:
    """sha256 of a file of weights, None without one; `key` is the preset's.

    Raises BadInput unless it is a safetensors file.
    """
    if path is None:
        return None
    try:
        with expanded(path, key).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 1 << 26 else None
            if not isinstance(header, dict):
                raise ValueError
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{key} = {path!r}: {error.strerror}.") from None
    except ValueError:
        raise BadInput(f"{key} = {path!r}: is not a safetensors file.") from None
