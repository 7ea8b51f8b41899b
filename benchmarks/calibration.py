"""How often do verdicts err, and do intervals cover? Simulated measurements, the product's judgment.

    python benchmarks/calibration.py              # advice and intervals, as in docs/statistics.md
    python benchmarks/calibration.py --families 200
    python benchmarks/calibration.py --cells --out cells.json [--only WORDS] [--runs 10000] [--jobs 2]

Every simulated study is a list of measurements like those a run leaves, and goes through
`engine.results.compare.compare`: nothing of the statistics is repeated here (but for one table of a
rule that is no longer there). Shares come with exact
95 % intervals (Clopper and Pearson) of their Monte-Carlo error. The cells (`benchmarks/cells.py`)
are judged by `judge` alone, 10,000 runs each; what --out holds of them already is not drawn again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import CELLS, RUNS
from benchmarks.counts import (
    Share,
    beside_table,
    failures,
    falsehood_table,
    measured,
    power_beside,
    power_table,
)
from engine.results.compare import Row, compare
from engine.results.evidence import ALPHA, GATE_ALPHA
from engine.results.pooled import clustered_bootstrap
from engine.results.statistics import (
    clopper_pearson,
    homogeneity_test,
    pooled_mean,
    ratio_interval,
    replication_band,
    t_interval,
    tost_z,
    wilson,
)
from engine.results.tidy import Measurement
from engine.spec.component import Metric

FAMILIES = 2000
P = 180  # poisoned rows of the quickstart
GAUSSIAN, RATE = "gaussian", "rate"
MARGINS = {GAUSSIAN: 0.15, RATE: 0.05}
EFFECT = {GAUSSIAN: 0.9, RATE: 0.6}  # of the poison where nothing was unlearned
ACCURACY, ACCURACY_SD = 0.943, 0.0034  # of 40 retrainings of the quickstart's model
ROWS, SHARE = 900, 0.10  # triggered test rows, and how many a clean model takes for the target


@dataclass(frozen=True)
class Audit:
    metrics: dict[str, Metric]
    primary: str


AUDITS = {
    GAUSSIAN: Audit(
        {
            "mean_score": Metric("", "up", MARGINS[GAUSSIAN], "standard-normal"),
            "std_score": Metric(""),
            "count": Metric(""),
        },
        "mean_score",
    ),
    RATE: Audit({"asr": Metric("", "up", MARGINS[RATE]), "count": Metric("")}, "asr"),
    "accuracy": Audit({"test_accuracy": Metric("", "down", 0.02)}, "test_accuracy"),
}


@dataclass(frozen=True)
class World:
    """What is true of one audit. `gap` is a method's distance to its null.

    spread   deviation of that distance over seeds, in standard deviations of one seed's value
    together correlation of two models' values under one seed: they share poison and data
    rows     what one value is measured on
    """

    audit: str
    gap: float = 0.0
    spread: float = 0.0
    together: float = 0.5
    rows: int = 0
    share: float = SHARE

    def draw(self, rng: np.random.Generator, models: int, seeds: int) -> dict[str, np.ndarray]:
        """metric -> values [models, seeds]; the first model is retraining, at its null, the second
        the poisoned one."""
        rows = self.rows or (P if self.audit == GAUSSIAN else ROWS)
        share = self.share
        sd = (
            1 / math.sqrt(rows) if self.audit == GAUSSIAN else math.sqrt(share * (1 - share) / rows)
        )
        gaps = np.full((models, seeds), self.gap) + self.spread * sd * rng.normal(
            size=(models, seeds)
        )
        gaps[0], gaps[1] = 0.0, EFFECT[self.audit]
        count = np.full((models, seeds), float(rows))
        if self.audit == GAUSSIAN:
            common = math.sqrt(self.together) * rng.normal(size=(1, seeds))
            own = math.sqrt(1 - self.together) * rng.normal(size=(models, seeds))
            spread = np.sqrt(rng.chisquare(rows - 1, size=(models, seeds)) / (rows - 1))
            return {"mean_score": gaps + sd * (common + own), "std_score": spread, "count": count}
        rates = rng.binomial(rows, np.clip(share + gaps, 0, 1)) / rows
        return {"asr": rates, "count": count}


def measurements(
    values: dict[str, np.ndarray], audit: str, first_seed: int = 0
) -> list[Measurement]:
    """Values [models, seeds] by metric, as a run would tell them."""
    models = len(next(iter(values.values())))
    roles = ["retrain", "none", *["unlearn"] * (models - 2)]
    return [
        Measurement(
            run="r",
            setting="",
            attack="a",
            method=roles[model] if model < 2 else f"m{model}",
            variant="",
            budget=None,
            seed=first_seed + seed,
            audit=audit,
            metric=metric,
            value=float(value),
            role=roles[model],
            tee=0.0,
            seconds=0.0,
            status="ok",
            reason="",
        )
        for metric, table in values.items()
        for model, row in enumerate(table)
        for seed, value in enumerate(row)
    ]


def study(
    rng: np.random.Generator, world: World, methods: int, seeds: int, first_seed: int = 0
) -> list[Measurement]:
    """One simulated run: the audit, and the accuracy that tells wrecked models."""
    accuracy = rng.normal(ACCURACY, ACCURACY_SD, size=(methods + 2, seeds))
    return [
        *measurements(world.draw(rng, methods + 2, seeds), world.audit, first_seed),
        *measurements({"test_accuracy": accuracy}, "accuracy", first_seed),
    ]


def judged(found: Iterable[Measurement], audit: str) -> list[Row]:
    """The methods' rows with a verdict."""
    rows = compare(found, AUDITS)
    return [
        r for r in rows
        if r["audit"] == audit and r["primary"] and r["method"] not in ("retrain", "none")
    ]  # fmt: skip


