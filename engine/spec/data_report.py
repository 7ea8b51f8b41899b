"""What a data set looks like, for people: what was read and how, rows a class, exact duplicates,
overlap of train and test.

A report is plain JSON. Planning knows a part of it (`DataInfo.report`: what headers and one pass
over the files tell); the data stage adds the counts that need every row and keeps the whole in its
`data.json`, so that runs whose data were cached or imported tell the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:
    import numpy as np


class Part(TypedDict, total=False):
    """Of the training or the test rows. `per_class` counts rows, in the order of the classes.

    duplicates: rows that equal an earlier row of the part; conflicting: those of them whose label is
    not the first such row's. Of texts: cut, those longer than the limit; mean_tokens, of what is
    left of a text, the end token included.
    """

    rows: int
    per_class: list[int]
    duplicates: int
    conflicting: int
    cut: int
    mean_tokens: float


class Column(TypedDict, total=False):
    """A column of a table, the label's left out.

    `values` are the categories of a categorical column; `low` and `high` the range of a numeric one,
    in the file's own unit. `gaps` counts cells without a value; `filled` is what stands in them,
    such as "mean 38.6" (of the training rows), absent where there are none.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    values: list[str]
    low: float
    high: float
    gaps: int
    filled: str


class DataReport(TypedDict, total=False):
    """A key that is absent is not known (yet), which is not zero.

    overlap: test rows that also are training rows; overlap_conflicting: under another label.
    dropped: why rows of the files were left out → how many. read: how the files were read where
    that is not plain from them, a sentence each ("path: semicolons between cells"). warnings: what
    may spoil results, a sentence each. sample: the first rows as the files have them, cell by cell
    under `sample_names`. shape: of what a model is given, as in `DataInfo`.
    """

    kind: str
    shape: list[int]
    classes: list[str]
    train: Part
    test: Part
    overlap: int
    overlap_conflicting: int
    columns: list[Column]
    dropped: dict[str, int]
    read: list[str]
    warnings: list[str]
    sample_names: list[str]
    sample: list[list[str]]


def report(arrays: dict[str, np.ndarray], classes: int) -> dict[str, Any]:
    """Counts about `train_x, train_y, test_x, test_y` (uint8 rows of any shape, int64 labels).

    For each part: rows; per_class; duplicates, the rows that equal an earlier row of the part;
    conflicting, the duplicates whose label is not the first such row's.
    overlap: test rows that also are training rows; overlap_conflicting: under another label.
    """
    prints = {part: fingerprints(arrays[f"{part}_x"]) for part in ("train", "test")}
    return counted(prints, {part: arrays[f"{part}_y"].tolist() for part in prints}, classes)


def counted(
    prints: Mapping[str, Sequence[Hashable]], labels: Mapping[str, list[int]], classes: int
) -> dict[str, Any]:
    """The counts of a report; rows are equal where their prints are."""
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


def without_rows(report: DataReport) -> DataReport:
    """What may leave the machine with a plan, an archive or a page: no row of anybody's data."""
    told = {k: v for k, v in report.items() if k not in ("sample", "sample_names")}
    return cast(DataReport, told)


def merged(known: DataReport, counts: Mapping[str, Any]) -> DataReport:
    """What planning knew, and the counts of all rows with what they warn of."""
    before = cast(dict[str, Any], known)
    parts = {part: {**before.get(part, {}), **counts[part]} for part in ("train", "test")}
    warnings = [*known.get("warnings", []), *filter(None, [warning(dict(counts))])]
    return cast(DataReport, {**known, **counts, **parts, "warnings": warnings})


def warnings_in(report: Mapping[str, Any]) -> list[str]:
    """What a report warns of; of one of before, which has no such key, what its counts tell."""
    if "warnings" in report:
        told = report["warnings"]
        return list(told) if isinstance(told, list) else []
    try:
        return list(filter(None, [warning(dict(report))]))
    except KeyError:  # counts that nobody has made yet
        return []


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
