"""The Compare screen without a screen: lines grouped, sorted and pinned; cells as text; details.

Everything is made from comparison rows (`engine.results.compare`), as `chelate compare` is.
Cells are (text, style) pairs; the styles are those of `console.widgets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.results import margins
from engine.results.compare import Row, shown_metric
from engine.results.curves import role_of
from engine.results.tables import Line, number, summary, with_bounds
from engine.results.tidy import Audits

Cell = tuple[str, str]
SIGNS = {"residue": "✗", "removed": "✓", "inconclusive": "?", "wrecked": "✖", "reference": "=",
         "n/a": "-", "oracle": "^", "nothing to remove": "~"}  # fmt: skip
# What a qualified word is called in the column, which has no room for "residue (over-corrected)".
SHORT = {
    "accuracy": "inconcl. (acc.)",
    "reinforced": "reinforced",
    "over-corrected": "over-corrected",
}
ASCII_SIGNS = SIGNS | {"residue": "x", "removed": "o", "wrecked": "#"}
STYLES = {"residue": "bad", "removed": "good", "inconclusive": "warn", "wrecked": "accent",
          "reference": "muted", "n/a": "muted", "oracle": "muted",
          "nothing to remove": "muted"}  # fmt: skip
RANK = ("residue", "inconclusive", "removed", "nothing to remove", "wrecked", "reference", "oracle",
        "n/a", "")  # fmt: skip
GROUPS = ("attack", "method", "verdict", "none")
SORTS = ("given", "verdict", "z", "gap", "accuracy", "cost")
BAR, WIDE_BAR = 15, 31  # columns of the gap's interval
NORMAL_FLOOR = 0.05  # the axis of the gap bars reaches at least this far to both sides
Reach = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Heading:
    """A column: `least` columns wide at least; the lowest `priority` goes first."""

    key: str
    title: str
    width: int
    least: int
    number: bool = True
    priority: int = 5


HEADINGS = (
    Heading("method", "method", 30, 15, False, 10),
    Heading("budget", "budget", 6, 6, True, 9),
    Heading("verdict", "verdict", 17, 14, False, 10),
    Heading("value", "z/value", 15, 7, True, 8),
    Heading("rate", "rate", 17, 17, True, 7),
    Heading("gap", "gap", 7, 7, True, 7),
    Heading("bar", "gap to retrain", BAR, BAR, False, 6),
    Heading("accuracy", "acc", 5, 5, True, 8),
    Heading("tee", "TEE", 5, 5, True, 4),
    Heading("seconds", "sec", 6, 6, True, 3),
    Heading("recovery", "recov", 5, 5, True, 2),
    Heading("n", "n", 2, 2, True, 1),
    Heading("audit", "audit", 14, 8, False, 2),
    Heading("metric", "metric", 16, 10, False, 1),
)
HIDEABLE = tuple(heading.key for heading in HEADINGS if heading.key not in ("method", "verdict"))


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of the list: a judged line, or with `line` None the title of a group."""

    key: str
    cells: dict[str, Cell]
    line: Line | None = None


def key_of(line: Line) -> str:
    """What names a line from one reading of the results to the next."""
    budget = "" if line.budget is None else f"{line.budget:g}"
    return "\t".join((line.setting, line.attack, line.method, line.variant, budget, line.audit))


