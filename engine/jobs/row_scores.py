"""Scores row by row as an audit stage left them, and the training rows they belong to.

    scores.safetensors   scores float64 [M], of the poisoned rows that have a gradient, and ranks
                         int64 [P], of all of them, where a rank test was asked for
    score_rows.json      rows: P training rows, in the order of ranks; scored: the M places among
                         them that scores belong to, or null for all

Stages of before have no score_rows.json. Their rows are those of poison.safetensors, which archives
without models leave out, and if M < P it is lost which of these the scores belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.jobs import bounded_json
from engine.jobs.store import Damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.jobs.runs import Run

SCORES, SCORE_ROWS, POISON = "scores.safetensors", "score_rows.json", "poison.safetensors"

PLACES_LOST = (
    "rows without a gradient have no score, and this run's version did not store which rows "
    "the others are"
)
ROWS_ABSENT = "neither the scores nor the poison, which is not in this home, name their rows"


@dataclass(frozen=True, eq=False)
class RowScores:
    """What an audit left of one model: of its P poisoned rows, the M that could be scored.

    scores: float64 [M].
    rows:   int64 [M], their indices in the training part of the data; None where not known, and
            `lost` says why.
    ranks:  int64 [M], of `draws` fresh noises how many the model fits worse than the row's own;
            None without a rank test, and where it is not known which rank is which row's.
    every_rank: int64 [P], of all poisoned rows in their order; None without a rank test.
    data:   key of the stage whose rows they are.
    """

    scores: NDArray[np.float64]
    rows: NDArray[np.int64] | None = None
    ranks: NDArray[np.int64] | None = None
    every_rank: NDArray[np.int64] | None = None
    draws: int = 0
    poisoned: int = 0
    lost: str = ""
    data: str = ""


def read_row_scores(run: Run, key: str) -> RowScores | None:
    """Of an audit stage; None if it left no scores by row, or they are gone or damaged."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    stage = run.plan.stages[key]
    try:
        found = load(run.store.open_verified(key, SCORES))
        scores = np.asarray(found["scores"], dtype=np.float64)
    except (Damaged, SafetensorError, KeyError, TypeError, ValueError):
        return None
    every = _indices(found.get("ranks"))
    # A stage's config has its defaults written out; with none there, no rank can be read.
    told = stage.config.get("audit")
    draws = told.get("rank_draws") if isinstance(told, dict) else None
    if scores.ndim != 1 or not np.isfinite(scores).all():
        return None
    if type(draws) is not int or draws < 1 or (every is not None and (every > draws).any()):
        every, draws = None, 0
    rows, scored = _named(run, key)
    if rows is None:
        rows = _poisoned(run, stage.inputs.get("craft", ""))
    poisoned = len(rows if rows is not None else every if every is not None else scores)
    if every is not None and len(every) != poisoned:
        every = None
    if scored is None:
        scored = np.arange(poisoned)
    lost = ""
    if len(scored) != len(scores):
        scored, lost = None, PLACES_LOST
    elif rows is None:
        lost = ROWS_ABSENT
    return RowScores(
        scores=scores,
        rows=None if rows is None or scored is None else rows[scored],
        ranks=None if every is None or scored is None else every[scored],
        every_rank=every,
        draws=draws,
        poisoned=poisoned,
        lost=lost,
        data=stage.inputs.get("data", ""),
    )


def _named(run: Run, key: str) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """rows and scored of score_rows.json; the file may be a stranger's."""
    try:
        told = bounded_json.parse(run.store.open_verified(key, SCORE_ROWS))
        rows, scored = _indices(told["rows"]), _indices(told["scored"])
    except (Damaged, KeyError, TypeError, ValueError):
        return None, None
    if rows is None or (scored is not None and (scored >= len(rows)).any()):
        return None, None
    return rows, scored


def _poisoned(run: Run, key: str) -> NDArray[np.int64] | None:
    """The rows of a poison: of a large file only this part is read, after a look at its size and
    time instead of its hash."""
    from safetensors import SafetensorError, safe_open

    if not key or run.store.check(key) != "ok":
        return None
    try:
        with safe_open(run.store.path(key) / POISON, "numpy") as file:
            return _indices(file.get_tensor("rows"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _indices(told: Any) -> NDArray[np.int64] | None:
    """Whole numbers from 0 on, in one dimension; None for anything else."""
    import numpy as np

    if told is None:
        return None
    found = np.asarray(told)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind != "i" or (found < 0).any():
        return None
    return found.astype(np.int64)
