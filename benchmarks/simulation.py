"""Runs of the cells of `benchmarks/cells.py`, drawn with numpy and judged by the product.

A block of runs is drawn at once; each run is a family of candidates for
`engine.results.verdict.judge`, without the tidying and tables of `compare`, which would take most of
the time (tests/test_calibration.py holds that both say the same). Nothing of the statistics is
repeated here: what is counted is words.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

from benchmarks.cells import LOSS, POISONED_ROWS, SHARE, TARGETS, Cell
from engine.results.evidence import Candidate, Trial
from engine.results.verdict import Verdict, judge
from engine.spec.component import Metric

BLOCK = 500  # runs drawn at once; a run's draws depend on its block, not on how many runs there are
HAIR = 1e-9
TEST_ROWS = 1000  # of test accuracy


@dataclass(frozen=True, slots=True)
class Truth:
    """One row of a cell: where its means lie, and how far its values and accuracy spread."""

    role: str
    truth: str
    mean: float
    spread: float
    loss: float = 0.0
    coin: bool = False


def truths(cell: Cell) -> list[Truth]:
    """The rows of a run, in order."""
    fresh = 0.0 if cell.kind == "score" else 1.0
    return [
        Truth("retrain", "retrain", cell.mean, fresh),
        Truth("none", "none", cell.none, cell.none_spread, _poison_loss(cell)),
        Truth("retrain-fresh", "null", cell.mean, fresh),
        *(
            Truth("unlearn", group.truth, group.mean,
                  group.spreads[index % len(group.spreads)], group.loss, group.coin)
            for group in cell.methods
            for index in range(group.count)
        ),
    ]  # fmt: skip


def _poison_loss(cell: Cell) -> float:
    return cell.mean - cell.none if cell.kind == "accuracy" else 0.0


# --- draws ---------------------------------------------------------------------------------------

Table = NDArray[np.float64]  # [runs, rows, seeds], of targets [runs, rows, seeds, targets]


@dataclass(frozen=True, slots=True)
class Block:
    values: Table
    accuracy: Table
    std: Table | None = None  # of the scores about their seed's mean


def blocks(cell: Cell, runs: int) -> Iterator[Block]:
    """Drawn from seeds that follow from the cell's name."""
    for number in range(-(-runs // BLOCK)):
        rng = np.random.default_rng([zlib.crc32(cell.name.encode()), number])
        yield draw(cell, min(BLOCK, runs - number * BLOCK), rng)


def draw(cell: Cell, runs: int, rng: np.random.Generator) -> Block:
    """Some runs of a cell."""
    rows = truths(cell)
    accuracy = _accuracies(cell, rows, runs, rng)
    if cell.kind == "accuracy":
        return Block(accuracy, accuracy)
    shape = (runs, len(rows), cell.seeds)
    if cell.kind == "score":
        return Block(_scores(cell, rows, shape, rng), accuracy, _score_deviations(shape, rng))
    z = _copula(cell, rows, shape, rng)
    if cell.kind == "target":
        chances = np.stack(
            [_beta(z[:, i], row.mean, _clustered(row.mean, cell.within))
             for i, row in enumerate(rows)], axis=1
        )  # fmt: skip
        hits = rng.random((*shape, TARGETS)) < chances[..., None]
        return Block(hits.astype(float), accuracy)
    sides = np.where(rng.random(shape) < 0.5, -3.0, 3.0)
    values = np.empty(shape)
    for i, row in enumerate(rows):
        if row.coin:
            values[:, i] = row.mean + sides[:, i] * cell.sd
        elif cell.kind == "auc":
            values[:, i] = row.mean + row.spread * cell.sd * z[:, i]
        else:
            values[:, i] = _beta(z[:, i], row.mean, row.spread * cell.sd)
    if cell.kind == "rate":
        values = rng.binomial(cell.rows, np.clip(values, 0, 1)) / cell.rows
    return Block(values, accuracy)


def _copula(
    cell: Cell, rows: Sequence[Truth], shape: tuple[int, int, int], rng: np.random.Generator
) -> Table:
    """Standard normals that share the seed and the start."""
    runs, _, seeds = shape
    start = np.array([_start(cell, row.role, i) for i, row in enumerate(rows)])
    alone = 1 - cell.together - cell.alike
    z: Table = np.sqrt(cell.together) * rng.normal(size=(runs, 1, seeds))
    z = z + np.sqrt(cell.alike) * rng.normal(size=shape)[:, start]
    z += np.sqrt(alone) * rng.normal(size=shape)
    return z


def _start(cell: Cell, role: str, index: int) -> int:
    """Which of the starts a row has: 0 is retraining's, 1 the methods', any other its own."""
    if role == "retrain":
        return 1 if cell.start == "seed" else 0
    if role == "retrain-fresh":
        return 0 if cell.start == "retrainings" else index
    return 1


def _beta(z: Table, mean: float, sd: float) -> Table:
    """Beta variables of this mean and deviation, from standard normals."""
    if sd == 0 or mean in (0.0, 1.0):
        return np.full(z.shape, mean)
    grid, quantiles = _beta_quantiles(mean, sd)
    return np.interp(z, grid, quantiles)


@lru_cache(maxsize=64)
def _beta_quantiles(mean: float, sd: float) -> tuple[Table, Table]:
    """On a grid of normals: interpolated, a hundred times faster than `betaincinv` of each."""
    size = mean * (1 - mean) / sd**2 - 1
    grid = np.linspace(-6, 6, 4001)
    return grid, betaincinv(mean * size, (1 - mean) * size, ndtr(grid))


def _clustered(mean: float, within: float) -> float:
    """The deviation of a seed's rate that gives its targets this correlation."""
    return float(np.sqrt(within * mean * (1 - mean)))


def _scores(
    cell: Cell, rows: Sequence[Truth], shape: tuple[int, int, int], rng: np.random.Generator
) -> Table:
    """Means of scores: the exact null, a part of it shared, and what differs from seed to seed."""
    runs, _, seeds = shape
    sd = 1 / np.sqrt(POISONED_ROWS)
    means = np.array([row.mean for row in rows])[:, None]
    spreads = np.array([row.spread for row in rows])[:, None]
    z: Table = np.sqrt(cell.together) * rng.normal(size=(runs, 1, seeds))
    z = z + np.sqrt(1 - cell.together) * rng.normal(size=shape)
    scores: Table = means + sd * (z + spreads * rng.normal(size=shape))
    return scores


def _score_deviations(shape: tuple[int, int, int], rng: np.random.Generator) -> Table:
    degrees = POISONED_ROWS - 1
    stds: Table = np.sqrt(rng.chisquare(degrees, size=shape) / degrees)
    return stds


def _accuracies(cell: Cell, rows: Sequence[Truth], runs: int, rng: np.random.Generator) -> Table:
    """Test accuracies over TEST_ROWS rows, a part of their variance shared by a run's models."""
    law = cell.accuracy
    sd = law.paired_gap / np.sqrt(2 * (1 - law.together))
    shape = (runs, len(rows), cell.seeds)
    z: Table = np.sqrt(law.together) * rng.normal(size=(runs, 1, cell.seeds))
    z = z + np.sqrt(1 - law.together) * rng.normal(size=shape)
    own = 1 + np.log(ndtr(-z)) if law.tail else z  # 1 - gamma(1): mean 0, deviation 1
    loss = np.array([row.loss for row in rows])[:, None]
    accuracies: Table = np.round((law.mean - loss + sd * own) * TEST_ROWS) / TEST_ROWS
    return accuracies


# --- verdicts ------------------------------------------------------------------------------------


def metric(cell: Cell) -> Metric:
    null = "standard-normal" if cell.kind == "score" else "retrain"
    return Metric("", "up" if cell.up else "down", cell.margin, null)  # type: ignore[arg-type]


def families(cell: Cell, block: Block) -> Iterator[list[Candidate]]:
    """The rows of each run of a block, as `compare` would hand them over."""
    roles = [row.role for row in truths(cell)]
    seeds = [Trial(seed) for seed in range(cell.seeds)]
    trials = seeds
    if cell.kind == "target":
        trials = [Trial(seed, unit) for seed in range(cell.seeds) for unit in range(TARGETS)]
    counted = {"rate": cell.rows, "score": POISONED_ROWS}.get(cell.kind)
    counts = {} if counted is None else {"count": dict.fromkeys(seeds, float(counted))}
    flat = block.values.reshape(len(block.values), len(roles), -1).tolist()
    accuracies = block.accuracy
    if cell.kind == "target":  # a target has the accuracy of its seed's model
        accuracies = np.repeat(accuracies, TARGETS, axis=2)
    stds = None if block.std is None else block.std.tolist()
    for run, (values, accuracy) in enumerate(zip(flat, accuracies.tolist(), strict=True)):
        yield [
            Candidate(
                role=role,
                values=dict(zip(trials, values[i], strict=True)),
                companions=counts if stds is None
                else counts | {"std_score": dict(zip(seeds, stds[run][i], strict=True))},
                utility=dict(zip(trials, accuracy[i], strict=True)),
            )
            for i, role in enumerate(roles)
        ]  # fmt: skip


def words(verdict: Verdict) -> str:
    """A verdict's word, with its qualifier where the rule has one."""
    qualifier = getattr(verdict, "qualifier", "")
    return f"{verdict.word} ({qualifier})" if qualifier else verdict.word


def verdicts(cell: Cell, runs: int) -> Iterator[list[str]]:
    """The words of each run, row by row."""
    measure = metric(cell)
    for block in blocks(cell, runs):
        for family in families(cell, block):
            yield [words(verdict) for verdict in judge(family, measure)]


# --- what would be false -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Falsehood:
    """A word, and the rows of which it would be false; counted where any of them has it."""

    name: str
    word: str
    rows: tuple[int, ...]

    def said(self, run: Sequence[str]) -> bool:
        return any(self.word in run[row] for row in self.rows)


def falsehoods(cell: Cell) -> list[Falsehood]:
    """Every word that a cell's truth makes false, of all rows of a run together; *removed*, which
    is a claim about one row, of the first row of each truth and spread."""
    rows = list(enumerate(truths(cell)))[1:]
    sign = 1 if cell.up else -1
    none = sign * (cell.none - cell.mean)

    def gap(row: Truth) -> float:
        return sign * (row.mean - cell.mean)

    clean = [i for i, row in rows if gap(row) == 0]
    perfect = [i for i, row in rows if row.loss <= LOSS + HAIR or _is_poison(cell, row)]
    methods = [i for i, row in rows if row.role == "unlearn"]
    short = [i for i in methods if gap(truths(cell)[i]) <= none + HAIR]
    found = [
        Falsehood("residue", "residue", tuple(clean)),
        Falsehood("wrecked", "wrecked", tuple(perfect)),
        Falsehood("reinforced", "(reinforced)", tuple(short)),
        Falsehood("over-corrected", "(over-corrected)",
                  tuple(i for i in methods if gap(truths(cell)[i]) >= 0)),
    ]  # fmt: skip
    if none >= cell.margin - HAIR:
        found.append(Falsehood("nothing to remove", "nothing to remove", tuple(i for i, _ in rows)))
    seen = set()
    for i, row in rows:
        left = abs(gap(row)) >= min(cell.margin, max(SHARE * none, HAIR)) - HAIR
        if (left or row.loss >= LOSS - HAIR) and (row.truth, row.spread) not in seen:
            seen.add((row.truth, row.spread))
            spread = f", spread {row.spread:.2g}" if row.role == "unlearn" else ""
            found.append(Falsehood(f"removed ({row.truth}{spread})", "removed", (i,)))
    return [falsehood for falsehood in found if falsehood.rows]


def _is_poison(cell: Cell, row: Truth) -> bool:
    """What accuracy itself lacks because of the poison is residue: nothing is wrecked by it."""
    return cell.kind == "accuracy" and row.loss <= _poison_loss(cell) + HAIR