@dataclass(frozen=True, slots=True)
class View:
    """How the person wants it. `hidden` names columns; `pinned` keys of lines, on top."""

    group: str = "attack"
    sort: str = "given"
    hidden: frozenset[str] = frozenset({"audit", "metric"})
    pinned: tuple[str, ...] = ()
    matrix: bool = False

    def next_group(self) -> View:
        return replace(self, group=_next(GROUPS, self.group))

    def next_sort(self) -> View:
        return replace(self, sort=_next(SORTS, self.sort))

    def toggle(self, column: str) -> View:
        return replace(self, hidden=self.hidden ^ {column})

    def pin(self, key: str) -> View:
        if key in self.pinned:
            return replace(self, pinned=tuple(k for k in self.pinned if k != key))
        return replace(self, pinned=(*self.pinned, key))

    def state(self) -> dict[str, Any]:
        return {
            "group": self.group, "sort": self.sort, "hidden": sorted(self.hidden),
            "pinned": list(self.pinned), "matrix": self.matrix,
        }  # fmt: skip

    @staticmethod
    def of(told: dict[str, Any]) -> View:
        """From `state`, perhaps another version's: what does not fit is left out."""
        given, hidden, pinned = View(), told.get("hidden"), told.get("pinned")
        return View(
            told["group"] if told.get("group") in GROUPS else given.group,
            told["sort"] if told.get("sort") in SORTS else given.sort,
            frozenset(h for h in hidden if h in HIDEABLE)
            if isinstance(hidden, list)
            else given.hidden,
            tuple(str(key) for key in pinned) if isinstance(pinned, list) else (),
            told.get("matrix") is True,
        )


def _next(words: Sequence[str], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]


