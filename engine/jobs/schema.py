"""What the JSON files of a run may say: types, ranges, lengths and counts, in one place.

Format 1. Who takes in a stranger's archive checks all of it (admission.py); who reads a home checks
what lists and tables of runs rely on, for a run may have been taken in, or written, by another
version. Keys that are not named here belong to later versions and are left alone, but for plans,
whose every key means something.

Depth and the size of numbers are bounded in the text already (bounded_json.py). Plain Python: a list
of runs can do without pydantic's half second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.jobs.events import EXACT, LARGEST, LAST
from engine.jobs.records import LINE, LONGEST, NAME, STORY
from engine.spec.planned import ROLES

FORMAT = 1
MOST_STAGES, MOST_CELLS, MOST_SEARCHES = 1_000_000, 2_000_000, 100_000
SEED = 1 << 64
_KEY = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9/_-]{0,39}")

Check = Callable[[Any], None]


class Unfit(ValueError):
    """What is wrong with a value, and where: `cells[3].role = 'x': must be …`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why, self.place = why, ""

    def under(self, part: str) -> Unfit:
        """The same, seen from what the value is a part of. Only what is wrong pays for its place."""
        joint = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{part}{joint}{self.place}"
        return self

    def __str__(self) -> str:
        return f"{self.place}{self.why}" if self.place else self.why.removeprefix(" = ")


def _unfit(value: Any, must: str) -> Unfit:
    try:
        shown = repr(value[:60] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits
        shown = type(value).__name__
    return Unfit(f" = {shown[:60]}{'…' * (len(shown) > 60)}: must be {must}")


# --- what there is to say of a value -------------------------------------------------------------


def text(most: int) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, str):
            raise _unfit(value, "text")
        if len(value) > most:
            raise _unfit(value, f"at most {most:,} characters, not {len(value):,}")

    return check


def matching(pattern: re.Pattern[str], must: str) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _unfit(value, must)

    return check


def number(low: float, high: float) -> Check:
    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unfit(value, "a number")
        if not low <= value <= high:  # NaN neither
            raise _unfit(value, f"a number from {low:g} to {high:g}")

    return check


def whole(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _unfit(value, f"a whole number from {low} to {high}")

    return check


def flag(value: Any) -> None:
    if not isinstance(value, bool):
        raise _unfit(value, "true or false")


def one_of(*words: str) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, str) or value not in words:
            raise _unfit(value, f"one of {', '.join(words)}")

    return check


def maybe(inner: Check) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def either(must: str, *checks: Check) -> Check:
    def check(value: Any) -> None:
        if not any(fits(one, value) for one in checks):
            raise _unfit(value, must)

    return check


def listed(item: Check, most: int, least: int = 0) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise _unfit(value, "a list")
        if not least <= len(value) <= most:
            raise Unfit(f" has {len(value):,} items: must be {least} to {most:,}")
        count = 0
        try:
            for each in value:
                item(each)
                count += 1
        except Unfit as error:
            raise error.under(f"[{count}]") from None

    return check


