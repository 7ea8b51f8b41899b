"""No unlearning: the poisoned model as it is, the line every method starts from."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.spec.component import Card, Method


class NoUnlearning(Method):
    """Leaves the poisoned model alone."""

    name: Literal["none"] = "none"

    role: ClassVar = "none"
    reads: ClassVar = frozenset()
    card: ClassVar = Card(
        title="No unlearning",
        summary="The poisoned model as trained. What it scores is what a method has to remove.",
        reference="baseline",
        cost="none",
    )