class Comparison:
    """Rows of one or several runs, as lines to choose from; `audits` are those that judged them."""

    def __init__(
        self, rows: Sequence[Row], ascii_only: bool = False, audits: Audits | None = None
    ) -> None:
        self.rows = list(rows)
        self.audits: Audits = audits or {}
        self.margins = margins.lines(self.audits)
        self.lines = summary(self.rows)
        self.signs = ASCII_SIGNS if ascii_only else SIGNS
        self.ascii = ascii_only
        self.bar = BAR
        self.reach: dict[str, Reach] = {}  # metric -> the ends of the axis of its gap bars
        for line in self.lines:
            ends = [end for end in (line.gap, line.gap_lo, line.gap_hi) if end is not None]
            low, high = self.reach.get(line.metric, (-NORMAL_FLOOR, NORMAL_FLOOR))
            self.reach[line.metric] = min([low, *ends]), max([high, *ends])

    def headings(self, view: View) -> list[Heading]:
        """The columns that are wanted and tell anything here."""
        told = {"budget": "budget", "recovery": "recovery", "accuracy": "accuracy", "gap": "gap",
                "bar": "gap", "rate": "rate"}  # fmt: skip
        return [
            heading
            for heading in HEADINGS
            if heading.key not in view.hidden
            and (
                heading.key not in told
                or any(getattr(line, told[heading.key]) is not None for line in self.lines)
            )
        ]

    def shown(self, view: View) -> list[Shown]:
        """The lines in order: pinned ones, then group after group, each under its title."""
        by_key = {key_of(line): line for line in self.lines}
        pinned = [by_key[key] for key in view.pinned if key in by_key]
        found = [Shown(f"pin\t{key_of(line)}", self._pinned(line, view), line) for line in pinned]
        for title, lines in self._groups(view):
            if title:
                found.append(Shown(f"group\t{title}", self._title(title, lines, view)))
            for line in self._ordered(lines, view.sort):
                found.append(Shown(key_of(line), self.cells(line, view, bool(title)), line))
        return found

    def _title(self, title: str, lines: list[Line], view: View) -> dict[str, Cell]:
        """A group's own line; of an attack's, the audit stands above the verdicts it leads to."""
        if view.group != "attack":
            return {"method": (title, "strong")}
        where = f" [{lines[0].setting}]" if lines[0].setting else ""
        return {"method": (f"{lines[0].attack}{where}", "strong"),
                "verdict": (lines[0].audit, "strong")}  # fmt: skip

    def _pinned(self, line: Line, view: View) -> dict[str, Cell]:
        cells = self.cells(line, view)
        where = f"{line.attack} " if len({one.attack for one in self.lines}) > 1 else ""
        return cells | {"method": (f"{'*' if self.ascii else '◆'} {where}{who(line)}", "accent")}

    def _groups(self, view: View) -> list[tuple[str, list[Line]]]:
        name: Callable[[Line], str] = {
            "attack": _family, "method": lambda line: line.method,
            "verdict": lambda line: line.verdict, "none": lambda line: "",
        }[view.group]  # fmt: skip
        groups: dict[str, list[Line]] = {}
        for line in self.lines:
            groups.setdefault(name(line), []).append(line)
        if view.group == "verdict":
            return sorted(groups.items(), key=lambda pair: RANK.index(pair[0]))
        return list(groups.items())

    def _ordered(self, lines: list[Line], sort: str) -> list[Line]:
        if sort == "given":
            return lines
        if sort == "verdict":
            return sorted(lines, key=lambda line: RANK.index(line.verdict))
        value = _SORTED[sort]
        down = sort in ("z", "gap")  # the poison most in evidence first
        known = [line for line in lines if value(line) is not None]
        known.sort(key=lambda line: abs(value(line) or 0.0), reverse=down)
        return known + [line for line in lines if value(line) is None]

    def cells(self, line: Line, view: View, indented: bool = False) -> dict[str, Cell]:
        style = STYLES.get(line.verdict, "")
        where = "" if view.group == "attack" else f"  {line.attack}"
        name = who(line) if view.group == "attack" else f"{who(line)}{where}"
        return {
            "method": (f"{'  ' if indented else ''}{name}", ""),
            "budget": (number(line.budget, "g"), ""),
            "verdict": (self.verdict(line), style),
            "value": (value_of(line), ""),
            "rate": (with_bounds(line.rate), ""),
            "gap": (number(line.gap, "+z.3f"), ""),
            "bar": (self._bar(line), style),
            "accuracy": (number(line.accuracy, ".3f"), ""),
            "tee": (number(line.tee, ".2f"), ""),
            "seconds": (number(line.seconds, ".1f"), ""),
            "recovery": (number(line.recovery, "z.2f"), "warn" if line.over_corrected else ""),
            "n": (str(line.n), "" if line.n >= 3 else "warn"),
            "audit": (line.audit, ""),
            "metric": (line.metric, ""),
        }  # fmt: skip

    def _bar(self, line: Line) -> str:
        reach = self.reach[line.metric]
        return interval_bar(line.gap, line.gap_lo, line.gap_hi, reach, self.bar, self.ascii)

    def verdict(self, line: Line) -> str:
        if line.verdict == "nothing to remove" or line.word.startswith("n/a:"):
            return line.word  # fills the column, and no other word is like it
        word = SHORT.get(line.qualifier, line.verdict)
        return f"{self.signs.get(line.verdict, ' ')} {word}"

    # --- the matrix ------------------------------------------------------------------------------

    def families(self) -> list[str]:
        """The columns of the matrix: attack, setting and audit."""
        return list(dict.fromkeys(_family(line) for line in self.lines))

    def matrix(self, view: View) -> list[Shown]:
        """A line for each method, variant and budget; a cell for each family: sign, word, value.

        `line` is that of the first family that has one.
        """
        found: dict[tuple[str, str, float | None], dict[str, Line]] = {}
        for line in self.lines:
            found.setdefault((line.method, line.variant, line.budget), {})[_family(line)] = line
        shown = []
        for (_, _, budget), lines in found.items():
            first = next(iter(lines.values()))
            cells: dict[str, Cell] = {
                "method": (who(first), ""), "budget": (number(budget, "g"), ""),
            }  # fmt: skip
            for family, line in lines.items():
                cells[family] = (
                    f"{self.verdict(line):18}{value_of(line, short=True)}",
                    STYLES.get(line.verdict, ""),
                )
            shown.append(Shown(key_of(first), cells, first))
        return shown

    # --- one line --------------------------------------------------------------------------------

    def metrics(self, line: Line) -> list[Row]:
        """All rows of the line's audit, and its accuracy; the primary metric first."""
        model = (line.setting, line.attack, line.method, line.variant, line.budget)
        own = [row for row in self.rows if _model(row) == model]
        return [
            *(row for row in own if row["audit"] == line.audit),
            *(row for row in own if row["audit"] != line.audit and row["primary"]),
        ]

    def yardsticks(self, line: Line) -> dict[str, Line]:
        """The lines of retraining and of no unlearning in the line's family, by role."""
        found: dict[str, Line] = {}
        for other in self.lines:
            if _family(other) == _family(line):
                found.setdefault(role_of(other.method), other)
        return {role: found[role] for role in ("retrain", "none") if role in found}


