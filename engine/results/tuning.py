"""The searches behind tuned rows: every trial, what it scored, what it cost, and which was taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.results.tables import markdown_table, number
from engine.results.tidy import StoreReader, finite
from engine.spec.planned import Search, shown
from engine.spec.tuning import Score, pooled

Row = dict[str, Any]

ORACLE = "oracle: chosen by looking at the audit; an upper bound, not a result to compare"


def trials_of(run_id: str, searches: Iterable[Search], store: StoreReader) -> list[Row]:
    """A row for each trial of each search, in the plan's order. Plain JSON; undefined is None.

    validation_accuracy, forgetting  means over the search's seeds
    start_accuracy, start_forgetting those of the model before unlearning
    value                            of the audit an oracle looked at; else None
    tee, seconds                     of all its seeds together
    chosen                           whether this setting was taken; None while that is open
    within                           of the chosen one: whether it kept the accuracy
    """
    rows = []
    for search in searches:
        choice = store.told(search.choice, "choice.json")
        start = _score(search.starts, search.trials[0].seeds, store)
        for index, trial in enumerate(search.trials):
            score = _score(trial.keys, trial.seeds, store)
            tee, seconds = store.cost(trial.keys)
            chosen = None if choice is None else choice["chosen"] == index
            rows.append(
                {
                    "run": run_id,
                    "setting": search.setting,
                    "attack": search.attack,
                    "method": search.method,
                    "variant": search.variant,
                    "objective": search.objective,
                    "config": trial.config,
                    "seeds": list(trial.seeds),
                    "outcome": score.outcome,
                    "reason": score.reason,
                    "validation_accuracy": finite(score.validation_accuracy),
                    "start_accuracy": finite(start.validation_accuracy),
                    "forgetting": finite(score.forgetting),
                    "start_forgetting": finite(start.forgetting),
                    "value": finite(score.value),
                    "tee": tee,
                    "seconds": seconds,
                    "chosen": chosen,
                    "within": choice["within"] if choice is not None and chosen else None,
                }
            )
    return rows


def _score(keys: tuple[str, ...], seeds: tuple[int, ...], store: StoreReader) -> Score:
    return pooled(
        [
            (seed, store.told(key, "trial.json") or _absent(store, key))
            for seed, key in zip(seeds, keys, strict=True)
        ]
    )


def _absent(store: StoreReader, key: str) -> Row:
    """A trial without an artifact: not computed yet, or failed for another reason than diverging."""
    status, reason = store.outcome(key)
    return {"outcome": "missing" if status == "ok" else status, "reason": reason}


HEADINGS = (
    ("attack", False), ("method", False), ("variant", False), ("setting tried", False),
    ("validation acc", True), ("forgetting", True), ("audit", True), ("TEE", True),
    ("seconds", True), ("outcome", False),
)  # fmt: skip


def table_of(trials: Sequence[Row]) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """(heading, is a number) and cells, one line for each trial; empty columns are left out."""
    lines = [
        [
            " ".join(filter(None, (row["attack"], row["setting"]))),
            row["method"],
            row["variant"],
            shown(row["config"]),
            number(row["validation_accuracy"], ".3f"),
            number(row["forgetting"], ".3f"),
            number(row["value"], ".3f"),
            number(row["tee"], ".3g"),
            number(row["seconds"], ".1f"),
            outcome_of(row),
        ]
        for row in trials
    ]
    kept = [n for n in range(len(HEADINGS)) if {line[n] for line in lines} - {"-"}]
    return [HEADINGS[n] for n in kept], [[line[n] for n in kept] for line in lines]


def outcome_of(row: Row) -> str:
    """One word or reason: chosen, within or beyond the tolerance, or why there is no score."""
    if row["outcome"] != "ok":
        told = "" if row["reason"].startswith(row["outcome"]) else f"{row['outcome']}: "
        return f"{told}{row['reason']}"
    if not row["chosen"]:
        return ""
    return "chosen" if row["within"] else "chosen (none kept the accuracy)"


def to_markdown(trials: Sequence[Row]) -> str:
    """The trials as a pipe table under a heading; empty without trials."""
    if not trials:
        return ""
    oracle = any(row["objective"] == "oracle" for row in trials)
    return f"\n{note(trials)}{' ' + ORACLE + '.' if oracle else ''}\n\n" + markdown_table(
        *table_of(trials)
    )


def note(trials: Sequence[Row]) -> str:
    """How many settings were tried, at what cost."""
    tee = sum(row["tee"] for row in trials)
    seconds = sum(row["seconds"] for row in trials)
    methods = len({(row["method"], row["variant"]) for row in trials})
    return (
        f"Tuning: {len(trials)} trials for {methods} methods, {tee:.3g} TEE and {seconds:.0f} s of "
        "compute, beside the methods' own cost."
    )
