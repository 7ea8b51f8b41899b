"""The `chelate` command, and `python -m chelate`."""

from __future__ import annotations

import sys
from pathlib import Path

from chelate.neighbours import crowded, neighbours
from chelate.pin import pin


def main() -> None:
    """Entry point: everything that the words of the command line name."""
    pin()
    warn()
    from console.cli import main

    main()


def warn() -> None:
    """Tell of other distributions with our names; end where one has damaged ours. `doctor` tells of
    them itself, and goes on as far as it gets."""
    if sys.argv[1:2] == ["doctor"] or not crowded():
        return
    found = neighbours()
    for neighbour in found:
        sys.stderr.write(f"chelate: {neighbour}.\n")
    if any(neighbour.harms for neighbour in found):
        raise SystemExit(2)


if __name__ == "__main__":
    # `-m` put the folder where one happens to stand before all packages; the command does not.
    if not sys.flags.safe_path and sys.path and Path(sys.path[0]).resolve() == Path.cwd():
        del sys.path[0]
    main()
