"""Equivalence margins: those that audits ship, and those that a preset sets in their place.

A margin decides what *removed* means, so it is part of what a run is; it decides no measurement, so
it is part of no stage's key. Null, direction and family of a verdict are fixed in code.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.spec.errors import BadInput, unknown

if TYPE_CHECKING:
    from engine.spec.component import Audit, Metric

Margins = dict[str, dict[str, float]]  # audit → metric → margin, in the metric's own unit
TABLE = "verdicts"  # of a preset


def judged(audit: type[Audit]) -> tuple[str, Metric] | None:
    """The primary metric of an audit and its name; None where it has none or declares no margin."""
    metric = audit.metrics.get(audit.primary)
    return (audit.primary, metric) if metric is not None and metric.margin is not None else None


def changed(margins: Mapping[str, Mapping[str, float]]) -> Margins:
    """Those of `margins` that differ from what the registered audits ship.

    What is said of an audit that is not registered, or of another metric than its primary, has no
    meaning here and is left out: a run may come from another version, or from a machine with other
    packages.
    """
    from engine.spec.registry import registered

    known = registered("audit")
    found: Margins = {}
    for name, table in margins.items():
        primary = judged(known[name]) if name in known else None  # type: ignore[arg-type]
        if primary is not None and table.get(primary[0], primary[1].margin) != primary[1].margin:
            found[name] = {primary[0]: table[primary[0]]}
    return found


def check_margins(margins: Mapping[str, Mapping[str, float]], audits: Sequence[Audit]) -> None:
    """Raise ValueError where [verdicts] does not fit the audits of a preset, naming key and value."""
    from engine.spec.registry import component_name, registered

    listed = {component_name(type(audit)): type(audit) for audit in audits}
    open_to = [name for name, audit in listed.items() if judged(audit) is not None]
    for name, table in margins.items():
        place = f"{TABLE}.{name}"
        if name not in listed:
            if name in registered("audit"):
                raise ValueError(
                    f"{place}: audits does not list {name}; a margin can be set for "
                    f"{_listed(open_to)}"
                )
            raise ValueError(f"{place}: {unknown('audit', name, open_to).rstrip('.')}")
        primary = judged(listed[name])
        if primary is None:
            raise ValueError(
                f"{place}: {name} gives no verdict and has no margin; one can be set for "
                f"{_listed(open_to)}"
            )
        for key, margin in table.items():
            _check(f"{place}.{key}", key, margin, listed[name], *primary)


def _check(
    place: str, key: str, margin: float, audit: type[Audit], primary: str, metric: Metric
) -> None:
    if key in audit.metrics and key != primary:
        raise ValueError(
            f"{place}: only the primary metric gets a verdict and has a margin: {primary}"
        )
    if key != primary:
        raise ValueError(f"{place}: {unknown('metric', key, [primary]).rstrip('.')}")
    if metric.span is not None and margin >= metric.span:
        raise ValueError(
            f"{place} = {margin!r}: must be below {metric.span:g}, as no two values of {primary} lie "
            f"farther apart (shipped: {metric.margin:g})"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none of the listed audits"


def read_margins(raw: Mapping[str, Any], where: str) -> Margins:
    """The [verdicts] of a run's preset as plain data, which may be another version's or a stranger's:
    read without the preset's own checks. Raises BadInput; `where` names the file.
    """
    tables = raw.get(TABLE, {})
    if not isinstance(tables, dict):
        raise BadInput(f"{where}: {TABLE} = {tables!r}: must be a table.")
    found: Margins = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadInput(f"{where}: {TABLE}.{name} = {table!r}: must be a table.")
        for key, value in table.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf or value > sys.float_info.max:
                raise BadInput(
                    f"{where}: {TABLE}.{name}.{key} = {value!r}: must be a number above 0."
                )
        found[name] = {key: float(value) for key, value in table.items()}
    return found
