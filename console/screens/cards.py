"""A component's card as a page of plain text."""

from __future__ import annotations

from engine.spec.component import Attack, Audit, Method
from engine.spec.registry import registered


def card_page(kind: str, name: str, short: bool = False) -> str:
    """Title, summary and what `chelate methods NAME` tells; `short` leaves the references out."""
    cls = registered(kind).get(name)
    if cls is None:
        return ""
    card = cls.card
    if short:
        needs = f" Needs {card.needs}." if card.needs else ""
        return f"{card.title}. {card.summary}{needs}"
    parts = [f"{card.title}\n", card.summary]
    for heading in ("needs", "cost", "reference", "deviations"):
        text = getattr(card, heading)
        if text:
            parts.append(f"\n{heading}: {text}")
    if issubclass(cls, Attack):
        known = "; ".join(f"{heading}: {text}" for heading, text in cls.knows.told().items())
        parts.append(f"\nmust know, or control: {known}")
    if issubclass(cls, Attack) and cls.gives:
        parts.append(f"\ngives audits: {', '.join(sorted(cls.gives))}")
    if issubclass(cls, Method) and cls.search:
        grid = "; ".join(f"{key} {', '.join(map(str, v))}" for key, v in cls.search.items())
        parts.append(f"\ndocumented grid, searched by [tune]: {grid}")
    if issubclass(cls, Audit) and cls.primary:
        parts.append(f"\nprimary metric: {cls.primary}. {cls.metrics[cls.primary].summary}")
    return "\n".join(parts)