_SORTED: dict[str, Callable[[Line], float | None]] = {
    "z": lambda line: line.mean if line.z is None else line.z,
    "gap": lambda line: line.gap,
    "accuracy": lambda line: None if line.accuracy is None else 1 - line.accuracy,
    "cost": lambda line: line.tee,
}


def _model(row: Row) -> tuple[Any, ...]:
    return row["setting"], row["attack"], row["method"], row["variant"], row["budget"]


def _family(line: Line) -> str:
    where = f" [{line.setting}]" if line.setting else ""
    return f"{line.attack}{where} · {line.audit}"


def who(line: Line) -> str:
    return f"{line.method} {line.variant}" if line.variant else line.method


def value_of(line: Line, short: bool = False) -> str:
    """z where there is one, else the primary metric's mean."""
    if line.z is not None:
        return f"z {line.z:+.1f}" if short else f"{line.z:+.2f}"
    return number(line.mean, ".3f")


def interval_bar(
    mean: float | None,
    lo: float | None,
    hi: float | None,
    reach: Reach,
    width: int,
    ascii_only: bool = False,
) -> str:
    """A mean and its interval on an axis from reach[0] < 0 to reach[1] > 0 with a line at zero;
    what lies beyond ends in an arrow. Without a mean, the line alone.

    ├─●─┤ crossing the line of zero means: no gap was shown.
    """
    if width < 3 or not reach[0] < 0 < reach[1]:
        return ""
    dash, left, right, dot, zero, back, on = "-[]o|<>" if ascii_only else "─├┤●┊◂▸"
    cells = [" "] * width

    def column(value: float) -> int:
        return round((value - reach[0]) / (reach[1] - reach[0]) * (width - 1))

    cells[column(0.0)] = zero
    if mean is None or not math.isfinite(mean):
        return "".join(cells)
    low, middle, high = (column(v) for v in (mean if lo is None else lo, mean,
                                             mean if hi is None else hi))  # fmt: skip
    last = width - 1
    for at in range(max(0, low), min(last, high) + 1):
        cells[at] = dash
    if low != high:
        for end, sign in ((low, left), (high, right)):
            if 0 <= end <= last:
                cells[end] = sign
    if low < 0:
        cells[0] = back
    if high > last:
        cells[last] = on
    if 0 <= middle <= last:
        cells[middle] = dot
    return "".join(cells)


# --- what a drill-down shows as text --------------------------------------------------------------


def seed_table(rows: Iterable[Row]) -> list[list[str]]:
    """Heading and lines: each metric with its value at every seed, mean and interval."""
    told = list(rows)
    trials = sorted({trial for row in told for trial in _trials(row)})
    several = any(unit for _, unit in trials)
    heads = [f"s{seed}" + (f" t{unit}" if several else "") for seed, unit in trials]
    table = [["metric", "mean", "95 % interval", *heads]]
    for row in told:
        values = dict(zip(_trials(row), row["values"], strict=True))
        interval = ""
        if row["lo"] is not None and row["hi"] is not None:
            interval = f"{row['lo']:.3g} to {row['hi']:.3g}"
        table.append(
            [
                shown_metric(row),
                number(row["mean"], ".4g"),
                interval,
                *(number(values.get(trial), ".4g") for trial in trials),
            ]
        )
    return table


def _trials(row: Row) -> list[tuple[int, int]]:
    """(seed, unit) of each value; unit 0 where the attack has one poison a seed."""
    return list(zip(row["seeds"], row.get("units") or [0] * len(row["seeds"]), strict=True))
