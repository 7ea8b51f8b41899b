"""Files of initial weights: what decides a result is their content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from engine.spec.experiment import Train


def weights_digest(train: Train) -> str | None:
    """sha256 of the file of initial weights. Raises BadInput unless it is a safetensors file."""
    if train.start_from is None:
        return None
    path = Path(train.start_from).expanduser()
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 1 << 26 else None
            if not isinstance(header, dict):
                raise ValueError
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"train.from = {train.start_from!r}: {error.strerror}.") from None
    except ValueError:
        raise BadInput(f"train.from = {train.start_from!r}: is not a safetensors file.") from None
