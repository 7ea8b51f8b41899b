"""How often each word is said in the simulated runs of each cell: counted, kept as JSON, tabled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import RUNS, Cell
from benchmarks.simulation import falsehoods, truths, verdicts
from engine.results.statistics import clopper_pearson

LIMIT = 0.05


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of

    def bounds(self, confidence: float = 0.95) -> tuple[float, float]:
        return clopper_pearson(self.hits, self.of, confidence)

    def above(self, cells: int) -> bool:
        """Whether its one-sided lower 95 % bound, Bonferroni over `cells`, is above LIMIT."""
        return self.bounds(1 - 2 * 0.05 / cells)[0] > LIMIT

    def __str__(self) -> str:
        lo, hi = self.bounds()
        return f"{100 * self.value:.1f} % ({100 * lo:.1f}–{100 * hi:.1f})"


# --- counts --------------------------------------------------------------------------------------

Counts = dict[str, Any]  # plain JSON: runs, false: name -> hits, words: truth -> word -> rows


def count(cell: Cell, runs: int = RUNS) -> Counts:
    """How often each false word was said in `runs` runs, and every word of every truth."""
    wrong = falsehoods(cell)
    rows = [row.truth if row.role == "unlearn" else row.role for row in truths(cell)]
    hits = dict.fromkeys((falsehood.name for falsehood in wrong), 0)
    tally: dict[str, Counter[str]] = {truth: Counter() for truth in rows[1:]}
    for run in verdicts(cell, runs):
        for falsehood in wrong:
            hits[falsehood.name] += falsehood.said(run)
        for truth, word in zip(rows[1:], run[1:], strict=True):
            tally[truth][word] += 1
    return {
        "cell": repr(cell),
        "runs": runs,
        "false": hits,
        "words": {truth: dict(counter) for truth, counter in tally.items()},
    }


def measured(
    cells: Sequence[Cell], runs: int, out: Path | None = None, jobs: int = 1
) -> dict[str, Counts]:
    """`count` of every cell by its name. What is in the JSON file `out` already, of the same cell
    and as many runs, is not drawn again; it is written after each cell."""
    known: dict[str, Counts] = json.loads(out.read_text()) if out and out.exists() else {}
    missing = [
        cell for cell in cells
        if (old := known.get(cell.name)) is None
        or old["cell"] != repr(cell) or old["runs"] != runs
    ]  # fmt: skip
    for cell, counts in zip(missing, _counted(missing, runs, jobs), strict=True):
        known[cell.name] = counts
        if out:
            part = out.with_suffix(".part")
            part.write_text(json.dumps(known, indent=1))
            part.replace(out)
    return {cell.name: known[cell.name] for cell in cells}


def _counted(cells: Sequence[Cell], runs: int, jobs: int) -> Iterable[Counts]:
    if jobs == 1:
        yield from (count(cell, runs) for cell in cells)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(count, cells, [runs] * len(cells))


# --- tables --------------------------------------------------------------------------------------


def falsehood_table(cells: Sequence[Cell], found: Mapping[str, Counts]) -> Iterator[str]:
    """Lines of Markdown: each cell with its false words, and those shown to be above LIMIT."""
    columns = ("residue", "wrecked", "reinforced", "over-corrected", "nothing to remove")
    yield f"| cell | {' | '.join(columns)} | removed, one row | above 5 % |"
    yield "|---|" + "---:|" * (len(columns) + 1) + "---|"
    failed = {(cell, name) for cell, name, _ in failures(cells, found)}
    for cell in cells:
        false = shares(found[cell.name])
        above = [name for name in false if (cell.name, name) in failed]
        shown = [str(false.pop(name, "")) for name in columns]
        worst = max(false.values(), key=lambda share: share.hits, default="")
        note = ", ".join(above) if cell.held else "not held"
        yield f"| {cell.name} | {' | '.join(shown)} | {worst} | {note} |"


def failures(cells: Sequence[Cell], found: Mapping[str, Counts]) -> list[tuple[str, str, Share]]:
    """(cell, false word, share) of every held cell whose lower bound is above LIMIT."""
    held = [cell for cell in cells if cell.held]
    return [
        (cell.name, name, share)
        for cell in held
        for name, share in shares(found[cell.name]).items()
        if share.above(len(held))
    ]


def shares(counts: Counts) -> dict[str, Share]:
    return {name: Share(hits, counts["runs"]) for name, hits in counts["false"].items()}


def power_table(cells: Sequence[Cell], found: Mapping[str, Counts]) -> Iterator[str]:
    """Lines of Markdown: the share of each word in the cells of power."""
    chosen = [cell for cell in cells if cell.power]
    names = sorted({
        word for cell in chosen for by_word in found[cell.name]["words"].values()
        for word in by_word
    })  # fmt: skip
    yield f"| cell | truth | {' | '.join(names)} |"
    yield "|---|---|" + "---:|" * len(names)
    for cell in chosen:
        for group in cell.methods:
            tally = found[cell.name]["words"][group.truth]
            total = sum(tally.values())
            shares = [f"{100 * tally.get(name, 0) / total:.1f}" for name in names]
            yield f"| {cell.name} | {group.truth} | {' | '.join(shares)} |"


# --- two rules on the same cells -----------------------------------------------------------------


def worst(counts: Counts, word: str) -> Share | None:
    """The false word said most often among those that begin with `word` ("removed (null)")."""
    found = [share for name, share in shares(counts).items() if name.split(" (")[0] == word]
    return max(found, key=lambda share: share.hits, default=None)


def beside_table(
    cells: Sequence[Cell], before: Mapping[str, Counts], after: Mapping[str, Counts]
) -> Iterator[str]:
    """Lines of Markdown: each cell's false words in % by two rules, the earlier first."""
    words = ("residue", "removed", "wrecked")
    yield f"| cell | {' | '.join(words)} | others | above 5 % |"
    yield "|---|---:|---:|---:|---|---|"
    failed = {(cell, name): share for cell, name, share in failures(cells, after)}
    for cell in cells:
        old, new = before[cell.name], after[cell.name]
        shown = [_pair(worst(old, word), worst(new, word)) for word in words]
        others = [
            f"{name} {100 * share.value:.1f}"
            for name, share in shares(new).items()
            if name.split(" (")[0] not in words and share.hits * 1000 >= share.of
        ]
        above = [f"{name} {share}" for (at, name), share in failed.items() if at == cell.name]
        note = "; ".join(above) if cell.held else "not held"
        yield f"| {cell.name} | {' | '.join(shown)} | {', '.join(others)} | {note} |"


