"""What the product says of real retrainings, which hold no poison: a false word must be rare.

    python benchmarks/retrainings.py --home DIR [--data digits text] [--first 100] [--seeds 40]
        [--groups 3 5] [--images DIR]

Runs the models and attacks of `DATA` with nothing but `none` and retrainings, through the command
line; then judges those that are not the reference, `retrain-fresh` and a third one
(`retrain_again.py`), in disjoint groups of seeds with `engine.results.compare.compare`. Of a perfect
unlearner *residue* and *wrecked* are false. What the store of --home has is not trained again.
Prints the tables of docs/statistics.md.

Not among the audits: `mia-lira` and `mia-ulira`, which take 16 more trainings a seed, and
`targeted-success`, of which `targets.py` has real retrainings.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from scipy.stats import kstest

from engine.results.compare import Row, compare
from engine.results.statistics import mean, standard_deviation, wilson
from engine.results.tidy import Measurement, registered_audits

ROOT = Path(__file__).resolve().parents[1]
REFERENCES = ("none", "retrain", "retrain-fresh")  # their role is their name
AGAIN = "retrain-again"
PERFECT = ("retrain-fresh", AGAIN)
FALSE = ("residue", "wrecked")

# Audits made for one attack; `accuracy` is beside them, and `mia-loss` where `DATA` says so.
AUDITS = {
    "gaussian": "gaussian",
    "badnets": "attack-success",
    "text-trigger": "attack-success",
    "interclass-confusion": "interclass-confusion",
}
# data -> the preset it comes from, and what replaces its attacks
DATA: dict[str, dict[str, Any]] = {
    "digits": {
        "preset": "quickstart",
        "attacks": [
            {"name": "gaussian", "share": 0.05, "noise_std": 0.31},
            {"name": "badnets", "share": 0.015},
            {"name": "interclass-confusion"},
        ],
        "membership": True,
    },
    "text": {
        "preset": "backdoor-text",
        "attacks": [
            {"name": "text-trigger", "share": 0.02, "target": 1, "phrase": "james bond"},
            {"name": "gaussian", "share": 0.05, "noise_std": 1.0},
        ],
        "membership": True,
    },
    "resnet18": {
        "preset": "resnet18-cpu",
        "attacks": [{"name": "gaussian", "share": 0.2, "noise_std": 0.14}],
        "membership": False,  # each of its forwards over 1,000 images takes seconds
    },
}


class Judged(NamedTuple):
    """Whose words are counted together."""

    attack: str
    audit: str
    method: str


def preset(
    folder: Path,
    data: str,
    seeds: Sequence[int],
    *,
    attacks: Sequence[str] = (),
    again: bool = True,
    images: Path | None = None,
) -> Path:
    """A file with the preset of `data`, its methods nothing but `none` and retrainings.

    `attacks` names those wanted, all if empty; `again` adds the third retraining. `images` is the
    folder that stands in for CIFAR-10.
    """
    chosen = DATA[data]
    made = tomllib.loads((ROOT / "presets" / f"{chosen['preset']}.toml").read_text())
    wanted = [attack for attack in chosen["attacks"] if not attacks or attack["name"] in attacks]
    audits = ["accuracy", *dict.fromkeys(AUDITS[attack["name"]] for attack in wanted)]
    audits += ["mia-loss"] * chosen["membership"]
    made |= {
        "title": f"Retrainings, {data}",
        "seeds": list(seeds),
        "budgets": [1.0],
        "methods": [{"name": name} for name in (*REFERENCES, *[AGAIN] * again)],
        "attacks": wanted,
        "audits": [
            {"name": name} | ({"rank_draws": 19} if name == "gaussian" else {}) for name in audits
        ],
    }
    if images is not None and data == "resnet18":
        limits = {key: made["data"][key] for key in ("limit_train", "limit_test")}
        made["data"] = {"name": "image-folder", "path": str(images), **limits}
    path = folder / f"retrainings-{data}.toml"
    path.write_text(tomli_w.dumps(made))
    return path


def plugged_in(folder: Path) -> dict[str, str]:
    """The environment in which chelate knows the third retraining, as if it were installed."""
    made = folder / "plugin" / "chelate_retrain_again-1.dist-info"
    made.mkdir(parents=True, exist_ok=True)
    about = "Metadata-Version: 2.1\nName: chelate-retrain-again\nVersion: 1\n"
    (made / "METADATA").write_text(about)
    entry = f"{AGAIN} = benchmarks.retrain_again:RetrainAgain"
    (made / "entry_points.txt").write_text(f"[chelate.methods]\n{entry}\n")
    path = os.pathsep.join((str(made.parent), str(ROOT), os.environ.get("PYTHONPATH", "")))
    return os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}


def measure(home: Path, data: str, seeds: Sequence[int], **options: Any) -> list[Row]:
    """Rows of the whole run, as `chelate compare --json` has them; `options` as of `preset`."""
    home.mkdir(parents=True, exist_ok=True)
    path = preset(home, data, seeds, **options)
    command = [sys.executable, "-m", "chelate", "run", str(path), "--json", "--home", str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=plugged_in(home))
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
            role=row["method"] if row["method"] in REFERENCES else "unlearn",
            tee=0.0,
            seconds=0.0,
            status="ok",
            reason="",
        )
        for row in rows
        for seed, value in zip(row["seeds"], row["values"], strict=True)
        if seed in seeds
    ]


def groups_of(seeds: Sequence[int], size: int) -> list[Sequence[int]]:
    """As many disjoint groups as there are, in order; what is left over is left out."""
    return [seeds[at : at + size] for at in range(0, len(seeds) - size + 1, size)]


def judged(rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[tuple[Judged, str]]:
    """Each word said of a perfect unlearner, with these seeds alone."""
    for row in compare(of_seeds(rows, seeds), registered_audits()):
        if row["primary"] and row["method"] in PERFECT:
            yield Judged(row["attack"], row["audit"], row["method"]), row["verdict"]


def verdicts(
    rows: Sequence[Row], groups: Sequence[Sequence[int]]
) -> tuple[dict[Judged, Counter[str]], dict[str, int]]:
    """How often each word is said of each perfect unlearner, and attack -> how many groups have
    any false word."""
    words: dict[Judged, Counter[str]] = {}
    wronged: dict[str, int] = {}
    for group in groups:
        found = list(judged(rows, group))
        for row, word in found:
            words.setdefault(row, Counter())[word] += 1
        for attack in dict.fromkeys(row.attack for row, _ in found):
            false = any(row.attack == attack and word in FALSE for row, word in found)
            wronged[attack] = wronged.get(attack, 0) + false
    return words, wronged


def values(rows: Sequence[Row], method: str, metric: str, attack: str) -> dict[int, float]:
    """seed -> value of one metric of one model."""
    return {
        seed: value
        for row in rows
        if (row["method"], row["metric"], row["attack"]) == (method, metric, attack)
        for seed, value in zip(row["seeds"], row["values"], strict=True)
        if value is not None
    }


# --- tables --------------------------------------------------------------------------------------


def share(count: int, of: int) -> str:
    """ "2 of 13 (4.3–42.2 %)", Wilson's interval."""
    lo, hi = wilson(count, of)
    return f"{count} of {of} ({100 * lo:.1f}–{100 * hi:.1f} %)"


