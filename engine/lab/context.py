"""All a stage knows of the engine that runs it: report, ask whether to stop, read inputs, write files.

The science never imports the job engine; the worker hands it something of this shape.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The engine asked the stage to stop; nothing is committed."""


class NotApplicable(Exception):
    """The stage cannot give a result under these conditions; the row reads n/a with this reason."""


class Failed(Exception):
    """The stage ended for a reason worth one plain line, such as data that changed meanwhile."""


class Diverged(Failed):
    """The weights or the losses are no longer finite numbers: an outcome, which is kept.

    `step` counts from 1: the first whose loss is not finite, or the last one taken, after which the
    weights are not. Whoever takes the same steps again, from whatever checkpoint, finds the same.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"diverged at step {step}: {what}")
        self.step = step


class NotKept(Exception):
    """Raised by what saves a checkpoint: nothing can be gone on from here, so there must be none."""


class Context(Protocol):
    """What a stage is given. Reports never block and never raise."""

    device: str  # "cpu" or "cuda"

    @property
    def folder(self) -> Path:
        """Where this stage writes its artifacts."""
        ...

    def key(self, role: str) -> str | None:
        """Store key of an input, or None when the stage has no such input."""
        ...

    def file(self, role: str, name: str) -> Path:
        """A verified artifact of an input."""
        ...

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """`make()`, or its value from an earlier stage of this worker: for data sets."""
        ...

    def phase(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def metric(self, name: str, step: int, value: float) -> None: ...

    def probe(self, name: str, step: int, data: dict[str, Any]) -> None: ...

    def warn(self, text: str) -> None:
        """Say what may spoil the result. It is kept with it, once per text, and told by every run
        that uses it."""
        ...

    def due(self, what: str, seconds: float) -> bool:
        """True when at least `seconds` have passed since the last True for `what`."""
        ...

    def raise_if_stopped(self) -> None:
        """Raises Stopped when the engine wants this stage to end."""
        ...

    def checkpoint(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        """Between two steps of a loop, `step` of them done: keep what `save(folder)` writes, if it
        is time, and stop if asked to.

        Takes no time unless it is time. A disk that is full costs the checkpoint, never the stage;
        nor does a `save` that raises NotKept.
        Raises Stopped when the engine wants this stage to end, having saved what is worth it.
        """
        ...

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        """Before a loop: `load(folder)` of its newest checkpoint; the step it was taken at.

        None where there is nothing to go on from. Should `load` fail, the stage begins anew without
        that checkpoint, so it need not clean up.
        """
        ...
