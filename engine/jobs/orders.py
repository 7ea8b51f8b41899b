"""What a run is asked to do, as files in its folder: whoever sees the folder may ask, from any
machine, and the supervisor looks several times a second.

    paused   hand out nothing new; as long as the file is there
    stop     end at the next step of the stages under way; a run's jobs on a cluster all see it
    retry    try again what failed; whoever does takes the file away
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path


class Order(StrEnum):
    PAUSE = "paused"
    STOP = "stop"
    RETRY = "retry"

    @property
    def told(self) -> str:
        """What a supervisor that was given it is doing, for people."""
        return {
            Order.PAUSE: "pausing: what is under way ends first",
            Order.STOP: "stopping: what is under way stops at its next step",
            Order.RETRY: "trying again what failed",
        }[self]

    def give(self, run: Path) -> None:
        (run / self).touch(mode=0o600)

    def given(self, run: Path) -> bool:
        return os.path.exists(run / self)  # noqa: PTH110 (also of a folder that is somebody else's)

    def take(self, run: Path) -> bool:
        """Take the order away; whether it had been given."""
        try:
            (run / self).unlink()
        except FileNotFoundError:
            return False
        return True
