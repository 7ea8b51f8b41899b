"""Other distributions that ship a top-level package of the name of one of ours.

pip lays such files over one another without a word. Ours are found all the same (pin.py), but whoever
needs the other package in the same environment gets ours, and a file of ours may be gone.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chelate.pin import NAMES, ROOT


@dataclass(frozen=True)
class Neighbour:
    """A distribution, as in "console 0.9"; which of our names it has; the files of ours, relative to
    the folder of packages, that are its own now."""

    distribution: str
    names: tuple[str, ...]
    overwritten: tuple[str, ...]

    @property
    def harms(self) -> bool:
        """Whether chelate itself cannot be trusted to work. (Nobody runs our tops: pin.Top.)"""
        return any(name not in TOPS for name in self.overwritten)

    def __str__(self) -> str:
        names = " and ".join(self.names)
        text = f"the installed distribution {self.distribution} ships a package {names}, too"
        if not self.overwritten:
            return f"{text}: chelate uses its own, and what needs the other may not work here"
        return f"{text}, and has overwritten {', '.join(self.overwritten)} of chelate: {REMEDY}"


TOPS = tuple(f"{name}/__init__.py" for name in NAMES)
REMEDY = "give chelate an environment of its own (python3 -m venv)"


def crowded() -> bool:
    """Whether it is worth to look for neighbours: a few file names, for every start can pay that."""
    for place in map(Path, sys.path):
        if place.resolve() != ROOT and any(
            (place / name).is_dir() or (place / f"{name}.py").is_file() for name in NAMES
        ):
            return True
    if not (shipped := _shipped()):
        return False
    known = {"/".join(file.split("/")[:2]) for file in shipped} | {
        f"{name}/__pycache__" for name in NAMES
    }
    beside = {f"{name}/{path.name}" for name in NAMES for path in (ROOT / name).glob("*")}
    return bool(beside - known) or any(_altered(file, shipped[file]) for file in TOPS)


def neighbours() -> list[Neighbour]:
    """Every one there is, by what the distributions on the path say of themselves."""
    from importlib.metadata import distributions

    shipped, found = _shipped(), {}
    for one in distributions():
        files = set(_files(one.read_text("RECORD") or ""))
        tops = {file.split("/")[0].removesuffix(".py") for file in files}
        tops |= set((one.read_text("top_level.txt") or "").split())
        if not (names := tuple(name for name in NAMES if name in tops)):
            continue
        if (own := str(one.metadata["Name"])).lower() == "chelate":
            continue
        here = Path(str(one.locate_file(""))).resolve() == ROOT
        taken = sorted(files & shipped.keys()) if here else []
        overwritten = tuple(file for file in taken if _altered(file, shipped[file]))
        called = "".join(c if c.isprintable() else "?" for c in f"{own} {one.version}"[:100])
        found[own] = Neighbour(called, names, overwritten)
    return [found[name] for name in sorted(found)]


def on_the_path() -> list[Path]:
    """Files and folders that `import engine` or `import console` would find before ours, or after."""
    places = dict.fromkeys(Path(place).resolve() for place in sys.path)
    named = (place / found for place in places if place != ROOT for name in NAMES
             for found in (f"{name}.py", f"{name}/__init__.py"))  # fmt: skip
    return [path for path in named if path.is_file()]


def _shipped() -> dict[str, str]:
    """File → hash as in RECORD, of our packages; empty in a checkout, which nobody overwrites."""
    for record in ROOT.glob("chelate-*.dist-info/RECORD"):
        return dict(_lines(record.read_text(encoding="utf-8", errors="replace")))
    return {}


def _lines(record: str) -> Iterator[tuple[str, str]]:
    for line in record.splitlines():
        if line.startswith(tuple(f"{name}{end}" for name in NAMES for end in ("/", ".py,"))):
            file, _, rest = line.partition(",")
            yield file, rest.split(",")[0]


def _files(record: str) -> Iterator[str]:
    return (file for file, _ in _lines(record))


def _altered(file: str, told: str) -> bool:
    """Whether a file is not as its distribution shipped it. One that is gone is nobody else's."""
    try:
        content = (ROOT / file).read_bytes()
    except OSError:
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return told.startswith("sha256=") and told != f"sha256={digest}"