def families(world: World, methods: int, seeds: int, count: int, key: int) -> list[list[str]]:
    """The verdicts of `count` simulated runs."""
    rng = np.random.default_rng([key, methods, seeds, *repr(world).encode()])
    return [
        [row["verdict"] for row in judged(study(rng, world, methods, seeds), world.audit)]
        for _ in range(count)
    ]


def each_is(word: str, found: Sequence[Sequence[str]]) -> Share:
    """Of one row of each run: rows of a run are not independent."""
    return Share(sum(verdicts[0] == word for verdicts in found), len(found))


# --- following advice ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Obeyed:
    """Verdicts of studies that obey "n seeds would settle it": all seeds together, and, where more
    seeds were trained, those of the last round judged alone."""

    together: list[str]
    alone: list[str]


def advised(world: World, seeds: int, count: int, key: int, rounds: int, most: int = 40) -> Obeyed:
    """`count` studies that start with `seeds` seeds and obey up to `rounds` times, while no more
    than `most` seeds are asked for."""
    rng = np.random.default_rng([key, seeds, rounds, *repr(world).encode()])
    together, alone = [], []
    for _ in range(count):
        gathered, fresh, have = study(rng, world, 1, seeds), [], seeds
        for _ in range(rounds):
            [row] = judged(gathered, world.audit)
            wanted = settling(row)
            if row["verdict"] != "inconclusive" or wanted is None or wanted > most:
                break
            fresh = study(rng, world, 1, wanted - have, have)
            gathered, have = gathered + fresh, wanted
        together.append(judged(gathered, world.audit)[0]["verdict"])
        if fresh:
            alone.append(judged(fresh, world.audit)[0]["verdict"])
    return Obeyed(together, alone)


def settling(row: Row) -> int | None:
    """The number of seeds in the row's reason."""
    words = row["reason"].split()
    for before, word in itertools.pairwise(words):
        if before == "about" and word.isdigit():
            return int(word)
    return None


# --- coverage ------------------------------------------------------------------------------------


Interval = tuple[float | None, float | None] | None


def covers(
    sample: Callable[[np.random.Generator], tuple[Interval, float]], count: int, key: int
) -> Share:
    """How often an interval holds its truth; `sample` draws both."""
    rng = np.random.default_rng(key)
    held, told = 0, 0
    for _ in range(count):
        interval, truth = sample(rng)
        if interval is None or interval[0] is None or interval[1] is None:
            continue
        told += 1
        held += interval[0] - 1e-12 <= truth <= interval[1] + 1e-12
    return Share(held, told)


