"""Components of other distributions, by entry point: loaded with care, for any of them may be broken.

What raises, or is not what its entry point says, is left out; everything else goes on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any, Literal, get_args, get_origin

from engine.spec.component import Audit, Card, Component, Kind, Method, Metric, Role

LONGEST = 200  # characters of a stranger's own words in a warning


@dataclass(frozen=True)
class Skipped:
    """An entry point that was left out; `entry` is as in chelate.methods:name."""

    distribution: str
    entry: str
    reason: str

    def __str__(self) -> str:
        text = f"plug-in {self.entry} of {self.distribution} is skipped: {self.reason}"
        return "".join(c if c.isprintable() else " " for c in text)


def add_plugins(found: dict[str, type[Component]], kind: Kind) -> list[Skipped]:
    """Add the components of one kind that others registered; names in `found` are taken."""
    skipped = []
    own = set(found)
    for distribution, entry in sorted(_entries(kind.entry_points), key=_order):
        if isinstance(entry, str):
            skipped.append(Skipped(distribution, kind.entry_points, entry))
            continue
        try:
            cls = _component(entry, kind)
            if entry.name in found:
                whose = "chelate" if entry.name in own else "another plug-in"
                raise _Lie(f"the {kind.name} {entry.name!r} is {whose}'s already")
        except _Lie as lie:
            reason = str(lie)
        else:
            found[entry.name] = cls
            _loaded[cls.__module__] = distribution
            continue
        skipped.append(Skipped(distribution, f"{kind.entry_points}:{entry.name}", reason))
    return skipped


def blamed(error: Exception) -> str | None:
    """Which distribution's code raised an exception, and what, in words; None where it was chelate's
    own, or a library's that chelate called."""
    module = None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
        if str(name) in _loaded:
            module = str(name)
    if module is None:
        return None
    text = f"plug-in {module} of {_loaded[module]} failed ({_words(error)})"
    return "".join(c if c.isprintable() else " " for c in text)


_loaded: dict[str, str] = {}  # module of a plug-in → its distribution


class _Lie(Exception):
    """Why a component cannot be one of ours."""


def _order(pair: tuple[str, EntryPoint | str]) -> tuple[str, str]:
    """So that of two that call themselves the same, the same one is taken every time."""
    distribution, entry = pair
    return distribution, entry if isinstance(entry, str) else entry.name


def _entries(group: str) -> Iterator[tuple[str, EntryPoint | str]]:
    """(distribution, entry point), or in its place why that distribution's cannot be read."""
    try:
        for entry in entry_points(group=group):
            yield entry.dist.name if entry.dist is not None else "an unknown distribution", entry
        return
    except (ValueError, LookupError, TypeError, AttributeError, OSError):
        pass  # one file that is malformed hides those of all: look at each
    for one in distributions():
        name = str(one.metadata["Name"])
        try:
            for entry in one.entry_points.select(group=group):
                yield name, entry
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            yield name, f"its entry points cannot be read ({_words(error)})"


def _component(entry: EntryPoint, kind: Kind) -> type[Component]:
    """The class that an entry point names. Raises _Lie."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout may be one JSON document
            value = entry.load()
            _examine(value, entry.name, kind)
    except (_Lie, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too: a module that ends the process ends nothing
        raise _Lie(f"{entry.value} does not load ({_words(error)})") from None
    return value  # type: ignore[no-any-return]


def _examine(value: Any, name: str, kind: Kind) -> None:
    """Raises _Lie where a class is not what chelate will take it for."""
    base = kind.base
    if not (isinstance(value, type) and issubclass(value, base) and value is not base):
        raise _Lie(f"it is no subclass of engine.spec.component.{base.__name__}")
    field = value.model_fields.get("name")
    told = None if field is None else field.default
    if field is None or get_origin(field.annotation) is not Literal or not isinstance(told, str):
        raise _Lie("its class has no `name: Literal[...]` with a default")
    if get_args(field.annotation) != (told,) or told != name:
        raise _Lie(f"its class is called {told!r}")
    card = getattr(value, "card", None)
    if not isinstance(card, Card) or not all(isinstance(v, str) for v in vars_of(card)):
        raise _Lie("its class has no card")
    if issubclass(value, Audit) and not (
        all(isinstance(metric, Metric) for metric in value.metrics.values())
        and value.primary in ("", *value.metrics)
    ):
        raise _Lie("its metrics are not what an audit's are, or its primary metric is none of them")
    if issubclass(value, Method) and value.role not in get_args(Role):
        raise _Lie(f"a method's role cannot be {value.role!r}")
    value.model_json_schema()


def vars_of(card: Card) -> list[object]:
    return [getattr(card, name) for name in Card.__slots__]


def _words(error: BaseException) -> str:
    """Such as "ImportError: no module named x"; a stranger's message is cut."""
    try:
        text = str(error)
    except Exception:
        text = ""
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
