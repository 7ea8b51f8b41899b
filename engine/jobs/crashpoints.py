"""Named places at which a process can be made to die: the tests of what survives it need them.

CHELATE_CRASH="<point>@<file>" kills (SIGKILL) the first process that comes to the point, once: it
makes the file, and while the file is there nobody dies. Read once, at the start; unset, a point
costs one comparison. What the points are: POINTS, which the tests hold against the code.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

VARIABLE = "CHELATE_CRASH"
POINTS = {
    "lease taken": "a worker has the lease on a stage and has told nobody",
    "attempt begun": "its supervisor knows of the attempt",
    "artifacts written": "the stage has computed, nothing is sealed",
    "DONE written": "DONE.json is durable in the work folder, before the rename",
    "renamed": "the result is in place, before its folder is durable",
    "committed": "before exit.json says how the attempt ended",
    "exit written": "before the supervisor is told",
    "checkpoint written": "a checkpoint is durable, before the rename that makes it one",
    "end heard": "the supervisor has heard of a stage's end and told nobody",
    "last stage settled": "before the supervisor says how the session ended",
}


def _armed(environment: Mapping[str, str]) -> tuple[str, str]:
    point, _, mark = environment.get(VARIABLE, "").partition("@")
    return (point, mark) if point in POINTS and mark else ("", "")


_point, _mark = _armed(os.environ)


def arm(environment: Mapping[str, str]) -> None:
    """Read the variable again: for tests that fork processes instead of starting them."""
    global _point, _mark
    _point, _mark = _armed(environment)


def crash_here(point: str) -> None:
    """Dies if told to. `point` is one of POINTS."""
    if point != _point:
        return
    try:
        os.close(os.open(_mark, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
