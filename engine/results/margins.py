"""Margins of a run: audits that judge by them, and how they are shown.

Every comparison is made with the audits of `audits_of`. Where a preset's margin differs from what the
audit ships, `Metric.shipped` is the latter, and `lines` says both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.results.tidy import Audits, registered_audits
from engine.spec.errors import BadInput
from engine.spec.margins import TABLE, Margins, changed

if TYPE_CHECKING:
    from engine.jobs.runs import Run
    from engine.spec.component import Metric


@dataclass(frozen=True, slots=True)
class WithMargin:
    """An audit with another margin: all of it that results need."""

    metrics: dict[str, Metric]
    primary: str


def with_margins(audits: Audits, margins: Mapping[str, Mapping[str, float]]) -> Audits:
    """`audits` with the margins of their primary metrics replaced; whatever else `margins` names is
    left out. Direction, null and family stay as the audits declare them."""
    found = dict(audits)
    for name, table in margins.items():
        audit = found.get(name)
        metric = audit.metrics.get(audit.primary) if audit is not None else None
        if audit is None or metric is None or metric.margin is None:
            continue
        margin = table.get(audit.primary, metric.margin)
        if margin != metric.margin:
            mine = replace(metric, margin=margin, shipped=metric.margin)
            found[name] = WithMargin(audit.metrics | {audit.primary: mine}, audit.primary)
    return found


def audits_of(found: Sequence[Run]) -> Audits:
    """The registered audits with the margins that some runs are judged by.

    Raises BadInput where two of them judge the same metric by different margins, or where a run's
    margins cannot be read.
    """
    shipped = registered_audits()
    margins: Margins = {}
    first: dict[str, Run] = {}  # audit → the run that its margin was found in
    for run in found:
        mine = changed(run.margins)
        for name in sorted({cell.audit for cell in run.plan.cells} & shipped.keys()):
            if name not in first:
                first[name] = run
                margins |= {name: mine[name]} if name in mine else {}
            elif margins.get(name) != mine.get(name):
                raise BadInput(_two_margins(first[name], run, name, shipped))
    return with_margins(shipped, margins)


def _two_margins(one: Run, other: Run, name: str, shipped: Audits) -> str:
    metric = shipped[name].primary
    own = shipped[name].metrics[metric].margin
    values = [changed(run.margins).get(name, {}).get(metric, own) for run in (one, other)]
    named = [f"±{exactly(v)}{' (shipped)' if v == own else ''}" for v in values]
    return (
        f"{TABLE}.{name}.{metric}: run {one.id} is judged by {named[0]}, run {other.id} by {named[1]}: "
        "compare them apart, or run one of the presets again with the other's margin, as in "
        f"--set {TABLE}.{name}.{metric}={exactly(values[0])}, which computes nothing."
    )


def exactly(margin: float | None) -> str:
    """A margin as it was written: two that differ never read the same."""
    short = "-" if margin is None else f"{margin:g}"
    return short if margin is None or float(short) == margin else repr(margin)


def lines(audits: Audits) -> list[str]:
    """A line for each margin that is not the shipped one."""
    return [
        f"margin of {name}.{audit.primary}: ±{exactly(metric.margin)} "
        f"(shipped: ±{exactly(metric.shipped)})"
        for name, audit, metric in _primaries(audits)
        if metric.shipped is not None
    ]


def lines_of(run: Run) -> list[str]:
    """The lines of one run. Only where it sets margins are the audits imported. Raises BadInput."""
    return lines(audits_of([run])) if run.margins else []


def document(audits: Audits, names: Iterable[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """For programs: audit → primary metric → `margin` and `shipped`, of the audits in `names`."""
    wanted = set(names)
    return {
        name: {
            audit.primary: {
                "margin": metric.margin,
                "shipped": metric.margin if metric.shipped is None else metric.shipped,
            }
        }
        for name, audit, metric in _primaries(audits)
        if name in wanted
    }


def to_markdown(audits: Audits) -> str:
    """A list; empty where all margins are those shipped."""
    found = lines(audits)
    return "".join(["\n", *(f"- {line}\n" for line in found)]) if found else ""


def to_latex(audits: Audits) -> str:
    """Comments; empty where all margins are those shipped."""
    return "".join(f"% {line}\n" for line in lines(audits))


def _primaries(audits: Audits) -> Iterable[tuple[str, Any, Any]]:
    """(name, audit, primary metric) of the audits with a margin, sorted."""
    for name, audit in sorted(audits.items()):
        metric = audit.metrics.get(audit.primary)
        if metric is not None and metric.margin is not None:
            yield name, audit, metric
