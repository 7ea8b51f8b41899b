"""Which attacks, methods, audits, models and data go with what was chosen, and why others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.spec.component import (
    Attack,
    Audit,
    Card,
    Component,
    DataInfo,
    Model,
    kinds_in_words,
)
from engine.spec.errors import BadInput
from engine.spec.experiment import COMPONENT_FIELDS, Experiment
from engine.spec.registry import find, registered


@dataclass(frozen=True, slots=True)
class Choice:
    """A component one could take. `reason` says why not, if so; `taken` how often it is listed."""

    name: str
    card: Card
    reason: str = ""
    taken: int = 0


def choices(raw: dict[str, Any], key: str) -> list[Choice]:
    """All components for the field `key`, with the reason why one does not fit the others chosen."""
    kind, many = COMPONENT_FIELDS[key]
    entries = raw.get(key, []) if many else [raw.get(key, {})]
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    info = _info(raw)
    rows = _rows(raw, info)
    return [
        Choice(name, cls.card, _unfit(cls, raw, info, rows, name in names), names.count(name))
        for name, cls in registered(kind).items()
    ]


def _unfit(
    cls: type[Component], raw: dict[str, Any], info: DataInfo | None, rows: int, taken: bool
) -> str:
    try:
        if issubclass(cls, Audit):
            return _audit_unfit(cls, raw, taken)
        if info is not None and issubclass(cls, Model | Attack) and info.kind not in cls.takes:
            return f"works on {kinds_in_words(cls.takes)}; the data hold {info.kind}s"
        if any(one.is_required() for one in cls.model_fields.values()):
            return ""  # cannot be judged before its keys are set
        if info is not None and issubclass(cls, Model):
            cls().check(info)
        if info is not None and issubclass(cls, Attack):
            cls().resolved(info).check(info, rows)
    except BadInput as error:
        return str(error)
    except Exception as error:  # a plug-in's own fault, met before it was even chosen
        return f"cannot be judged: its check ends in {type(error).__name__}"
    return ""


def _audit_unfit(cls: type[Audit], raw: dict[str, Any], taken: bool) -> str:
    if taken:
        return "is listed already; an audit is listed once"
    known = registered("attack")
    gives: set[str] = set()
    for entry in raw.get("attacks", []):
        attack = known.get(str(entry.get("name")))
        gives |= attack.gives if attack is not None and issubclass(attack, Attack) else set()
    missing = sorted(cls.needs - gives)
    return f"needs an attack that gives {', '.join(missing)}; none chosen does" if missing else ""


def _info(raw: dict[str, Any]) -> DataInfo | None:
    """The chosen data's sizes; None where they cannot be told (yet)."""
    table = raw.get("data", {})
    try:
        cls = find("data", str(table.get("name")))
        found: DataInfo = cls.model_validate(table).inspect()  # type: ignore[attr-defined]
    except (ValueError, OSError):  # BadInput and ValidationError are ValueErrors
        return None
    return found


def _rows(raw: dict[str, Any], info: DataInfo | None) -> int:
    share = raw.get("validation", Experiment.model_fields["validation"].default)
    share = share if isinstance(share, int | float) and 0 <= share < 1 else 0.0
    return info.train - round(share * info.train) if info else 0
