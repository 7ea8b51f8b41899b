"""`engine` and `console` from beside this package, whatever else on the path has such a name.

Both are common names: a folder of one's own work may hold an `engine.py`, and so may PYTHONPATH,
which Python searches before what is installed. As a program, this file runs one of our modules so:

    python -P …/chelate/pin.py engine.jobs.worker --store …

It is started by its place, never by a name: nothing on the path can come before it. (-P keeps the
folder of the script, and so this one, off the path.)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]  # a site-packages folder, or a checkout
NAMES = ("console", "engine")  # names that others use, too


class Top(SourceFileLoader):
    """Runs nothing: ours hold no code at the top, and the file there may be another
    distribution's that pip laid over it."""

    def exec_module(self, module: ModuleType) -> None:
        pass


class Pinned:
    """A finder, to be asked first: for our names it looks in ROOT and nowhere else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in (*NAMES, "chelate"):
            return None
        folder = ROOT / name
        file = str(folder / "__init__.py")
        loader = Top(name, file) if name in NAMES else SourceFileLoader(name, file)
        return spec_from_file_location(
            name, file, loader=loader, submodule_search_locations=[str(folder)]
        )


def pin() -> None:
    """Import our packages from ROOT from now on. What others of their names left is forgotten."""
    if any(finder is Pinned for finder in sys.meta_path):
        return
    for name in NAMES:
        module = sys.modules.get(name)
        if module is not None and not is_ours(module):
            for known in [known for known in sys.modules if known.split(".")[0] == name]:
                del sys.modules[known]
    sys.meta_path.insert(0, Pinned)  # type: ignore[arg-type]  # a class will do


def is_ours(package: ModuleType) -> bool:
    return any(Path(place).resolve().parent == ROOT for place in getattr(package, "__path__", ()))


def program(module: str) -> list[str]:
    """The first words of a process that runs `module`, which has a `main`; its own words follow."""
    return [sys.executable, "-P", str(ROOT / "chelate" / "pin.py"), module]


def main() -> object:
    """Run the `main` of the module that the command line names, with the words that follow."""
    pin()
    return importlib.import_module(sys.argv.pop(1)).main()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[arg-type]  # None, or an exit code
