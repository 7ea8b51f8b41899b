"""One line that tells a data set, made from its report.

What a report does not know is not said. Zero is said of one thing only, test rows that are also in
train: there "none" is news, for silence would look as if nobody had compared. Of duplicates, gaps
and dropped rows only what there is is said.

A report may be a stranger's: what does not fit is left out (`sound`), names are quoted where they
could be taken for something else, and everything is short, printable and on one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints, is_typeddict

from engine.spec.data_report import Column, DataReport

SHORT = 78  # columns of the short form: a terminal of 80
LONGEST = 1_500  # characters, which only a stranger's report has
OWNERS = 220  # characters that say whose data they are
NAME = 24  # characters of a name
SENTENCE = 120
NAMED_CLASSES, FIRST_CLASSES, CLASSES_ROOM = 10, 3, 140
NAMED, SENTENCES = 4, 3  # columns and reasons; sentences on how it was read
LARGEST = 2**53  # counts that JSON keeps exactly
_WORD = re.compile(r"[^\W\d_][\w.+/-]*(?: [\w.+/-]+)*")
_NOTHING: Any = object()


def line(told: object, of: str = "") -> str:
    """Everything that fits a line; "" where nothing is known. `of` names one data set of several."""
    report = sound(told)
    parts = (rows, inputs, classes, gaps, dropped, cut, duplicates, overlap, how_read)
    text = "; ".join(filter(None, (part(report) for part in parts)))
    whose = f" of {plain(of, OWNERS)}" if of else ""
    return elided(f"data{whose}: {text}", LONGEST) if text else ""


def short(told: object, width: int = SHORT) -> str:
    """The counts, for `width` columns: what matters least goes first where there is no room."""
    report = sound(told)
    parts = {
        "rows": rows(report),
        "inputs": _short_columns(report),
        "classes": f"{len(report['classes'])} classes" if report.get("classes") else "",
        "gaps": counted(found, "gap") if (found := _all_gaps(report)) else "",
        "dropped": f"{found:,} dropped" if (found := _all_dropped(report)) else "",
        "duplicates": counted(found, "duplicate") if (found := _all_duplicates(report)) else "",
        "overlap": _short_overlap(report),
    }
    parts = {name: text for name, text in parts.items() if text}
    for name in ("inputs", "gaps", "classes", "duplicates", "dropped", ""):
        text = "; ".join(parts.values())
        if len(text) + len("data: ") <= width:
            break
        parts.pop(name, None)
    return elided(f"data: {text}", width) if text else ""


# --- the parts -----------------------------------------------------------------------------------


def rows(report: DataReport) -> str:
    """4,000 rows and 1,000 test rows."""
    found = []
    for part, word in (("train", "row"), ("test", "test row")):
        count = _part(report, part, "rows")
        found += [] if count is None else [counted(count, word)]
    return " and ".join(found)


def inputs(report: DataReport) -> str:
    """What a row is: columns of a table by kind, pixels of an image, tokens of a text."""
    columns = report.get("columns")
    if columns:
        numeric = sum(column.get("kind") == "numeric" for column in columns)
        others = [column for column in columns if column.get("kind") == "categorical"]
        if numeric == len(columns):
            return f"{counted(len(columns), 'column')}, {'all ' * (numeric > 1)}numeric"
        kinds = [f"{numeric:,} numeric"] if numeric else []
        kinds += [f"{len(others):,} categorical{_values(others)}"] if others else []
        return counted(len(columns), "column") + (f": {', '.join(kinds)}" if kinds else "")
    shape = report.get("shape", [])
    if report.get("kind") == "image" and len(shape) == 3:
        return f"images of {shape[1]}×{shape[2]}, {counted(shape[0], 'channel')}"
    if report.get("kind") == "text" and shape:
        return f"texts of up to {counted(shape[0], 'token')}"
    if report.get("kind") == "table" and shape:
        return counted(shape[0], "input column")
    return ""


def _values(columns: Sequence[Column]) -> str:
    """Which columns are categorical, with how many values."""
    known = [column for column in columns if "name" in column and "values" in column]
    if not known:
        return ""
    told = [f"{name(c['name'])} {len(c['values']):,}" for c in known[:NAMED]]
    told[0] += f" value{'s' * (len(known[0]['values']) != 1)}"
    return f" ({', '.join(told)}{', …' if len(columns) > len(told) else ''})"


def classes(report: DataReport) -> str:
    """3 classes: 0 airplane, 1 car, 2 dog; of many the first ones and the last."""
    names = report.get("classes", [])
    if not names:
        return ""
    count = f"{len(names):,} class{'es' * (len(names) != 1)}"
    if len(names) <= NAMED_CLASSES:
        told = ", ".join(indexed(index, text) for index, text in enumerate(names))
        if len(told) <= CLASSES_ROOM or len(names) <= FIRST_CLASSES + 1:
            return f"{count}: {told}"
    first = ", ".join(indexed(index, text) for index, text in enumerate(names[:FIRST_CLASSES]))
    return f"{count}: {first}, … {indexed(len(names) - 1, names[-1])}"


def indexed(index: int, text: str) -> str:
    """A class as people name it: 1 car."""
    return f"{index} {name(text)}"


def gaps(report: DataReport) -> str:
    """gaps: 12 in age (filled with mean 38.6), 3 in town."""
    found = [column for column in report.get("columns", []) if column.get("gaps")]
    if not found:
        return ""
    told = []
    for column in found[:NAMED]:
        filled = f" (filled with {plain(column['filled'], 40)})" if column.get("filled") else ""
        told.append(f"{column['gaps']:,} in {name(column.get('name', ''))}{filled}")
    if rest := found[NAMED:]:
        told.append(f"{sum(c['gaps'] for c in rest):,} in {counted(len(rest), 'more column')}")
    return f"gaps: {', '.join(told)}"


def dropped(report: DataReport) -> str:
    """12 rows dropped: 10 empty, 2 unlabelled."""
    found = {why: count for why, count in report.get("dropped", {}).items() if count}
    if not found:
        return ""
    told = [f"{count:,} {reason(why)}" for why, count in list(found.items())[:NAMED]]
    more = ", …" if len(found) > NAMED else ""
    return f"{counted(_all_dropped(report), 'row')} dropped: {', '.join(told)}{more}"


def reason(why: str) -> str:
    """Why a row was dropped, as the rest of "12"."""
    return "with a gap" if why == "gap" else plain(why, 40)


def cut(report: DataReport) -> str:
    """30 texts cut to 64 tokens."""
    count = sum(_part(report, part, "cut") or 0 for part in ("train", "test"))
    limit = f" to {report['shape'][0]} tokens" if count and report.get("shape") else ""
    return f"{counted(count, 'text')} cut{limit}" if count else ""


def duplicates(report: DataReport) -> str:
    """9 duplicates (8 in train, 1 in test)."""
    found = {part: _part(report, part, "duplicates") or 0 for part in ("train", "test")}
    told = [f"{count:,} in {part}" for part, count in found.items() if count]
    if len(told) == 1:
        ((part, count),) = ((part, count) for part, count in found.items() if count)
        return f"{counted(count, 'duplicate')} in {part}"
    return f"{counted(sum(found.values()), 'duplicate')} ({', '.join(told)})" if told else ""


def overlap(report: DataReport) -> str:
    """2 test rows are also in train (1 under another label)."""
    count = report.get("overlap")
    if count is None:
        return ""
    if not count:
        return "no test row is also in train"
    other = report.get("overlap_conflicting")
    also = f" ({other:,} under another label)" if other else ""
    return f"{counted(count, 'test row')} {'is' if count == 1 else 'are'} also in train{also}"


def how_read(report: DataReport) -> str:
    """How the files were read, where that is not plain."""
    found = report.get("read", [])
    if not found:
        return ""
    told = [plain(text, SENTENCE).rstrip(".") for text in found[:SENTENCES]]
    more = f"; and {len(found) - SENTENCES} more" if len(found) > SENTENCES else ""
    return f"read: {'; '.join(told)}{more}"


def _short_columns(report: DataReport) -> str:
    return counted(len(report["columns"]), "column") if report.get("columns") else ""


def _short_overlap(report: DataReport) -> str:
    count = report.get("overlap")
    return f"{counted(count, 'test row')} in train" if count else ""


def _all_gaps(report: DataReport) -> int:
    return sum(column.get("gaps", 0) for column in report.get("columns", []))


def _all_dropped(report: DataReport) -> int:
    return sum(report.get("dropped", {}).values())


def _all_duplicates(report: DataReport) -> int:
    return sum(_part(report, part, "duplicates") or 0 for part in ("train", "test"))


def _part(report: DataReport, part: str, key: str) -> int | None:
    found: int | None = cast(dict[str, Any], report).get(part, {}).get(key)
    return found


# --- words ---------------------------------------------------------------------------------------


def counted(count: int, word: str) -> str:
    """1 row, 4,000 rows."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def name(text: str) -> str:
    """A name as it is where it is words; else in quotes, with what cannot be seen spelled out."""
    shown = elided(text, NAME)
    # A quoted character that cannot be printed takes up to ten.
    return shown if _WORD.fullmatch(shown.removesuffix("…")) else elided(repr(shown), 2 * NAME)


