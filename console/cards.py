"""Cards of attacks, methods, audits, models and data sets, and pages that explain a number."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from console.output import console, say, say_json
from engine.results.verdict import WORDS
from engine.spec.component import Attack, Audit, Component, Method
from engine.spec.registry import find, registered

VERDICTS = (*WORDS, "reinforced", "over-corrected")


def list_cards(kind: str, as_json: bool) -> None:
    from rich.table import Table

    classes = registered(kind)
    if as_json:
        say_json([_told(name, cls) for name, cls in classes.items()])
        return
    table = Table(pad_edge=False)
    for heading in (kind, "title", "what it does"):
        table.add_column(heading, no_wrap=heading == kind)
    for name, cls in classes.items():
        table.add_row(name, cls.card.title, cls.card.summary)
    console().print(table)


def show_card(kind: str, name: str, as_json: bool) -> None:
    cls = find(kind, name)
    if as_json:
        say_json(_told(name, cls))
        return
    card = cls.card
    say(f"{name}: {card.title}")
    say(f"\n{card.summary}\n")
    for heading in ("reference", "needs", "cost", "deviations"):
        text = getattr(card, heading)
        if text:
            say(f"{heading:11} {text}")
    if issubclass(cls, Attack):
        say("\nthe attacker must know, or control:")
        for heading, text in cls.knows.told().items():
            say(f"  {heading:16} {text}")
    say("\nkeys of a preset:")
    for key, field in cls.model_fields.items():
        if key == "name":
            continue
        default = "required" if field.is_required() else f"default {field.get_default()!r}"
        if field.default_factory is not None:
            default = "optional"
        say(f"  {key:16} {default}" + (f"; {field.description}" if field.description else ""))
    if issubclass(cls, Method) and cls.search:
        say("\ndocumented grid, searched by [tune]:")
        for key, values in cls.search.items():
            say(f"  {key:16} {', '.join(map(str, values))}")
    if issubclass(cls, Audit):
        say("\nmetrics:")
        for metric, told in cls.metrics.items():
            star = "*" if metric == cls.primary else " "
            say(f" {star}{metric:26} {told.summary}")
        if cls.primary:
            say(" * the primary metric, which the verdict is about")
        else:
            say(" no primary metric: it describes and gives no verdict")


def _told(name: str, cls: type[Component]) -> dict[str, Any]:
    told = {"name": name, "card": asdict(cls.card), "schema": cls.model_json_schema()}
    if issubclass(cls, Method):
        told["search"] = cls.search
    if issubclass(cls, Attack):
        told["knows"] = cls.knows.told()
    return told


def explain_metric(metric: str) -> None:
    from engine.results.explain import explain
    from engine.results.tidy import registered_audits

    words = VERDICTS if metric == "verdict" else (metric,)
    say("\n".join(explain(word, registered_audits()) for word in words).rstrip("\n"))
