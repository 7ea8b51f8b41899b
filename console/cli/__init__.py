"""The `chelate` command: every command's options, nothing of its work.

A module holds a group of commands. Each command imports what it needs when it is called, so that
`--help` answers at once.
"""

from __future__ import annotations

import gc

from console.cli.root import app
from console.streams import ending_well

# The help shows the groups in this order.
# isort: off
from console.cli import running, steering, results, listing, poison, keeping, cards, opening
# isort: on

__all__ = [
    "app", "cards", "keeping", "listing", "main", "opening", "poison", "results", "running",
    "steering",
]  # fmt: skip


def main() -> None:
    """Entry point of the `chelate` command."""
    # A large run's plan is half a million objects that stay: looking through them for garbage
    # again and again would take a third of a command's time.
    gc.set_threshold(100_000, 50, 50)
    ending_well(app)