def plain(text: str, most: int) -> str:
    """On one line, at most so long, without what cannot be printed."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[:5000])
    return elided(" ".join(shown.split()), most)


def elided(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# --- strangers' reports --------------------------------------------------------------------------


def sound(told: object) -> DataReport:
    """What of `told` is a report: keys whose values have the type that `DataReport` gives them.

    A list with one strange item is left out whole, for its places mean something.
    """
    found = _fitting(told, DataReport)
    return cast(DataReport, {} if found is _NOTHING else found)


def _fitting(value: Any, hint: Any) -> Any:
    if is_typeddict(hint):
        if not isinstance(value, dict):
            return _NOTHING
        pairs = ((key, _fitting(value[key], kind)) for key, kind in _hints(hint) if key in value)
        return {key: fit for key, fit in pairs if fit is not _NOTHING}
    kind = get_origin(hint)
    if kind is list:
        return _all_fitting(value, list, lambda: (value, get_args(hint)[0]))
    if kind is dict:
        of_text = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        fit = _all_fitting(value, dict, lambda: (list(value.values()), get_args(hint)[1]))
        return _NOTHING if fit is _NOTHING or not of_text else dict(zip(value, fit, strict=True))
    if kind is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _NOTHING
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        str: isinstance(value, str),
        int: number and isinstance(value, int) and 0 <= value <= LARGEST,
        float: number and -(LARGEST**8) < value < LARGEST**8 and math.isfinite(value),
    }
    return value if fits[hint] else _NOTHING


def _all_fitting(value: Any, kind: type, items: Callable[[], tuple[list[Any], Any]]) -> Any:
    if not isinstance(value, kind):
        return _NOTHING
    found, hint = items()
    fit = [_fitting(item, hint) for item in found]
    return _NOTHING if any(item is _NOTHING for item in fit) else fit


@cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(get_type_hints(kind).items())
