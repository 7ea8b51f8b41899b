"""Which poisoned rows are still detected after each method: gathered from runs, and as records.

A *row table* (`row_records`; `compare --rows --csv`) has a line for every scored row under every
seed, detected or not:

    setting, attack, method, variant, budget, audit, role, seed, unit   whose score it is
    row          its index in the training part of the data, from 0; None where it is not known
    score        N(0, 1) if the model is independent of the row's noise
    score_p      upper tail of that
    score_q      score_p after Benjamini and Hochberg over all rows and seeds of one method, variant
                 and budget
    detected     whether score_q is at most `FDR`
    noise_rank   of `noise_draws` fresh noises, how many the model fits worse than the row's own
    noise_rank_p its exact p-value
    outcome      "ok"; else "n/a", "diverged", "failed" or "missing": a model without scores has one
                 line, which says in `reason` why. So has an attack none of whose audits scores rows

A *model table* (`model_records`) has a line for each method, variant and budget: `MODEL_FIELDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.jobs.row_scores import RowScores
from engine.results.detection import FDR, Detection, Model, detect
from engine.results.gathering import STATUSES, Place
from engine.results.tidy import Audits, StoreReader, shown_variants
from engine.spec.errors import BadInput
from engine.spec.planned import Cell, Plan

NO_SCORES = (
    "no audit of this attack scores single rows with an exact null: that takes an attack that "
    "keeps its noise (gaussian), and the audit gaussian"
)
NO_GRADIENT = "no poisoned row has a gradient, so none has a score"
GONE = "its scores are gone or damaged in the store: run again"

MODEL_FIELDS = {
    "seeds": "those whose scores were found",
    "units": "aligned with seeds: which of the attack's poisons",
    "rows": "scored rows of all seeds together",
    "left_out": "poisoned rows without a score, for want of a gradient",
    "detected": "on the poison's side",
    "share": "detected / rows",
    "below": "detected on the other side, by the same test of the lower tail",
    "confirmed": "of those detected, the rows whose rank test has p at most 5 %",
    "rank_z": "the rank test over all poisoned rows and seeds, in standard errors",
    "rank_z_p": "its upper tail",
    "again_rows": "rows scored under two seeds or more",
    "again_found": "those of them detected under two or more",
    "again_chance": "as many as are expected if seeds have nothing in common",
    "again_lo": "with again_hi: 95 % of that distribution",
    "again_hi": "",
    "again_p": "chance of again_found or more",
    "again_not": "why these are None",
    "lost": "why rows cannot be named, a sentence each",
    "outcome": "ok if any seed has scores",
    "reason": "why others have none",
}
_AGAIN = ("rows", "found", "chance", "lo", "hi", "p")

Record = dict[str, Any]
Trial = tuple[int, int]  # seed, unit


class RowReader(StoreReader, Protocol):
    """A store that has scores by row, too."""

    def row_scores(self, key: str) -> RowScores | None:
        """What an audit stage left of each row; None if nothing that can be read."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """A model whose scores there are not: how its audit ended, and why there are none."""

    seed: int
    unit: int
    outcome: str
    reason: str


Found = tuple[str, RowScores | Absent]  # a run's id, and what it has of a model


@dataclass(frozen=True, eq=False)
class DetectionLine:
    """One method, variant and budget of an attack, under all seeds. `detection` is None if no seed
    has scores, and always where `place.method` is empty: for an attack that has none at all."""

    place: Place
    detection: Detection | None
    absent: Sequence[Absent] = ()

    @property
    def outcome(self) -> str:
        if self.detection is not None:
            return "ok"
        return min((one.outcome for one in self.absent), key=STATUSES.index, default="missing")

    @property
    def reason(self) -> str:
        """Why seeds have no scores, each reason once; empty where all have."""
        seeds: dict[str, list[str]] = {}
        for one in self.absent:
            why = one.reason or one.outcome
            seeds.setdefault(why, []).append(str(one.seed))
        if self.detection is None and len(seeds) == 1:
            return next(iter(seeds))
        return "; ".join(
            f"seed{'s' if len(some) > 1 else ''} {', '.join(dict.fromkeys(some))}: {why}"
            for why, some in seeds.items()
        )


def exact_audits(audits: Audits) -> set[str]:
    """Names of those whose rows' scores are N(0, 1) if nothing is left."""
    return {
        name
        for name, audit in audits.items()
        if audit.primary and audit.metrics[audit.primary].null == "standard-normal"
    }


