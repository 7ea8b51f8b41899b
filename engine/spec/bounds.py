"""How much of anything is taken from a preset or a file before it is refused.

Far above what experiments need, so that what passes is expanded in seconds and bounded memory. An
environment variable raises (or lowers) each: who has a larger experiment says so. All are listed in
docs/bounds.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.spec.errors import BadInput


@dataclass(frozen=True, slots=True)
class Bound:
    """`variable` is what raises it; `unit` what it counts, in the words of messages."""

    variable: str
    default: int
    unit: str
    summary: str

    @property
    def limit(self) -> int:
        """Raises BadInput where the variable holds no whole number above 0."""
        told = os.environ.get(self.variable, "")
        if not told:
            return self.default
        if not (told.isascii() and told.isdecimal() and len(told) < 19 and int(told) > 0):
            raise BadInput(f"{self.variable} = {told!r}: must be a whole number above 0.")
        return int(told)

    def within(self, value: int | None) -> int | None:
        """`value`, for the check of a key. Raises ValueError where it is more."""
        if value is not None and value > (limit := self.limit):
            raise ValueError(f"must be at most {limit:,} ({self.variable} raises it)")
        return value

    def check(self, found: int, where: str) -> None:
        """Raises BadInput where `found` is more; `where` begins the message, with what is too much:
        "mine.toml: seeds holds"."""
        if found > (limit := self.limit):
            raise BadInput(self.message(found, where, limit))

    def message(self, found: int, where: str, limit: int | None = None) -> str:
        limit = self.limit if limit is None else limit
        figure = f"{found:,}" if found < 10**18 else f"over 10^{len(str(found)) - 1}"
        return f"{where} {figure} {self.unit}; the limit is {limit:,} ({self.variable} raises it)."


PRESET = Bound(
    "CHELATE_MAX_PRESET_BYTES", 1 << 20, "bytes", "text of a preset, or of one --set"
)  # fmt: skip
NESTING = Bound(
    "CHELATE_MAX_NESTING", 32, "levels", "tables and lists inside each other, words of a dotted key"
)
DIGITS = Bound("CHELATE_MAX_DIGITS", 19, "digits", "a whole number in a preset")
VALUES = Bound("CHELATE_MAX_VALUES", 100_000, "values", "a list, or the keys of a table")
GRID = Bound(
    "CHELATE_MAX_GRID_POINTS", 1_000, "grid points",
    "combinations of the top-level grid; of all attacks' grids; of all methods'; of one search's",
)  # fmt: skip
WORKERS = Bound("CHELATE_MAX_WORKERS", 1_024, "", "compute.workers, compute.threads")
LAYERS = Bound("CHELATE_MAX_LAYERS", 10_000, "layers", "a model's depth")
STAGES = Bound("CHELATE_MAX_STAGES", 100_000, "stages", "stages of a plan")
PATH = Bound("CHELATE_MAX_PATH_BYTES", 4_096, "bytes", "a path")
FILE = Bound(
    "CHELATE_MAX_FILE_BYTES", 1 << 30, "bytes", "a file of data: table, texts, image, tokenizer"
)
WEIGHTS = Bound("CHELATE_MAX_WEIGHTS_BYTES", 1 << 36, "bytes", "a file of weights")
CELLS = Bound("CHELATE_MAX_CELLS", 25_000_000, "cells", "rows times columns of a Parquet file")
STALL = Bound(
    "CHELATE_FILE_SECONDS", 60, "seconds", "without a byte from a file, until it is given up"
)
ALL = (
    PRESET,
    NESTING,
    DIGITS,
    VALUES,
    GRID,
    WORKERS,
    LAYERS,
    STAGES,
    PATH,
    FILE,
    WEIGHTS,
    CELLS,
    STALL,
)
