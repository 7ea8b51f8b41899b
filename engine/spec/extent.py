"""How large a preset's data are, measured before anything walks through or expands them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from engine.spec.bounds import DIGITS, GRID, NESTING, VALUES
from engine.spec.errors import BadInput, cut
from engine.spec.path_keys import Place, in_words


def check_data(raw: Any, where: str) -> None:
    """Depth, lengths and digits of a preset's data. Raises BadInput, before anything recurses."""
    depth, values, digits = NESTING.limit, VALUES.limit, DIGITS.limit
    largest = 10**digits
    for place, value in _values(raw, depth + 1):
        if isinstance(value, dict | list):
            if len(place) >= depth and value:
                NESTING.check(depth + 1, f"{where}: {cut(in_words(place))} lies at least")
            if len(value) > values:
                VALUES.check(len(value), f"{where}: {cut(in_words(place)) or 'the preset'} holds")
        elif isinstance(value, int) and not -largest < value < largest:
            told = f"{where}: {cut(in_words(place))} has at least"
            raise BadInput(DIGITS.message(digits + 1, told))


def _values(raw: Any, depth: int) -> Iterator[tuple[Place, Any]]:
    """Every value and its place, without recursion, down to `depth`."""
    left: list[tuple[Place, Any]] = [((), raw)]
    while left:
        place, value = left.pop()
        yield place, value
        if len(place) < depth and isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            left += [((*place, key), one) for key, one in inner]


def check_grids(raw: dict[str, Any], where: str) -> None:
    """Combinations of every grid of a preset, before one is made. Raises BadInput."""
    GRID.check(_points(raw), f"{where}: grid has")
    for name in ("attacks", "methods"):
        entries = raw.get(name)
        if isinstance(entries, list):
            points = sum(_points(entry) for entry in entries)
            GRID.check(points, f"{where}: {name} have, with their grids,")
    tune = raw.get("tune")
    grids = tune.get("grids") if isinstance(tune, dict) else None
    for name, grid in grids.items() if isinstance(grids, dict) else ():
        GRID.check(_points({"grid": grid}), f"{where}: tune.grids.{cut(name)} has")


def _points(table: Any) -> int:
    grid = table.get("grid") if isinstance(table, dict) else None
    if not isinstance(grid, dict):
        return 1
    return prod(len(values) if isinstance(values, list) else 1 for values in grid.values())