def detection_lines(
    runs: Iterable[tuple[str, Plan, RowReader]],
    audits: Audits,
    wanted: Place | None = None,
) -> list[DetectionLine]:
    """What runs, (id, plan, store), have together, sorted as in a comparison; of `wanted` only where
    it is given (its role does not matter). Raises BadInput where runs disagree about a model."""
    exact = exact_audits(audits)
    found: dict[Place, dict[Trial, Found]] = {}
    families: dict[tuple[str, str], bool] = {}
    seen: set[str] = set()  # two runs may share a measurement
    for run_id, plan, store in runs:
        variants = shown_variants(plan.searches, store)
        oracles = {
            (one.setting, one.attack, one.method, one.variant)
            for one in plan.searches if one.objective == "oracle"
        }  # fmt: skip
        for cell in plan.cells:
            family = (cell.setting, cell.attack)
            families[family] = families.get(family, False) or cell.audit in exact
            if cell.audit not in exact or cell.key in seen:
                continue
            row = (cell.setting, cell.attack, cell.method, cell.variant)
            role = "oracle" if cell.role == "unlearn" and row in oracles else cell.role
            variant = variants.get(row, cell.variant)
            place = Place(*row[:3], variant, cell.budget, cell.audit, role)
            if wanted is not None and place[:-1] != wanted[:-1]:
                continue
            seen.add(cell.key)
            trials = found.setdefault(place, {})
            trial = (cell.seed, cell.unit)
            now = (run_id, _scores(cell, store))
            trials[trial] = _agreed(place, trial, trials[trial], now) if trial in trials else now
    lines = [_line(place, trials) for place, trials in found.items()]
    if wanted is None:
        for (setting, attack), scored in families.items():
            if not scored:
                place = Place(setting, attack, "", "", None, "", "none")
                lines.append(DetectionLine(place, None, [Absent(0, 0, "n/a", NO_SCORES)]))
    return sorted(lines, key=lambda line: line.place.order())


def _scores(cell: Cell, store: RowReader) -> RowScores | Absent:
    status, reason = store.outcome(cell.key)
    if status != "ok":
        return Absent(cell.seed, cell.unit, status, reason)
    scores = store.row_scores(cell.key)
    if scores is not None:
        return scores
    if store.measurements(cell.key).get("count") == 0:
        return Absent(cell.seed, cell.unit, "n/a", NO_GRADIENT)
    return Absent(cell.seed, cell.unit, "missing", GONE)


def _agreed(place: Place, trial: Trial, one: Found, other: Found) -> Found:
    """Of two runs that have the same model: the one with scores. Raises BadInput where they differ."""
    if isinstance(other[1], Absent):
        return one
    if isinstance(one[1], Absent):
        return other
    if not np.array_equal(one[1].scores, other[1].scores):
        raise BadInput(
            f"runs {one[0]} and {other[0]}: different scores for {place}, seed {trial[0]}. The same "
            "names stand for different experiments; compare them apart."
        )
    return one if one[1].rows is not None else other


def _line(place: Place, trials: Mapping[Trial, Found]) -> DetectionLine:
    models, absent = [], []
    for trial, (_, told) in sorted(trials.items()):
        if isinstance(told, Absent):
            absent.append(told)
        else:
            models.append(Model(*trial, told))
    return DetectionLine(place, detect(models) if models else None, absent)


# --- records -------------------------------------------------------------------------------------


def row_records(lines: Iterable[DetectionLine]) -> list[Record]:
    """The row table, see above."""
    told = []
    for line in lines:
        place = line.place._asdict()
        for one in line.detection.scored() if line.detection is not None else ():
            told.append(
                place
                | {
                    "seed": one.seed, "unit": one.unit, "row": one.row, "score": one.score,
                    "score_p": one.p, "score_q": one.q, "detected": one.detected,
                    "noise_rank": one.rank, "noise_draws": one.draws, "noise_rank_p": one.rank_p,
                    "outcome": "ok", "reason": "",
                }
            )  # fmt: skip
        for none in line.absent:
            named = bool(line.place.method)
            told.append(
                place
                | dict.fromkeys(_OF_A_ROW)
                | {
                    "role": line.place.role if named else "",
                    "seed": none.seed if named else None,
                    "unit": none.unit if named else None,
                    "outcome": none.outcome, "reason": none.reason,
                }
            )  # fmt: skip
    return told


_OF_A_ROW = (
    "seed", "unit", "row", "score", "score_p", "score_q", "detected", "noise_rank", "noise_draws",
    "noise_rank_p",
)  # fmt: skip


def model_records(lines: Iterable[DetectionLine]) -> list[Record]:
    """The model table, see above; no budget and no value are None."""
    return [_model_record(line) for line in lines]


def _model_record(line: DetectionLine) -> Record:
    found = line.detection
    told: Record = line.place._asdict() | dict.fromkeys(MODEL_FIELDS)
    told |= {"lost": [], "again_not": "", "outcome": line.outcome, "reason": line.reason}
    if not line.place.method:
        told["role"] = ""
    if found is None:
        return told | {"seeds": [], "units": []}
    told["seeds"] = [model.seed for model in found.models]
    told["units"] = [model.unit for model in found.models]
    names = ("rows", "left_out", "detected", "share", "below", "confirmed", "rank_z", "lost")
    told |= {name: getattr(found, name) for name in names}
    told |= {"rank_z_p": found.rank_p, "again_not": found.again_not}
    if found.again is not None:
        told |= {f"again_{name}": getattr(found.again, name) for name in _AGAIN}
    return told


def fdr_in_words() -> str:
    return f"{100 * FDR:g} %"
