"""How alike the targets of one seed are: the within-seed correlation of targeted success.

    python benchmarks/targets.py FILE.json... [--methods none gd ga]

Each file holds `chelate compare RUN --json` of a run with several targets a seed. Of each method's
row, the variance between and within seeds (one-way analysis of variance) gives the intraclass
correlation ρ: the correlation of two targets of one seed. Its 95 % interval is Searle's, exact for
normal values and as many targets in every seed, and beside it the percentile bootstrap over seeds.
1 + (m − 1) ρ, the design effect, is by how much the variance of a mean over m targets of each seed
is larger than counting targets as seeds would have it.
Searle, Casella & McCulloch, Variance Components, Wiley 1992, section 3.6d.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import f as fisher

from engine.results.statistics import mean

AUDIT, PROBABILITY, RATE = "targeted-success", "adversarial_probability", "success"
DRAWS = 10_000

Seeds = dict[int, list[float]]  # seed -> a value for each of its targets


class Correlation(NamedTuple):
    """ρ and its 95 % intervals; None where nothing varies."""

    rho: float | None
    lo: float | None
    hi: float | None
    boot_lo: float | None
    boot_hi: float | None


def intraclass(groups: Sequence[Sequence[float]]) -> float | None:
    """The ANOVA estimate of ρ, (MSB − MSW)/(MSB + (m − 1) MSW), with the mean group size adjusted
    where sizes differ; None if no value differs."""
    squares = _mean_squares(groups)
    if squares is None:
        return None
    between, within, size = squares
    return (between - within) / (between + (size - 1) * within)


def _mean_squares(groups: Sequence[Sequence[float]]) -> tuple[float, float, float] | None:
    """Between, within, and the size m that stands for all groups."""
    count, total = len(groups), sum(map(len, groups))
    grand = mean([value for group in groups for value in group])
    means = [mean(list(group)) for group in groups]
    spread = zip(groups, means, strict=True)
    between = sum(len(g) * (m - grand) ** 2 for g, m in spread) / (count - 1)
    spread = zip(groups, means, strict=True)
    within = sum((value - m) ** 2 for g, m in spread for value in g) / (total - count)
    size = (total - sum(len(g) ** 2 for g in groups) / total) / (count - 1)
    return (between, within, size) if between + within > 0 else None


def correlation(seeds: Seeds, rng: random.Random) -> Correlation:
    groups = list(seeds.values())
    squares = _mean_squares(groups)
    if squares is None:
        return Correlation(None, None, None, None, None)
    between, within, size = squares
    top, bottom = len(groups) - 1, sum(map(len, groups)) - len(groups)
    ends: list[float] = []
    for level in (0.975, 0.025):
        ratio = between / within / fisher.ppf(level, top, bottom) if within else float("inf")
        ends.append((ratio - 1) / (ratio + size - 1) if within else 1.0)
    drawn = (intraclass(rng.choices(groups, k=len(groups))) for _ in range(DRAWS))
    found = sorted(value for value in drawn if value is not None)
    low, high = found[int(0.025 * len(found))], found[int(0.975 * len(found))]
    return Correlation(intraclass(groups), ends[0], ends[1], low, high)


def measured(rows: Iterable[dict[str, Any]], metric: str) -> dict[tuple[str, str], Seeds]:
    """(method, variant) -> the values of each seed's targets."""
    found: dict[tuple[str, str], Seeds] = {}
    for row in rows:
        if row["audit"] != AUDIT or row["metric"] != metric:
            continue
        seeds = found.setdefault((row["method"], row["variant"]), defaultdict(list))
        for seed, value in zip(row["seeds"], row["values"], strict=True):
            if value is not None:
                seeds[seed].append(value)
    return found


def gaps(ours: Seeds, retrained: Seeds) -> Seeds:
    """Differences to retraining, target by target: what a verdict is about."""
    return {s: [a - b for a, b in zip(ours[s], retrained[s], strict=True)] for s in ours}


def line(name: str, metric: str, seeds: Seeds, found: Correlation) -> str:
    targets = sorted({len(values) for values in seeds.values()})
    size = "/".join(map(str, targets))
    if found.rho is None or found.lo is None or found.hi is None:
        return f"| {name} | {metric} | {len(seeds)} × {size} | – | – | – | – |"
    each = mean([float(len(values)) for values in seeds.values()])
    effect = 1 + (each - 1) * max(found.rho, 0.0)
    value = mean([value for values in seeds.values() for value in values])
    return (
        f"| {name} | {metric} | {len(seeds)} × {size} | {value:.3f} | {found.rho:+.3f} | "
        f"{found.lo:+.3f} to {found.hi:+.3f} | {found.boot_lo:+.3f} to {found.boot_hi:+.3f} | "
        f"{effect:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", default=[])
    options: Any = parser.parse_args()
    rows = [row for file in options.files for row in json.loads(file.read_text())["rows"]]
    print(
        "| method | value | seeds × targets | mean | ρ | 95 % (Searle) | 95 % (bootstrap) | "
        "design effect |\n|---|---|---|---:|---:|---|---|---:|"
    )
    for metric in (PROBABILITY, RATE):
        table = measured(rows, metric)
        [retrained] = [seeds for (method, _), seeds in table.items() if method == "retrain"]
        for (method, variant), seeds in table.items():
            if options.methods and method not in options.methods:
                continue
            name, rng = f"{method} {variant}".strip(), random.Random(0)
            print(line(name, metric, seeds, correlation(seeds, rng)))
            if metric == PROBABILITY and method != "retrain":
                differences = gaps(seeds, retrained)
                print(line(name, "gap to retrain", differences, correlation(differences, rng)))


if __name__ == "__main__":
    main()