def _pair(old: Share | None, new: Share | None) -> str:
    before, after = ("-" if one is None else f"{100 * one.value:.1f}" for one in (old, new))
    return "" if old is None and new is None else f"{before} → {after}"


def power_beside(
    cells: Sequence[Cell], before: Mapping[str, Counts], after: Mapping[str, Counts]
) -> Iterator[str]:
    """Lines of Markdown: how often, in %, each truth gets its word by two rules."""
    right = {"nothing left": "removed", "half left": "residue", "all left": "residue"}
    yield f"| cell | {' | '.join(f'{truth}: *{word}*' for truth, word in right.items())} |"
    yield "|---|" + "---:|" * len(right)
    for cell in cells:
        if not cell.power:
            continue
        shown = []
        for truth, word in right.items():
            old, new = (_said(counts[cell.name], truth, word) for counts in (before, after))
            shown.append(f"{old:.1f} → {new:.1f}")
        yield f"| {cell.name.removeprefix('power, ')} | {' | '.join(shown)} |"


def _said(counts: Counts, truth: str, word: str) -> float:
    """How often a row of this truth gets the word, whatever qualifies it, in %."""
    tally = counts["words"][truth]
    hits = sum(number for name, number in tally.items() if name.split(" (")[0] == word)
    return 100 * hits / sum(tally.values())
