"""Whether a worker may compute a stage: its result must be what the stage's key says, and with
`compute.one_kind` come from one kind of machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from engine.jobs.machines import UNKNOWN, claim, kind_in
from engine.jobs.store import Store
from engine.spec.pins import Pins, differences, in_words, pinned_here
from engine.spec.planned import HEAVY, Stage


class Suitability:
    """Of one worker, which has torch imported; `env` is what its records will say of it."""

    def __init__(self, env: Mapping[str, Any], store: Store) -> None:
        self.kind = kind_in(env)
        self.store = store
        self.pinned: Pins = {
            "device": env["device"],
            "threads": env["threads"],
            "package torch": imported_torch(),
        }

    def here(self, pin: str) -> str | int:
        """What a pin is in this worker. The first answer stands: an upgrade under a living process
        does not reach what it has imported."""
        if pin not in self.pinned:
            self.pinned[pin] = pinned_here(pin)
        return self.pinned[pin]

    def refusal(self, stage: Stage, run_folder: Path, one_kind: bool) -> str:
        """Why this worker must not compute the stage; "" if it may."""
        if found := differences(stage.pins, self.here):
            planned, here = in_words(found)
            return (
                f"planned with {planned}, but this worker has {here}, whose result has another key: "
                f"not computed; `chelate resume {run_folder.name}` names the command that plans anew"
            )
        if one_kind and stage.kind in HEAVY:
            kind = self.kind or UNKNOWN
            for other in (*self._kinds_read(stage), claim(run_folder, kind)):
                if other != kind:
                    return f"compute.one_kind = true: this machine is {kind}, the run's is {other}"
        return ""

    def _kinds_read(self, stage: Stage) -> list[str]:
        """The kinds that computed what the stage reads."""
        records = self.store.records((*stage.inputs.values(), *stage.after)).values()
        heavy = (record for record in records if record.kind in HEAVY and record.na is None)
        return [kind_in(record.env) or UNKNOWN for record in heavy]


def imported_torch() -> str:
    """The version of the torch that this process has, in the words of keys: importlib.metadata's,
    unless another torch than that one was imported (from PYTHONPATH, say)."""
    torch = sys.modules["torch"]
    version = str(pinned_here("package torch"))
    if version.partition("+")[0] == torch.__version__.partition("+")[0]:
        return version
    with contextlib.suppress(PackageNotFoundError, OSError, TypeError):
        # Builds from source may tell it in two ways.
        if Path(str(torch.__file__)).parent.samefile(
            str(distribution("torch").locate_file("torch"))
        ):
            return version
    return str(torch.__version__)
