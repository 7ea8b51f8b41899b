"""Presets as TOML text (the standard library only reads it)."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from engine.spec.bounds import DIGITS, NESTING, PRESET

# Texts and comments whole, closed or not, so that what is left of the syntax can be counted; no
# alternative can match in two ways, so that any text is walked through once.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\"]|"(?!""))*+(?:""")?'
    r"|'''(?:[^']|'(?!''))*+(?:''')?"
    r'|"(?:\\.|[^"\\\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+|[\[\]{}.\n=,]",
    re.DOTALL,
)


def loads(text: str, where: str) -> dict[str, Any]:
    """The data of a TOML text. Raises BadInput for what is too large or nested too deep, which
    the parser itself would meet with a RecursionError or hours of work, and TOMLDecodeError."""
    PRESET.check(len(text), f"{where}: has")
    NESTING.check(_depth(text), f"{where}: nested too deep: at least")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:  # where NESTING was raised
        raise tomllib.TOMLDecodeError("nested deeper than can be read") from None
    except ValueError:  # the digits of an integer that Python does not turn into one
        longest = max((len(found) for found in re.findall(r"\d+", text)), default=0)
        DIGITS.check(longest, f"{where}: a whole number has")
        raise tomllib.TOMLDecodeError("holds a number that cannot be read") from None


def _depth(text: str) -> int:
    """Brackets inside each other, and words of a dotted key, at most."""
    deepest = level = dots = 0
    for found in _TOKEN.finditer(text):
        sign = found[0]
        if sign == ".":
            dots += 1
        elif sign in "[{":
            level, dots = level + 1, 0
        elif sign in "]}":
            level, dots = max(0, level - 1), 0
        elif sign in "\n=,":
            dots = 0
        deepest = max(deepest, level + dots)
    return deepest


def dumps(raw: dict[str, Any]) -> str:
    """The data of a preset as a person would write it: short lists on one line, a table for each
    part. Loads to the same data; what does not is written by tomli_w."""
    tables = {key: value for key, value in raw.items() if isinstance(value, dict)}
    lists = {
        key: value
        for key, value in raw.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    }
    lines = [f"{_key(k)} = {inline(v)}" for k, v in raw.items() if k not in tables | lists]
    for key, value in raw.items():
        if key in tables:
            lines += ["", f"[{_key(key)}]", *_keys(value)]
        elif key in lists:
            lines += [line for item in value for line in ("", f"[[{_key(key)}]]", *_keys(item))]
    text = "\n".join(lines).lstrip("\n") + "\n"
    try:
        same = tomllib.loads(text) == raw
    except tomllib.TOMLDecodeError:
        same = False
    if same:
        return text
    import tomli_w

    return tomli_w.dumps(raw)


def _keys(table: dict[str, Any]) -> list[str]:
    """The lines of a table; a table in it, such as a grid, by dotted keys."""
    lines = []
    for key, value in sorted(table.items(), key=_place):
        if isinstance(value, dict) and value:
            lines += [f"{_key(key)}.{_key(k)} = {inline(v)}" for k, v in value.items()]
        else:
            lines.append(f"{_key(key)} = {inline(value)}")
    return lines


def _place(item: tuple[str, Any]) -> int:
    """A component's name first, its grid last; the others as they are."""
    return {"name": -1, "grid": 1}.get(item[0], 0)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quoted(text)


def _quoted(value: Any) -> str:
    """JSON's spelling is TOML's, but for the one control character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def inline(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(inline(item) for item in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return _quoted(value)
