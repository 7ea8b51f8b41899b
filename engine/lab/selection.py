"""Which rows: the validation cut, and the rows an attack poisons. numpy only, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.lab.context import Failed
from engine.lab.randomness import numpy_generator
from engine.spec.component import poisoned_count

if TYPE_CHECKING:
    import numpy as np


def pretraining_cut(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows left, rows of the extractor's training), each sorted int64, of `count` rows."""
    import numpy as np

    order = numpy_generator(seed, "pretraining").permutation(count)
    cut = round(share * count)
    return np.sort(order[cut:]), np.sort(order[:cut])


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
    {"share": s, "each": [a, b]}   the same number, half of them from either class
    {…, "paired": true}            an even number
    {…, "control": true}           as many others by the same rule, none of them poisoned
    {"rows": [...]}                these very rows
    {"added": n}                   none: n rows come from elsewhere (its control: n at random)
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
    if "added" in rule and not rule.get("control"):
        return rows[:0]
    wanted = poisoned_count(rule, len(rows))
    if "each" in rule:
        groups = [(rows[labels[rows] == c], wanted // 2, f"poison {c}") for c in rule["each"]]
    else:
        groups = [(qualified(rule, rows, labels), wanted, "poison")]
    start = 1 if rule.get("control") else 0
    found = []
    for candidates, count, purpose in groups:
        if (start + 1) * count > len(candidates):
            raise ValueError(f"{count} rows are wanted, but only {len(candidates)} qualify")
        order = numpy_generator(seed, purpose).permutation(len(candidates))
        found.append(candidates[order[start * count : (start + 1) * count]])
    return np.sort(np.concatenate(found))


def qualified(rule: dict[str, Any], rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Those of `rows` that an attack's selection rule may choose, in order."""
    import numpy as np

    mine = labels[rows]
    allowed = np.ones(len(rows), dtype=bool)
    if "only" in rule:
        allowed = mine == rule["only"]
    elif "not" in rule:
        allowed = mine != rule["not"]
    elif "each" in rule:
        allowed = np.isin(mine, rule["each"])
    return rows[allowed]


def proxy_cut(rows: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(`count` rows that stand in for a forget set, the rest), each sorted int64, of `rows`.

    Drawn uniformly, by random numbers of their own.
    """
    import numpy as np

    if count >= len(rows):
        raise ValueError(f"{count} rows are to stand in for the forget set, of {len(rows)}")
    order = numpy_generator(seed, "proxy").permutation(len(rows))
    return np.sort(rows[order[:count]]), np.sort(rows[order[count:]])


def stratified(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Sorted int64 rows: at most `limit`, classes as equal as they can be, the same ones always."""
    import numpy as np

    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    rank = rank_in_class(labels, numpy_generator(0, "limit").permutation(len(labels)))
    return np.sort(np.lexsort((labels, rank))[:limit])


def held_out(labels: np.ndarray, share: float, purpose: str) -> np.ndarray:
    """bool [N]: the test rows, the same share of every class and one at least; always the same."""
    import numpy as np

    rank = rank_in_class(labels, numpy_generator(0, purpose).permutation(len(labels)))
    wanted = np.maximum(1, np.round(share * np.bincount(labels)))
    held: np.ndarray = rank < wanted[labels]
    return held


def rank_in_class(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """int64 [N]: each row's 0-based place among the rows of its class, met in `order`."""
    import numpy as np

    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return rank
