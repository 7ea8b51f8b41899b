"""Which rows: the validation cut, and the rows an attack poisons. numpy only, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.lab.context import Failed
from engine.lab.randomness import numpy_generator
from engine.spec.component import poisoned_count

if TYPE_CHECKING:
    import numpy as np


def validation_cut(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, validation rows), each sorted int64, of `count` rows."""
    import numpy as np

    order = numpy_generator(seed, "validation").permutation(count)
    cut = round(share * count)
    return np.sort(order[cut:]), np.sort(order[:cut])


def choose(rule: dict[str, Any], rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The poisoned rows (sorted int64) among `rows`, by an attack's selection rule.

    {"share": s}                   s·len(rows) rows, uniformly
    {"share": s, "only": c}        the same number, from class c
    {"share": s, "not": c}         the same number, from the other classes
    {"rows": [...]}                these very rows
    `labels` are those of all rows of the data set, int64. Raises Failed where rows were cut off for
    validation, ValueError where too few qualify.
    """
    import numpy as np

    if "rows" in rule:
        given = np.sort(np.asarray(rule["rows"], dtype=np.int64))
        if lost := len(np.setdiff1d(given, rows)):
            raise Failed(
                f"{lost} of the poison's {len(given)} rows were cut off for validation under seed "
                f"{seed}: set validation = 0, or take the seed and share it was made with"
            )
        return given
    wanted = poisoned_count(rule, len(rows))
    candidates = rows
    if "only" in rule:
        candidates = rows[labels[rows] == rule["only"]]
    elif "not" in rule:
        candidates = rows[labels[rows] != rule["not"]]
    if wanted > len(candidates):
        raise ValueError(f"{wanted} rows are to be poisoned, but only {len(candidates)} qualify")
    chosen = numpy_generator(seed, "poison").permutation(len(candidates))[:wanted]
    return np.sort(candidates[chosen])


def stratified(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Sorted int64 rows: at most `limit`, classes as equal as they can be, the same ones always."""
    import numpy as np

    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    rank = rank_in_class(labels, numpy_generator(0, "limit").permutation(len(labels)))
    return np.sort(np.lexsort((labels, rank))[:limit])


def rank_in_class(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """int64 [N]: each row's 0-based place among the rows of its class, met in `order`."""
    import numpy as np

    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return rank
