"""Which labels, as they are written, are one class; one rule for files of every form and folders.

Labels that are equal as numbers (1, 1.0) are one class. Labels that differ only in case, in spaces
or in one full stop at their end are most likely one class that was written in two ways, and perhaps
two: the person decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from engine.spec.errors import BadInput, nearest
from engine.spec.toml import inline

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+(?:\.0*|,0{1,2})", re.ASCII)  # "1,000" may be a thousand
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
    bare = _evenly_stripped(seen)
    seen = {bare[label]: place for label, place in seen.items()}
    _check_joins(seen, joins)
    by_value = {_value(label): name for label, name in joins.items()}
    name_of = {
        label: joins.get(label, joins.get(label.strip(), by_value.get(_value(label), label)))
        for label in seen
    }
    groups: dict[Decimal | str, list[str]] = {}  # labels that are one class
    for label in sorted(seen, key=natural):
        groups.setdefault(_value(name_of[label]), []).append(label)
    _refuse_twins(name_of, seen, {*joins.values(), *(given or ())})
    told = [f"labels {_listed(own)} are one class" for own in groups.values() if len(own) > 1]
    called = {
        value: min((plainest(name_of[label]) for label in own), key=lambda name: (len(name), name))
        for value, own in groups.items()
    }
    if len(set(called.values())) < len(called):  # told apart by a space, as a person wants it
        called = {value: name_of[own[0]] for value, own in groups.items()}
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
    return Classes(names, {label: index[bare[label]] for label in bare}, tuple(told))


def number(label: str) -> Decimal | None:
    """The value of a label that is a number, exactly."""
    word = label.strip()
    if WHOLE.fullmatch(word):
        return Decimal(re.split("[.,]", word)[0])
    return Decimal(word) if NUMBER.fullmatch(word) else None


def natural(label: str) -> tuple[bool, Decimal, str]:
    """Sorts numbers by their value, before all other words."""
    value = number(label)
    return value is None, value or Decimal(0), label


def _evenly_stripped(labels: Collection[str]) -> dict[str, str]:
    """Label → the label without the spaces that all labels have: those of "a, b, c" separate."""
    left = all(label[:1].isspace() for label in labels)
    right = all(label[-1:].isspace() for label in labels)
    return {
        label: label.strip() if left and right else
        label.lstrip() if left else label.rstrip() if right else label
        for label in labels
    }  # fmt: skip


def _value(name: str) -> Decimal | str:
    """Equal for names of one class."""
    value = number(name)
    return name if value is None else value


def plainest(name: str) -> str:
    """Without spaces around it, and a whole number without its fraction: 1.0 is called 1."""
    word = name.strip()
    return re.split("[.,]", word)[0] if WHOLE.fullmatch(word) else word


def _check_joins(seen: Mapping[str, str], joins: Mapping[str, str]) -> None:
    there = {*seen, *(label.strip() for label in seen)}
    values = set(map(_value, there))
    for label, name in joins.items():
        if label not in there and _value(label) not in values:
            guess = nearest(label, there)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise BadInput(f"data.labels: no label is {label!r}.{hint}")
        if joins.get(name, name) != name:
            raise BadInput(
                f"data.labels: {label!r} becomes {name!r}, which itself becomes {joins[name]!r}; "
                "say where each label ends."
            )


def _refuse_twins(name_of: Mapping[str, str], seen: Mapping[str, str], settled: set[str]) -> None:
    """Raises BadInput for classes that look alike, unless a person has named both of a pair."""
    first: dict[str, str] = {}  # folded name → the first label of that class
    pairs: list[tuple[str, str]] = []
    for label, name in name_of.items():
        plain = folded(name)
        for like in (plain, plain + ".", plain.removesuffix(".")):
            other = first.get(like)
            if other is None or _value(name_of[other]) == _value(name):
                continue
            if not {name, name_of[other]} <= settled:
                pairs.append((other, label))
                break
        first.setdefault(plain, label)
    if not pairs:
        return
    one, two = pairs[0]
    more = f", and {len(pairs) - 1} more such," * (len(pairs) > 1)
    joined: dict[str, str] = {}
    apart: dict[str, str] = {}
    for other, label in pairs:
        odd, usual = sorted((label, other), key=lambda word: len(name_of[word]), reverse=True)
        joined[odd] = name_of[usual]
        apart |= {other: other, label: label}
    raise BadInput(
        f"labels {one!r} ({seen[one]}) and {two!r} ({seen[two]}){more} differ only in case, spaces "
        f"or a full stop. data.labels = {inline(joined)} makes them one class; data.labels = "
        f"{inline(apart)} keeps them apart."
    )


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