def print_words(data: str, rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> None:
    words, wronged = verdicts(rows, groups)
    size = len(groups[0])
    for row, counted in words.items():
        others = ", ".join(f"{n} {word}" for word, n in counted.most_common() if word not in FALSE)
        false = share(sum(counted[word] for word in FALSE), counted.total())
        place = f"| {data} | {row.attack} | {row.audit} | {row.method} | {size} |"
        print(f"{place} {false} | {others} |")
    for attack, count in wronged.items():
        print(f"| {data} | {attack} | any | any | {size} | {share(count, len(groups))} | |")


def print_spread(data: str, rows: Sequence[Row]) -> None:
    """How far retrainings of a seed lie apart: what a loss of accuracy, or a rate, is seen against."""
    for metric in ("test_accuracy", "asr", "test_confusion", "auc"):
        for attack in dict.fromkeys(row["attack"] for row in rows):
            one = values(rows, "retrain", metric, attack)
            for method in PERFECT:
                other = values(rows, method, metric, attack)
                gaps = [other[seed] - one[seed] for seed in one if seed in other]
                if len(gaps) > 1:
                    print(
                        f"| {data} | {attack} | {metric} | {method} | {len(gaps)} | "
                        f"{mean(list(one.values())):.4f} | "
                        f"{standard_deviation(list(one.values())):.4f} | {mean(gaps):+.4f} | "
                        f"{standard_deviation(gaps):.4f} |"
                    )


def print_scores(data: str, rows: Sequence[Row]) -> None:
    """Whether the null holds for real retrainings: √P × mean score of each is N(0, 1)."""
    for method in ("retrain", *PERFECT):
        z = list(values(rows, method, "z", "gaussian").values())
        std = list(values(rows, method, "std_score", "gaussian").values())
        if len(z) > 1:
            print(
                f"| {data} | {method} | {len(z)} | {mean(z):+.3f} ± {1.96 / math.sqrt(len(z)):.3f} | "
                f"{standard_deviation(z):.3f} | {kstest(z, 'norm').pvalue:.2f} | {mean(std):.4f} |"
            )


def head(*columns: str) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=DATA, default=["digits", "text"])
    parser.add_argument("--attacks", nargs="+", default=[])
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--groups", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--images", type=Path)
    options: Any = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    found = {
        data: measure(options.home, data, seeds, attacks=options.attacks, images=options.images)
        for data in options.data
    }
    head("data", "attack", "audit", "judged", "seeds", "false word", "other words")
    for size in options.groups:
        for data, rows in found.items():
            print_words(data, rows, groups_of(seeds, size))
    head("data", "attack", "metric", "method", "n", "mean", "sd", "mean gap", "sd of gaps")
    for data, rows in found.items():
        print_spread(data, rows)
    head(
        "data", "model", "n", "mean of z", "std of z", "Kolmogorov-Smirnov p", "mean std of scores"
    )
    for data, rows in found.items():
        print_scores(data, rows)


if __name__ == "__main__":
    main()
