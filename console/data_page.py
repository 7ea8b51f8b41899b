"""A data set in full, as plain lines for a terminal, the console and the report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from engine.jobs.datasets import DataSet
from engine.spec.component import Data
from engine.spec.data_line import counted, elided, inputs, name, overlap, plain, reason, rows
from engine.spec.data_report import Column, DataReport, warnings_in, without_rows
from engine.spec.errors import BadInput
from engine.spec.registry import find

WIDTH = 100
HEADING = 12  # columns of the words on the left
MOST = 200  # classes and columns that are listed; --json has all
VALUES_ROOM, OTHERS_ROOM = 20, 70  # columns for a column's values at least; for all beside them
CELL, WIDE_CELL, FEW = 20, 72, 3  # a cell of the first rows; of up to FEW columns one may be wide
SENTENCE = 400


def page(
    one: DataSet, source: dict[str, Any], how: str, width: int = WIDTH, to_share: bool = False
) -> list[str]:
    """All there is to tell. `source` is the data's table of a preset, `how` where this was learned.

    A page `to_share` has no rows of the data, and leaves warnings to those of the stages.
    """
    report = without_rows(one.report) if to_share else one.report
    facts = [
        ("source", _source(source)),
        ("", _origin(source)),
        ("of", ", ".join(plain(text, 60) for text in one.settings)),
        ("told by", how),
        *(("how read" if not n else "", plain(t, SENTENCE)) for n, t in enumerate(_read(report))),
        ("rows", rows(report)),
        ("inputs", inputs(report)),
        ("duplicates", _duplicates(report)),
        ("overlap", overlap(report)),
        ("dropped", _dropped(report)),
        ("cut", _cut(report)),
    ]
    lines = [text for key, value in facts if value for text in _fact(key, value, width)]
    warnings = [] if to_share else _warnings(report, width)
    for part in (_classes(report), _columns(report, width), warnings):
        lines += ["", *part] if part else []
    sample = _sample(report, width)
    return lines + (["", *sample] if sample else [])


def _fact(key: str, value: str, width: int) -> list[str]:
    pad = " " * HEADING
    return textwrap.wrap(
        value, max(width, 40), initial_indent=f"{key:{HEADING}}", subsequent_indent=pad
    )


def _source(config: dict[str, Any]) -> str:
    """mnist5k, limit_train = 300: the keys that are not at their default."""
    nothing: tuple[Any, ...] = (None, [], {})
    told = {key: value for key, value in config.items() if value not in nothing and key != "name"}
    try:
        cls = find("data", str(config.get("name")))
        assert issubclass(cls, Data)
        fields = cls.model_fields
        told = {k: v for k, v in told.items() if k not in fields or v != fields[k].default}
    except BadInput:  # a third party's that is not installed here
        pass
    words = [plain(str(config.get("name", "")), 60)]
    words += [f"{plain(key, 40)} = {plain(repr(value), 200)}" for key, value in told.items()]
    return ", ".join(filter(None, words))


def _origin(config: dict[str, Any]) -> str:
    """What its card says of it."""
    try:
        card = find("data", str(config.get("name"))).card
    except BadInput:
        return ""
    return f"{card.title}: {card.summary}"


def _read(report: DataReport) -> list[str]:
    return report.get("read", [])[:MOST]


def _duplicates(report: DataReport) -> str:
    told = []
    for part, own in (("train", report.get("train", {})), ("test", report.get("test", {}))):
        if (count := own.get("duplicates")) is not None:
            other = own.get("conflicting")
            also = f" ({other:,} under another label than the first copy)" if other else ""
            told.append(f"{count:,} in {part}{also}")
    return ", ".join(told)


def _dropped(report: DataReport) -> str:
    found = report.get("dropped", {})
    told = [f"{count:,} {reason(why)}" for why, count in found.items() if count]
    return ", ".join(told) or ("none" if "dropped" in report else "")


def _cut(report: DataReport) -> str:
    told = []
    for part, own in (("train", report.get("train", {})), ("test", report.get("test", {}))):
        if (count := own.get("cut")) is not None:
            mean = own.get("mean_tokens")
            also = f" (mean length {mean:.4g} tokens)" if mean is not None else ""
            told.append(f"{count:,} {part} texts{also}")
    return ", ".join(told)


def _classes(report: DataReport) -> list[str]:
    """Index and name of each class, and its rows."""
    names = report.get("classes", [])
    train = report.get("train", {}).get("per_class", [])
    test = report.get("test", {}).get("per_class", [])
    body = [
        [str(index), name(text), _at(train, index), _at(test, index)]
        for index, text in enumerate(names[:MOST])
    ]
    return _table(["class", "name", "train", "test"], body, "rlrr") + _more(names, "class", "es")


def _at(counts: Sequence[int], index: int) -> str:
    return f"{counts[index]:,}" if index < len(counts) else ""


def _columns(report: DataReport, width: int) -> list[str]:
    columns = report.get("columns", [])
    body = [
        [
            name(column.get("name", "")),
            column.get("kind", ""),
            _range(column, max(VALUES_ROOM, width - OTHERS_ROOM)),
            f"{column['gaps']:,}" if column.get("gaps") else "",
            plain(column.get("filled", ""), 40),
        ]
        for column in columns[:MOST]
    ]
    headings = ["column", "kind", "range or values", "gaps", "filled with"]
    return _table(headings, body, "lllrl") + _more(columns, "column", "s")


def _range(column: Column, room: int) -> str:
    if "low" in column and "high" in column:
        return f"{column['low']:.6g} to {column['high']:.6g}"
    values = column.get("values")
    if values is None:
        return ""
    told = ""
    for count, value in enumerate(values):
        more = f"{told}, {name(value)}" if told else name(value)
        if told and len(more) > room:
            return f"{len(values):,}: {told}, and {len(values) - count:,} more"
        told = more
    return f"{len(values):,}: {told}"


def _more(found: Sequence[object], word: str, plural: str) -> list[str]:
    left = len(found) - MOST
    return [f"and {left:,} more {word}{plural * (left > 1)}"] if left > 0 else []


def _warnings(report: DataReport, width: int) -> list[str]:
    told = [
        line
        for text in dict.fromkeys(warnings_in(report))
        for line in textwrap.wrap(
            plain(text, SENTENCE), max(width, 40), initial_indent="- ", subsequent_indent="  "
        )
    ]
    return ["warnings", *told[:MOST]] if told else []


def _sample(report: DataReport, width: int) -> list[str]:
    """The first rows as the files have them, in as many columns as there is room for."""
    sample = report.get("sample", [])[:MOST]
    if not sample:
        return []
    across = max(map(len, sample))
    names = [*report.get("sample_names", []), *[""] * across][:across]
    room = width - 2 * across if across <= FEW else CELL
    most = min(WIDE_CELL, max(CELL, room - CELL)) if across <= FEW else CELL
    table = [[plain(cell, most) for cell in [*row, *[""] * across][:across]]
             for row in [names, *sample]]  # fmt: skip
    shown, used = 0, 0
    for column in zip(*table, strict=True):
        used += max(map(cell_len, column)) + 2
        if shown and used > width:
            break
        shown += 1
    hidden = across - shown
    also = f", without {counted(hidden, 'column')} on the right" if hidden else ""
    body = [row[:shown] for row in table[1:]]
    head = f"the first {counted(len(sample), 'row')} as read{also}"
    return [head, "", *_table(table[0][:shown], body, "l" * shown)]


def _table(headings: Sequence[str], body: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Aligned columns; one that is empty but for its heading is left out."""
    if not body:
        return []
    told = [n for n in range(len(headings)) if any(row[n] for row in body) or not headings[n]]
    widths = {n: max(cell_len(row[n]) for row in [headings, *body]) for n in told}
    lines = []
    for row in [headings, *body]:
        cells = []
        for n in told:
            space = " " * (widths[n] - cell_len(row[n]))
            cells.append(space + row[n] if sides[n] == "r" else row[n] + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def title(one: DataSet, source: dict[str, Any]) -> str:
    """Such as "data mnist5k of run tiny-0123"."""
    of = f" of run {plain(one.run, 130)}" if one.run else ""
    return elided(f"data {plain(str(source.get('name', '')), 60)}{of}", WIDTH)
