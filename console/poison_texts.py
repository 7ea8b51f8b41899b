"""Poisoned texts beside what they were, for a terminal: the trigger marked, codes taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.jobs.events import strip_control

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table
    from rich.text import Text

MARK = "bold reverse"


def side_by_side(
    tensors: dict[str, np.ndarray], told: dict[str, Any], classes: Sequence[str], count: int
) -> Table:
    """The first `count` rows: base, poison, and what was done to the row. `told` is texts.json."""
    from rich import box
    from rich.table import Table

    phrase = tensors["trigger_phrase"].tobytes().decode() if "trigger_phrase" in tensors else None
    table = Table(box=box.SIMPLE, show_lines=True, expand=True)
    for heading, ratio in (("row", None), ("base", 2), ("poison", 2), ("learned as", None)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for place in range(min(count, len(told["strings"]))):
        base = told["base"][place] if told["base"] is not None else "(not known)"
        table.add_row(
            str(int(tensors["rows"][place])),
            shown(base),
            shown(told["strings"][place], phrase),
            shown(f"{classes[int(tensors['labels'][place])]}{_noise(tensors['inputs'][place])}"),
        )
    return table


def shown(text: str, phrase: str | None = None) -> Text:
    """On one line, with nothing in it that a terminal would obey; `phrase` marked, where it is."""
    from rich.text import Text

    found = Text(" ".join(strip_control(text).split()))
    if phrase:
        found.highlight_words([phrase], MARK)
    return found


def _noise(inputs: np.ndarray) -> str:
    """Of one row: how strong the noise on its embeddings is."""
    if inputs.ndim == 1:
        return ""
    noise = inputs[inputs[:, 0] >= 0, 1:]
    return f"; noise of std {float(noise.std()):.3g} on {len(noise)} tokens"
