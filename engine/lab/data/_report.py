"""What a data set looks like: rows a class, exact duplicates, overlap of train and test."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from engine.lab.data._texts import Texts


def report(arrays: dict[str, np.ndarray], classes: int) -> dict[str, Any]:
    """Counts about `train_x, train_y, test_x, test_y` (uint8 rows of any shape, int64 labels).

    For each part: rows; per_class; duplicates, the rows that equal an earlier row of the part;
    conflicting, the duplicates whose label is not the first such row's.
    overlap: test rows that also are training rows; overlap_conflicting: under another label.
    """
    prints = {part: fingerprints(arrays[f"{part}_x"]) for part in ("train", "test")}
    return _counts(prints, {part: arrays[f"{part}_y"].tolist() for part in prints}, classes)


def report_texts(
    texts: Texts, arrays: Mapping[str, np.ndarray], cut: Mapping[str, int]
) -> dict[str, Any]:
    """The same about texts, equal where all their characters are, and for each part: cut, the texts
    longer than the limit; mean_tokens, of what is left of a text, the end token included.

    `arrays` has their token ids, int32 [N, L], -1 behind the end. dropped: what was not read.
    """
    told = _counts(
        {part: own for part, (own, _) in texts.parts.items()},
        {part: labels.tolist() for part, (_, labels) in texts.parts.items()},
        len(texts.classes),
    )
    for part in texts.parts:
        lengths = (arrays[f"{part}_x"] >= 0).sum(1)
        told[part] |= {"cut": cut[part], "mean_tokens": round(float(lengths.mean()), 3)}
    return told | {"dropped": dict(texts.dropped)}


def _counts(
    prints: Mapping[str, Sequence[Hashable]], labels: Mapping[str, list[int]], classes: int
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    first: dict[str, dict[Hashable, int]] = {}
    for part, own in prints.items():
        pairs = list(zip(own, labels[part], strict=True))
        seen: dict[Hashable, int] = {}
        conflicting = sum(seen.setdefault(key, label) != label for key, label in pairs)
        per_class = [0] * classes
        for label in labels[part]:
            per_class[label] += 1
        told[part] = {
            "rows": len(pairs),
            "per_class": per_class,
            "duplicates": len(pairs) - len(seen),
            "conflicting": conflicting,
        }
        first[part] = seen
        if part == "test":
            train = first["train"]
            shared = [(train[key], label) for key, label in pairs if key in train]
            told["overlap"] = len(shared)
            told["overlap_conflicting"] = sum(a != b for a, b in shared)
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
        if cut := told[part].get("cut"):
            rows = told[part]["rows"]
            found.append(f"{cut} of {rows} {part} texts are longer than max_tokens and were cut")
    return f"data: {'; '.join(found)}." if found else None
