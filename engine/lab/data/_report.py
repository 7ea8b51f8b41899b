"""What a data set looks like: rows a class, exact duplicates, overlap of train and test."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def report(arrays: dict[str, np.ndarray], classes: int) -> dict[str, Any]:
    """Counts about `train_x, train_y, test_x, test_y` (uint8 rows of any shape, int64 labels).

    For each part: rows; per_class; duplicates, the rows that equal an earlier row of the part;
    conflicting, the duplicates whose label is not the first such row's.
    overlap: test rows that also are training rows; overlap_conflicting: under another label.
    """
    told: dict[str, Any] = {}
    first: dict[str, dict[bytes, int]] = {}
    for part in ("train", "test"):
        pixels, labels = arrays[f"{part}_x"], arrays[f"{part}_y"].tolist()
        prints = fingerprints(pixels)
        seen: dict[bytes, int] = {}
        before = [seen.setdefault(key, label) for key, label in zip(prints, labels, strict=True)]
        per_class = [0] * classes
        for label in labels:
            per_class[label] += 1
        told[part] = {
            "rows": len(labels),
            "per_class": per_class,
            "duplicates": len(labels) - len(seen),
            "conflicting": sum(a != b for a, b in zip(before, labels, strict=True)),
        }
        if part == "test":
            shared = [
                (first["train"][key], label)
                for key, label in zip(prints, labels, strict=True)
                if key in first["train"]
            ]
            told["overlap"] = len(shared)
            told["overlap_conflicting"] = sum(a != b for a, b in shared)
        first[part] = seen
    return told


def fingerprints(rows: np.ndarray) -> list[bytes]:
    """16 bytes for each row, equal where content, shape and type are."""
    import numpy as np

    start = hashlib.blake2b(f"{rows.dtype} {rows.shape[1:]}".encode(), digest_size=16)
    prints = []
    for row in np.ascontiguousarray(rows):
        seen = start.copy()
        seen.update(row)
        prints.append(seen.digest())
    return prints


def warning(told: dict[str, Any]) -> str | None:
    """One line for people when a report shows something that spoils results."""
    found = []
    if told["overlap"]:
        other = told["overlap_conflicting"]
        also = f" ({other} under another label)" if other else ""
        found.append(f"{told['overlap']} of {told['test']['rows']} test rows are in train{also}")
    for part in ("train", "test"):
        if told[part]["conflicting"]:
            found.append(
                f"{told[part]['conflicting']} of {told[part]['duplicates']} duplicates in {part} "
                "have another label than the first copy"
            )
    return f"data: {'; '.join(found)}." if found else None