def ends(estimate: Any) -> Interval:
    return estimate.lo, estimate.hi


def mean_of_scores(seeds: int) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        return ends(t_interval(rng.normal(0.3, 0.1, seeds).tolist())), 0.3

    return sample


def gap_of_rates(
    seeds: int, share: float, gap: float = 0.05, rows: int = ROWS
) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    """The gap as `compare` tells it: paired differences of rates."""

    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        world = World(RATE, gap=gap, rows=rows, share=share)
        [row] = judged(study(rng, world, 1, seeds), RATE)
        return (row["gap_lo"], row["gap_hi"]), gap

    return sample


def one_rate(
    interval: Callable[[int, int], tuple[float, float]], rows: int, share: float
) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        return interval(int(rng.binomial(rows, share)), rows), share

    return sample


def pooled(
    seeds: int, statistic: Callable[[np.ndarray], float], truth: float, spread: float
) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    """Scores with a seed's own shift of deviation `spread`."""

    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        groups = rng.normal(size=(seeds, P)) + spread * rng.normal(size=(seeds, 1))
        return ends(clustered_bootstrap(list(groups), statistic, draws=200)), truth

    return sample


def recovered(seeds: int) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        whole = rng.normal(0.7, 0.15, seeds)
        part = 0.3 * whole + rng.normal(0, 0.05, seeds)
        return ratio_interval(part.tolist(), whole.tolist()), 0.3

    return sample


def next_retraining(seeds: int) -> Callable[[np.random.Generator], tuple[Interval, float]]:
    def sample(rng: np.random.Generator) -> tuple[Interval, float]:
        values = rng.normal(0.0, 0.1, seeds).tolist()
        return ends(replication_band(values, seeds)), float(rng.normal(0.0, 0.1, seeds).mean())

    return sample


def coverages(count: int) -> dict[str, Share]:
    """What the docs list: the interval in words -> how often it held the truth."""
    over = math.sqrt(1 + 0.2**2)
    tail = 0.5 * math.erfc(2.3263478740408408 / over / math.sqrt(2))
    samples = {
        "t-interval of a mean score, 2 seeds": mean_of_scores(2),
        "t-interval of a mean score, 5 seeds": mean_of_scores(5),
        "t-interval of the gap of rates, 900 rows at 10 %, 3 seeds": gap_of_rates(3, 0.1),
        "t-interval of the gap of rates, 900 rows at 0.1 %, gap 1 point, 5 seeds": gap_of_rates(
            5, 0.001, 0.01
        ),
        "t-interval of the gap of rates, 20 rows at 10 %, 5 seeds": gap_of_rates(5, 0.1, rows=20),
        "Wilson, 900 rows at 10 %": one_rate(wilson, 900, 0.1),
        "Wilson, 180 rows at 1 %": one_rate(wilson, 180, 0.01),
        "Clopper–Pearson, 180 rows at 1 %": one_rate(clopper_pearson, 180, 0.01),
        "Clopper–Pearson, 900 rows at 1 %": one_rate(clopper_pearson, 900, 0.01),
        "clustered bootstrap, std, 5 seeds alike": pooled(
            5, lambda x: float(x.std(ddof=1)), 1.0, 0.0
        ),
        "clustered bootstrap, tail rate, 3 seeds that differ": pooled(
            3, lambda x: float((x > 2.3263478740408408).mean()), tail, 0.2
        ),
        "clustered bootstrap, tail rate, 5 seeds that differ": pooled(
            5, lambda x: float((x > 2.3263478740408408).mean()), tail, 0.2
        ),
        "clustered bootstrap, mean, 5 seeds that differ": pooled(
            5, lambda x: float(x.mean()), 0.0, 0.2
        ),
        "Fieller's interval of recovery, 3 seeds": recovered(3),
        "Fieller's interval of recovery, 5 seeds": recovered(5),
        "band of retraining, 3 seeds (holds another one's mean)": next_retraining(3),
        "band of retraining, 5 seeds (holds another one's mean)": next_retraining(5),
    }
    return {name: covers(sample, count, key) for key, (name, sample) in enumerate(samples.items())}