def mapping(inner: Check, most: int) -> Check:
    """A table with any names."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _unfit(value, "a table")
        if len(value) > most:
            raise Unfit(f" has {len(value):,} keys: must be at most {most:,}")
        key = ""
        try:
            for key, each in value.items():
                if len(key) > NAME:
                    raise Unfit(f" is a name of more than {NAME} characters")
                inner(each)
        except Unfit as error:
            raise error.under(key[:60]) from None

    return check


def table(
    needed: Mapping[str, Check], more: Mapping[str, Check] | None = None, *, closed: bool = False
) -> Check:
    """A table that has what is `needed` and may have `more`; other keys only if it is not `closed`."""
    known = {**needed, **(more or {})}

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _unfit(value, "a table")
        for key in needed:
            if key not in value:
                raise Unfit(" is missing").under(key)
        key = ""
        try:
            for key, each in value.items():
                if key in known:
                    known[key](each)
                elif closed:
                    raise Unfit(" is unknown: it was written by another version")
        except Unfit as error:
            raise error.under(key[:60]) from None

    return check


def anything(value: Any) -> None:
    """Whatever JSON has, within the bounds of its text."""


name, line, story = text(NAME), text(LINE), text(STORY)
key = matching(_KEY, "64 hexadecimal digits")
word = matching(_WORD, "a word")
seconds = number(0, LONGEST)  # and training-epoch equivalents
epoch = number(0, LAST)
measured = maybe(number(-LARGEST, LARGEST))
free = mapping(anything, 10_000)

_fact = either("short text, a number, true or false", name, number(-EXACT, EXACT), flag)
ENV = mapping(maybe(_fact), 200)

_component = maybe(table({"name": name}))
_fraction = number(0, 1)
CONFIG = table(
    {},
    {
        **dict.fromkeys(("attack", "audit", "data", "method", "model"), _component),
        "train": maybe(table({})), "rule": maybe(table({})), "classes": listed(line, 1_000_000),
        "validation": maybe(_fraction), "pretraining": maybe(_fraction), "digest": maybe(name),
        "seed": maybe(whole(-SEED, SEED)),
    },
)  # fmt: skip

# --- a run ---------------------------------------------------------------------------------------

RUN = table(
    {},
    {
        "created": epoch, "name": maybe(line), "title": maybe(line), "origin": maybe(line),
        "device": maybe(name), "chelate": maybe(name),
    },
)  # fmt: skip
SESSION = table({}, {"outcome": maybe(name), "reason": maybe(story), "t": maybe(epoch)})
EXIT = table(
    {},
    {
        "stage": key, "attempt": whole(0, EXACT), "outcome": name, "title": maybe(line),
        "reason": maybe(story), "t": maybe(epoch), "seconds": maybe(seconds),
    },
)  # fmt: skip
IMPORTED = table({}, {"run": name, "host": name, "archive": name, "imported": epoch})
STAGE = table(
    {
        "key": key, "kind": word, "title": line, "config": CONFIG,
        "inputs": mapping(key, 1_000), "after": listed(key, 1_000), "tee": seconds,
    },
    closed=True,
)  # fmt: skip
CELL = table(
    {
        "setting": line, "attack": name, "method": name, "variant": line,
        "budget": maybe(number(0, 1e9)), "seed": whole(-SEED, SEED), "audit": name,
        "role": one_of(*ROLES), "key": key, "cost_keys": listed(key, 10_000),
    },
    {"unit": whole(0, EXACT)},
    closed=True,
)  # fmt: skip
TRIAL_OF_PLAN = table(
    {
        "config": free,
        "seeds": listed(whole(-SEED, SEED), 10_000, 1),
        "keys": listed(key, 10_000, 1),
    },
    closed=True,
)
SEARCH = table(
    {
        "setting": line, "attack": name, "method": name, "variant": line,
        "objective": one_of("proxy", "oracle"), "choice": key,
        "trials": listed(TRIAL_OF_PLAN, 10_000, 1), "starts": listed(key, 10_000),
        "references": listed(key, 10_000),
    },
    closed=True,
)  # fmt: skip
PLAN = table(
    {"stages": listed(STAGE, MOST_STAGES), "cells": listed(CELL, MOST_CELLS)},
    {
        "searches": listed(SEARCH, MOST_SEARCHES),
        "reports": mapping(free, MOST_STAGES),
        "pins": mapping(free, MOST_STAGES),
    },
)

# --- what stages leave ---------------------------------------------------------------------------

MEASUREMENTS = table({"metrics": mapping(measured, 100_000)}, {"audit": maybe(name)})
TRIAL = table(
    {"outcome": one_of("ok", "failed", "n/a", "diverged", "missing"), "reason": story},
    {"validation_accuracy": measured, "forgetting": measured, "value": measured},
)
CHOICE = table(
    {"chosen": maybe(whole(0, EXACT)), "config": free, "within": maybe(flag)},
)
POISON = table({"movable": flag, "facts": mapping(measured, 1_000)})
DATA = table(
    {},
    {
        "classes": listed(line, 1_000_000), "shape": listed(whole(0, EXACT), 8),
        "mean": listed(measured, 1_000_000), "std": listed(measured, 1_000_000),
    },
)  # fmt: skip
TEXTS = table(
    {"strings": listed(text(1 << 20), 10_000_000), "tokenizer": name},
    {"base": maybe(listed(text(1 << 20), 10_000_000))},
)
_ROWS = listed(whole(0, EXACT), 100_000_000)
SCORE_ROWS = table({"rows": _ROWS}, {"scored": maybe(_ROWS)})
ARTIFACTS: Mapping[str, Check] = {
    "measurements.json": MEASUREMENTS, "trial.json": TRIAL, "choice.json": CHOICE,
    "poison.json": POISON, "data.json": DATA, "texts.json": TEXTS, "score_rows.json": SCORE_ROWS,
}  # fmt: skip


def fits(check: Check, value: Any) -> bool:
    """Whether a value passes."""
    try:
        check(value)
    except Unfit:
        return False
    return True
