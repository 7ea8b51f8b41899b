"""What the product says of real retrainings, which hold no poison: residue must be rare.

    python benchmarks/retrainings.py --home DIR [--seeds 40] [--group 5]

Runs the quickstart's model and Gaussian poison, and BadNets beside it, with nothing but `retrain`
and `retrain-fresh`, through the command line; then judges `retrain-fresh` seed by seed and in
disjoint groups of seeds with `engine.results.compare.compare`. What the store of --home has is not
trained again. Prints the tables of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from scipy.stats import kstest

from engine.results.compare import Row, compare
from engine.results.statistics import clopper_pearson, mean, standard_deviation
from engine.results.tidy import Measurement, registered_audits

QUICKSTART = Path(__file__).resolve().parents[1] / "presets" / "quickstart.toml"
ROLES = ("retrain", "retrain-fresh")


def preset(folder: Path, seeds: int) -> Path:
    """The quickstart with only retraining, and a backdoor beside its noise."""
    told = tomllib.loads(QUICKSTART.read_text())
    told |= {
        "title": "Retrainings",
        "seeds": list(range(seeds)),
        "methods": [{"name": name} for name in ROLES],
        "audits": [*told["audits"], {"name": "attack-success"}],
    }
    told["attacks"].append({"name": "badnets", "share": 0.015})
    path = folder / "retrainings.toml"
    path.write_text(tomli_w.dumps(told))
    return path


def measure(home: Path, seeds: int) -> list[Row]:
    """Rows of the whole run, as `chelate compare --json` has them."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "chelate", "run", str(preset(home, seeds)), "--json"]
    done = subprocess.run([*command, "--home", str(home)], stdout=subprocess.PIPE, check=True)
    rows: list[Row] = json.loads(done.stdout)["rows"]
    return rows


def of_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> list[Measurement]:
    """The rows taken apart again, for some of the seeds."""
    return [
        Measurement(
            run="r",
            setting=row["setting"],
            attack=row["attack"],
            method=row["method"],
            variant=row["variant"],
            budget=row["budget"],
            seed=seed,
            audit=row["audit"],
            metric=row["metric"],
            value=value,
            role=row["method"],
            tee=0.0,
            seconds=0.0,
            status="ok",
            reason="",
        )
        for row in rows
        for seed, value in zip(row["seeds"], row["values"], strict=True)
        if seed in seeds
    ]


def verdicts(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> dict[str, Counter[str]]:
    """attack -> how often each word is said of `retrain-fresh`, a family for each group."""
    told: dict[str, Counter[str]] = {}
    audits = registered_audits()
    for group in groups:
        for row in compare(of_seeds(rows, group), audits):
            judged = row["primary"] and row["method"] == "retrain-fresh"
            if judged and row["audit"] != "accuracy":
                told.setdefault(row["attack"], Counter())[row["verdict"]] += 1
    return told


def values(rows: Sequence[Row], method: str, metric: str, attack: str = "gaussian") -> list[float]:
    return [
        value
        for row in rows
        if (row["method"], row["metric"], row["attack"]) == (method, metric, attack)
        for value in row["values"]
    ]


def table(rows: Sequence[Row], groups: Sequence[Sequence[int]], words: str) -> None:
    for attack, told in verdicts(rows, groups).items():
        count = sum(told.values())
        lo, hi = clopper_pearson(told["residue"], count)
        rest = ", ".join(f"{n} {word}" for word, n in told.most_common() if word != "residue")
        bounds = f"{100 * lo:.1f}–{100 * hi:.1f} %"
        print(f"| {attack} | {words} | {told['residue']} of {count} ({bounds}) | {rest} |")


def scores(rows: Sequence[Row]) -> None:
    """Whether the null holds for real retrainings: √P × mean score of each is N(0, 1)."""
    print("\n| model | n | mean of z | std of z | Kolmogorov-Smirnov p | mean std of scores |")
    print("|---|---:|---:|---:|---:|---:|")
    for method in ROLES:
        z, std = values(rows, method, "z"), values(rows, method, "std_score")
        print(
            f"| {method} | {len(z)} | {mean(z):+.3f} ± {1.96 / math.sqrt(len(z)):.3f} | "
            f"{standard_deviation(z):.3f} | {kstest(z, 'norm').pvalue:.2f} | {mean(std):.4f} |"
        )
    for metric, attack in (("test_accuracy", "gaussian"), ("asr", "badnets")):
        found = [values(rows, method, metric, attack) for method in ROLES]
        gaps = [a - b for a, b in zip(*found, strict=True)]
        print(
            f"\n{metric}: mean {mean(found[0]):.4f}, std over seeds "
            f"{standard_deviation(found[0]):.4f}, of paired gaps {standard_deviation(gaps):.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--group", type=int, default=5)
    options: Any = parser.parse_args()
    rows = measure(options.home, options.seeds)
    alone = [[seed] for seed in range(options.seeds)]
    size = options.group
    groups = [list(range(at, at + size)) for at in range(0, options.seeds - size + 1, size)]
    print("| attack | judged | residue | other words |")
    print("|---|---|---:|---|")
    table(rows, alone, "each seed alone")
    table(rows, groups, f"groups of {size} seeds")
    scores(rows)


if __name__ == "__main__":
    main()
