"""What of the code and the worker enters a stage's key beside config and inputs, kept with the plan.

A key is a hash and cannot say what it was made of; pins can. Whoever computes a stage compares them
with what it is itself, so that no result is filed under the name of another version. Names of pins:

    stage <kind>                 STAGE_VERSIONS
    data|model|attack|… <name>   `version` of the component
    package <name>               of a distribution, as importlib.metadata tells it: "2.14.1", without
                                 the local part that torch.__version__ may have ("+cu130")
    device, threads              of the worker
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.spec.component import KINDS, Component
from engine.spec.errors import BadInput
from engine.spec.keys import package_version
from engine.spec.registry import component_name, find

Pins = dict[str, str | int]
ABSENT = "absent"

# Raise a stage's number when its code would give other bytes for the same config.
STAGE_VERSIONS = {
    "data": 1, "split": 1, "select": 1, "craft": 1, "train": 1, "unlearn": 2, "audit": 1,
    "discover": 1, "proxy": 1, "trial": 1, "choose": 1,
}  # fmt: skip


def pins_of(component: Component, version: Callable[[str], str] = package_version) -> Pins:
    """Its own version, and those of the packages it names in keys."""
    cls = type(component)
    kind = next((kind.name for kind in KINDS.values() if issubclass(cls, kind.base)), "component")
    told: Pins = {f"{kind} {component_name(cls)}": cls.version}
    return told | {f"package {name}": version(name) for name in component.named_packages()}


def pinned_here(name: str) -> str | int:
    """What a pin is in this process, "absent" where there is no such thing: of a package its
    installed version, not looking at what is imported. Not for "device" and "threads"."""
    kind, _, what = name.partition(" ")
    if kind == "package":
        return package_version(what)
    if kind == "stage":
        return STAGE_VERSIONS.get(what, ABSENT)
    try:
        return find(kind, what).version if kind in KINDS else ABSENT
    except BadInput:
        return ABSENT


def differences(
    pins: Mapping[str, str | int], here: Callable[[str], str | int]
) -> dict[str, tuple[str | int, str | int]]:
    """Pin → (as planned, as it is here), of those that differ."""
    found = {name: (planned, here(name)) for name, planned in pins.items()}
    return {name: both for name, both in found.items() if both[0] != both[1]}


def in_words(found: Mapping[str, tuple[str | int, str | int]]) -> tuple[str, str]:
    """Differences as people read them, planned and here: ("torch 2.14.1", "torch 2.13.0")."""
    sides = ([_told(name, both[side]) for name, both in found.items()] for side in (0, 1))
    planned, here = (", ".join(words) for words in sides)
    return planned, here


def _told(name: str, value: str | int) -> str:
    kind, _, what = name.partition(" ")
    if kind == "package":
        return f"{what} {value}"
    return f"{name} version {value}" if what else f"{name} {value}"