# --- tables --------------------------------------------------------------------------------------

KINDS = {GAUSSIAN: "standard-normal", RATE: "retrain"}


def pooled_alone_table(count: int) -> None:
    """What the pooled equivalence test and its gate would do without Student's beside it: the rule
    there was before, for comparison."""
    print("| seeds differ by | seeds | removed by the pooled test alone |")
    print("|---|---:|---:|")
    for spread in (0.0, 1.0, 1.5, 2.0):
        for seeds in (2, 3, 5, 8):
            rng = np.random.default_rng([5, seeds, int(10 * spread)])
            sd = math.sqrt((1 + spread**2) / P)
            passed = 0
            for means in rng.normal(MARGINS[GAUSSIAN], sd, size=(count, seeds)).tolist():
                shift, error = pooled_mean(means, [P] * seeds)
                agree = homogeneity_test(means, [P] * seeds) >= GATE_ALPHA
                passed += agree and tost_z(shift, error, MARGINS[GAUSSIAN]) < ALPHA
            print(f"| {spread:g} sd | {seeds} | {Share(passed, count)} |")


def advice_table(count: int) -> None:
    print("| null | what is true | obeyed | settled | wrong word, all seeds | new seeds alone |")
    print("|---|---|---|---:|---:|---:|")
    cases = [
        ("nothing left", World(GAUSSIAN), "residue"),
        ("on the margin", World(GAUSSIAN, gap=0.15), "removed"),
        ("nothing left, 100 rows", World(RATE, rows=100), "residue"),
        ("on the margin, 100 rows", World(RATE, gap=0.05, rows=100), "removed"),
    ]
    for words, world, wrong in cases:
        for rounds, times in ((0, "never"), (1, "once"), (5, "up to 5 times")):
            found = advised(world, 3, count, 3, rounds)
            settled = Share(sum(w in ("residue", "removed") for w in found.together), count)
            alone = str(Share(found.alone.count(wrong), len(found.alone))) if found.alone else "-"
            print(
                f"| {KINDS[world.audit]} | {words} | {times} | {settled} | "
                f"{wrong}: {Share(found.together.count(wrong), count)} | {alone} |"
            )


def coverage_table(count: int) -> None:
    print("| 95 % interval | covers |")
    print("|---|---:|")
    for name, share in coverages(count).items():
        print(f"| {name} | {share} |")


def cell_tables(only: str, runs: int, out: Path | None, jobs: int, beside: Path | None) -> None:
    cells = [cell for cell in CELLS if only in cell.name]
    found = measured(cells, runs, out, jobs)
    print(f"\n<!-- {len(cells)} cells, {runs} simulated runs each -->\n")
    if beside is not None:
        before = json.loads(beside.read_text())
        print("\n".join(beside_table(cells, before, found)))
        print("\n" + "\n".join(power_beside(cells, before, found)))
        return
    print("\n".join(falsehood_table(cells, found)))
    for name, word, share in failures(cells, found):
        print(f"\nabove 5 %: {word}: {name}: {share}")
    if any(cell.power for cell in cells):
        print("\n" + "\n".join(power_table(cells, found)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=FAMILIES)
    parser.add_argument("--cells", action="store_true", help="the tables of benchmarks/cells.py")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--out", type=Path, help="JSON of counts, by cell")
    parser.add_argument(
        "--beside", type=Path, help="JSON of counts by another rule, to compare with"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    if options.cells:
        cell_tables(options.only, options.runs, options.out, options.jobs, options.beside)
        return
    count = options.families
    started = time.perf_counter()
    tables = (pooled_alone_table, advice_table, coverage_table)
    for table in tables:
        print(f"\n<!-- {table.__name__}: {count} simulated runs each -->\n")
        table(count)
    print(f"\n<!-- {time.perf_counter() - started:.0f} s -->")


if __name__ == "__main__":
    main()
