"""JSON that a stranger wrote: read with bounds, freed of what a terminal would obey, and checked
before anything of ours relies on it.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from engine.jobs.events import strip_control
from engine.jobs.lease import is_key
from engine.spec.planned import Plan


class Strange(Exception):
    """What is wrong with a stranger's file, as the rest of "<file>: …"."""


def parse(content: bytes, name: str) -> Any:
    """JSON without NaN and infinities. Raises Strange."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number of JSON")

    try:
        value = json.loads(content, parse_constant=refuse)
        return _finite(value)
    except (ValueError, RecursionError) as error:
        raise Strange(f"{name} is not valid JSON ({str(error)[:100]})") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is valid JSON
        raise ValueError("a number is too large")
    for item in _items(value):
        _finite(item)
    return value


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def clean(value: Any) -> Any:
    """`value` without escape sequences and other controls in any of its strings."""
    if isinstance(value, str):
        return strip_control(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {strip_control(name): clean(item) for name, item in value.items()}
    return value


def table(value: Any, name: str) -> dict[str, Any]:
    """Raises Strange if `value` is no JSON object."""
    if not isinstance(value, dict):
        raise Strange(f"{name} holds no table")
    return value


def plan_of(told: Any, name: str) -> Plan:
    """A plan of which every field has its type and every reference its stage, inputs coming before
    what reads them (so nothing goes round in circles). Raises Strange."""
    from pydantic import TypeAdapter, ValidationError

    from engine.spec.planned import Cell, Search, Stage

    try:
        parts = table(told, name)
        for part, kind in (("stages", Stage), ("cells", Cell), ("searches", Search)):
            content = json.dumps(parts.get(part, []))
            TypeAdapter(list[kind]).validate_json(content, strict=True)  # type: ignore[valid-type]
        plan = Plan.from_json(parts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Strange(f"{name}: {place}: {first['msg']}") from None
    except (KeyError, TypeError) as error:
        raise Strange(f"{name} was written by another version ({error})") from None
    seen: set[str] = set()
    for stage in plan.stages.values():
        if not is_key(stage.key):
            raise Strange(f"{name}: a stage's key is not 64 hexadecimal digits")
        if not {*stage.inputs.values(), *stage.after} <= seen:
            raise Strange(f"{name}: {stage.title} reads a stage that does not come before it")
        seen.add(stage.key)
    named = {key for cell in plan.cells for key in (cell.key, *cell.cost_keys)}
    named |= {key for search in plan.searches for key in (search.choice, *search.keys)}
    if len(seen) != len(parts["stages"]) or not named <= seen:
        raise Strange(f"{name} names stages that it does not have, or one twice")
    return plan


def check_measurements(value: Any, name: str) -> None:
    """Raises Strange unless it is what an audit leaves."""
    metrics = table(table(value, name).get("metrics"), f"{name}: metrics")
    for metric, number in metrics.items():
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            raise Strange(f"{name}: {metric} is no number")
