"""Which labels, as they are written, are one class; one rule for files of every form and folders.

Labels that are equal as numbers (1, 1.0) are one class. Labels that differ only in case, in spaces
or in one full stop at their end are most likely one class that was written in two ways, and perhaps
two: the person decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from engine.spec.errors import BadInput, nearest
from engine.spec.toml import inline

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
INVISIBLE = dict.fromkeys((0x200B, 0xFEFF))  # zero-width space, byte order mark


@dataclass(frozen=True, slots=True)
class Classes:
    """`names` in their order; `index` is the class of each label as it is written; `told` says what
    was joined, a sentence each."""

    names: tuple[str, ...]
    index: Mapping[str, int]
    told: tuple[str, ...] = ()


def classes_of(
    seen: Mapping[str, str],
    joins: Mapping[str, str] | None = None,
    given: Sequence[str] | None = None,
) -> Classes:
    """Classes of `seen`: label as it is written → where it first stands, in the words of errors.

    `joins` is the key data.labels: label as it is written → its class. `given` names the classes in
    order; by default numbers come first, by value, then words. Raises BadInput for labels that
    may be one class or two, for one that is none of `given`, and for joins that fit nothing.
    """
    joins = joins or {}
    _check_joins(seen, joins)
    name_of = {label: joins.get(label, joins.get(label.strip(), label)) for label in seen}
    groups: dict[Decimal | str, list[str]] = {}  # labels that are one class
    for label, name in name_of.items():
        groups.setdefault(_value(name), []).append(label)
    _refuse_twins(name_of, seen, {*joins.values(), *(given or ())})
    told = [
        f"labels {_listed(sorted(own))} are one class" for own in groups.values() if len(own) > 1
    ]
    called = {
        value: min((name_of[label] for label in own), key=lambda name: (len(name), name))
        for value, own in groups.items()
    }
    if given is None:
        names = tuple(sorted(called.values(), key=natural))
    else:
        names, known = tuple(given), {_value(name): name for name in given}
        for value, own in groups.items():
            if value not in known:
                raise BadInput(
                    f"{seen[own[0]]}: its label is {own[0]!r}, which is none of "
                    f"{', '.join(names[:20])}."
                )
            called[value] = known[value]
    place = {name: position for position, name in enumerate(names)}
    index = {label: place[called[value]] for value, own in groups.items() for label in own}
    return Classes(names, index, tuple(told))


def number(label: str) -> Decimal | None:
    """The value of a label that is a number, exactly."""
    word = label.strip()
    return Decimal(word) if NUMBER.fullmatch(word) else None


def natural(label: str) -> tuple[bool, Decimal, str]:
    """Sorts numbers by their value, before all other words."""
    value = number(label)
    return value is None, value or Decimal(0), label


def _value(name: str) -> Decimal | str:
    """Equal for names of one class."""
    value = number(name)
    return name if value is None else value


def _check_joins(seen: Mapping[str, str], joins: Mapping[str, str]) -> None:
    there = {*seen, *(label.strip() for label in seen)}
    for label, name in joins.items():
        if label not in there:
            guess = nearest(label, there)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise BadInput(f"data.labels: no label is {label!r}.{hint}")
        if joins.get(name, name) != name:
            raise BadInput(
                f"data.labels: {label!r} becomes {name!r}, which itself becomes {joins[name]!r}; "
                "say where each label ends."
            )


def _refuse_twins(name_of: Mapping[str, str], seen: Mapping[str, str], settled: set[str]) -> None:
    """Raises BadInput for two classes that look alike, unless a person has named both."""
    first: dict[str, str] = {}  # folded name → the first label of that class
    for label, name in name_of.items():
        plain = folded(name)
        for like in (plain, plain + ".", plain.removesuffix(".")):
            other = first.get(like)
            if other is None or _value(name_of[other]) == _value(name):
                continue
            if {name, name_of[other]} <= settled:
                continue
            odd, usual = (other, label) if len(name) < len(name_of[other]) else (label, other)
            raise BadInput(
                f"labels {other!r} ({seen[other]}) and {label!r} ({seen[label]}) differ only in "
                f"case, spaces or a full stop. data.labels = {{ {inline(odd)} = "
                f"{inline(name_of[usual])} }} makes them one class; data.labels = {{ "
                f"{inline(other)} = {inline(other)}, {inline(label)} = {inline(label)} }} keeps "
                "them apart."
            )
        first.setdefault(plain, label)


def folded(label: str) -> str:
    """The label without what people and programs change by accident: case, spaces, the encoding of
    accents."""
    text = unicodedata.normalize("NFC", label.translate(INVISIBLE))
    text = "".join(c.casefold() if len(c.casefold()) == 1 else c for c in text)
    text = " ".join(text.split())
    return f"{text[:-2]}." if text.endswith(" .") else text


def _listed(labels: Sequence[str]) -> str:
    words = [repr(label) for label in labels]
    return f"{', '.join(words[:-1])} and {words[-1]}"
