"""Comparison rows as text: CSV of everything; Markdown and LaTeX of the judged audits."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.results.compare import Row
from engine.results.evidence import COUNT, STD
from engine.results.statistics import pooled_mean
from engine.results.utility import UTILITY_AUDIT, UTILITY_METRIC
from engine.results.verdict import labelled

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Line:
    """One judged audit of one model, as the final table of a run shows it. Undefined is None.

    `z` is the pooled score in standard errors, for audits with a standard-normal null;
    `accuracy` is mean test accuracy. `search_tee` is what choosing the settings cost. `rate` is that
    of the audit's yes-or-no metric, where it has one to show beside its primary, and its Wilson
    interval.
    """

    setting: str
    attack: str
    method: str
    variant: str
    budget: float | None
    audit: str
    metric: str
    n: int
    mean: float | None
    lo: float | None
    hi: float | None
    z: float | None
    gap: float | None
    gap_lo: float | None
    gap_hi: float | None
    recovery: float | None
    accuracy: float | None
    tee: float | None
    seconds: float | None
    search_tee: float | None
    verdict: str
    reason: str
    qualifier: str = ""
    over_corrected: bool = False
    rate: tuple[float, float | None, float | None] | None = None  # rate, lo, hi

    @property
    def word(self) -> str:
        """The verdict as tables show it: "residue (reinforced)", "n/a: diverged" where every seed
        did."""
        lost = self.verdict == "n/a" and self.reason.startswith("diverged (")
        return "n/a: diverged" if lost else labelled(self.verdict, self.qualifier)

    @property
    def pages(self) -> list[str]:
        """Names of the pages that explain the verdict (`engine.results.explain`)."""
        over = "over-corrected" if self.over_corrected else ""
        own = "" if self.qualifier == "accuracy" else self.qualifier
        return list(dict.fromkeys(word for word in (self.verdict, own, over) if word))

    def cells(self) -> list[str]:
        """The line as text, aligned with `HEADINGS`."""
        return [column.text(self) for column in COLUMNS]


@dataclass(frozen=True, slots=True)
class Column:
    heading: str
    text: Callable[[Line], str]
    number: bool = True  # set flush right, with a real minus sign in LaTeX
    optional: bool = False  # left out of a table in which no line has a value


def number(value: float | None, form: str) -> str:
    """`value` in a format such as "+.3f", or a dash."""
    return MISSING if value is None else format(value, form)


def with_interval(value: float | None, lo: float | None, hi: float | None, form: str) -> str:
    """ "0.173 ± 0.045", or "0.938 (0.717, 0.989)" where the interval is not symmetric."""
    if value is None or lo is None or hi is None:
        return number(value, form)
    if math.isclose(hi - value, value - lo, rel_tol=1e-6, abs_tol=1e-9):
        return f"{value:{form}} ± {hi - value:{form.lstrip('+')}}"
    return f"{value:{form}} ({lo:{form}}, {hi:{form}})"


def with_bounds(rate: tuple[float, float | None, float | None] | None) -> str:
    """ "0.94 (0.80, 0.98)": Wilson's interval is not symmetric. The rate alone without one."""
    if rate is None:
        return MISSING
    return f"{rate[0]:.2f}" if None in rate else "{:.2f} ({:.2f}, {:.2f})".format(*rate)


def recovered(line: Line) -> str:
    """ "0.98", or "1.32 (over-corrected)" where that is shown."""
    over = " (over-corrected)" if line.over_corrected else ""
    return f"{number(line.recovery, '.2f')}{over}"


COLUMNS = (
    Column("setting", lambda line: line.setting, number=False),
    Column("attack", lambda line: line.attack, number=False),
    Column("method", lambda line: line.method, number=False),
    Column("variant", lambda line: line.variant or MISSING, number=False),
    Column("budget", lambda line: number(line.budget, "g")),
    Column("audit", lambda line: line.audit, number=False),
    Column("n", lambda line: str(line.n)),
    Column("value", lambda line: with_interval(line.mean, line.lo, line.hi, ".3f")),
    Column("rate", lambda line: with_bounds(line.rate), optional=True),
    Column("z", lambda line: number(line.z, "+.2f")),
    Column(
        "gap to retrain", lambda line: with_interval(line.gap, line.gap_lo, line.gap_hi, "+.3f")
    ),
    Column("recovery", recovered),
    Column("test acc", lambda line: number(line.accuracy, ".3f")),
    Column("TEE", lambda line: number(line.tee, ".3g")),
    Column("seconds", lambda line: number(line.seconds, ".1f")),
    Column("search TEE", lambda line: number(line.search_tee, ".3g"), optional=True),
    Column("verdict", lambda line: line.word, number=False),
)
HEADINGS = [column.heading for column in COLUMNS]


def shown_columns(lines: Sequence[Line]) -> list[Column]:
    """The columns of a table of these lines."""
    return [
        column
        for column in COLUMNS
        if not column.optional or any(column.text(line) != MISSING for line in lines)
    ]


def summary(rows: Sequence[Row]) -> list[Line]:
    """A line for each judged audit of each model, in the rows' order.

    Judged are the audits with a primary row, accuracy only where an attack has no other.
    """
    metrics: dict[tuple[Any, ...], dict[str, Row]] = defaultdict(dict)
    audits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        metrics[*_model(row), row["audit"]][row["metric"]] = row
        if row["primary"]:
            audits[row["setting"], row["attack"]].add(row["audit"])
    lines = []
    for row in rows:
        others = audits[row["setting"], row["attack"]] - {UTILITY_AUDIT}
        if not row["primary"] or (others and row["audit"] == UTILITY_AUDIT):
            continue
        utility = metrics.get((*_model(row), UTILITY_AUDIT), {}).get(UTILITY_METRIC)
        siblings = metrics[*_model(row), row["audit"]]
        copied = {name: row[name] for name in _COPIED} | {"qualifier": row["qualifier"] or ""}
        lines.append(
            Line(
                **copied,
                z=_z(row, siblings),
                accuracy=utility["mean"] if utility else None,
                rate=_rate(siblings.values()),
            )
        )
    return lines


_COPIED = [name for name in Line.__slots__ if name not in ("z", "accuracy", "rate")]


def _model(row: Row) -> tuple[str, str, str, str, float | None]:
    return row["setting"], row["attack"], row["method"], row["variant"], row["budget"]


def _z(row: Row, siblings: dict[str, Row]) -> float | None:
    """The pooled z-score, where the companions of a standard-normal metric stand beside it."""
    if COUNT not in siblings or STD not in siblings:
        return None
    pairs = [
        (value, count)
        for value, count in zip(row["values"], siblings[COUNT]["values"], strict=True)
        if value is not None and count
    ]
    if not pairs:
        return None
    mean, error = pooled_mean([value for value, _ in pairs], [count for _, count in pairs])
    return mean / error


def _rate(siblings: Iterable[Row]) -> tuple[float, float | None, float | None] | None:
    for row in siblings:
        if row.get("beside") and row["mean"] is not None:
            return row["mean"], row["lo"], row["hi"]
    return None


# --- formats -------------------------------------------------------------------------------------


def exported(rows: Sequence[Row]) -> list[Row]:
    """Rows, of a comparison or of trials, for programs: what people read as "n/a" is a word that no
    reader of tables takes for a missing value."""
    return [
        row | {name: NOT_APPLICABLE for name in ("verdict", "outcome") if row.get(name) == "n/a"}
        for row in rows
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """Every row and key, for data frames and spreadsheets.

    A cell is empty only where there is no value. Numbers in full, in columns of their own; lists as
    JSON. A text that would be read as something else (a formula, a missing value) has an apostrophe
    before it, and so has one that begins with an apostrophe: take one away to have it back.
    """
    if not rows:
        return ""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    for row in exported(rows):
        unnamed = {key: UNNAMED for key in ("setting", "variant") if not row[key]}
        flags = {"beside": False} if "beside" in names else {}
        cells = flags | row | unnamed
        writer.writerow({key: _csv_cell(value) for key, value in cells.items()})
    return out.getvalue()


NOT_APPLICABLE = "not-applicable"
UNNAMED = "(default)"  # the only setting, a method's own settings; no label can be that

# What pandas takes for a missing value, unless told otherwise; R and polars know some of these.
_NOTHING = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
))  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a lone \r would end the line for readers
# Spreadsheets begin a formula with these, some after blanks, too.
_FORMULA = re.compile(r"[\t\n]|\s*[=+\-@＝＋－＠]")
_NUMERAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")  # as in a class that is called "-1": no harm in it


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = _CONTROL.sub(" ", value)
    formula = _FORMULA.match(text) and not _NUMERAL.fullmatch(text)
    return f"'{text}" if text in _NOTHING or text.startswith("'") or formula else text


def to_markdown(rows: Sequence[Row]) -> str:
    """The summary as a pipe table."""
    lines = summary(rows)
    columns = shown_columns(lines)
    headings = [(column.heading, column.number) for column in columns]
    return markdown_table(headings, [[column.text(line) for column in columns] for line in lines])


def markdown_table(headings: Sequence[tuple[str, bool]], lines: Sequence[Sequence[str]]) -> str:
    """A pipe table; a heading says whether its column holds numbers, set flush right."""
    escaped = [
        [_markdown_cell(cell) for cell in cells]
        for cells in ([heading for heading, _ in headings], *lines)
    ]
    numbers = [is_number for _, is_number in headings]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*escaped, strict=True)]
    rule = [
        "-" * (width - 1) + ":" if is_number else "-" * width
        for is_number, width in zip(numbers, widths, strict=True)
    ]
    padded = [
        [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(cells, widths, numbers, strict=True)
        ]
        for cells in escaped
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (padded[0], rule, *padded[1:]))


def _markdown_cell(text: str) -> str:
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", " ".join(text.split()))


def to_latex(rows: Sequence[Row]) -> str:
    r"""The summary as a `tabular` with booktabs rules (needs \usepackage{booktabs})."""
    lines = summary(rows)
    columns = shown_columns(lines)
    body = [
        " & ".join(_latex_cell(column.text(line), column) for column in columns) for line in lines
    ]
    alignment = "".join("r" if column.number else "l" for column in columns)
    head = " & ".join(_latex_text(column.heading) for column in columns)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *(rf"{line} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_cell(cell: str, column: Column) -> str:
    if cell == MISSING:
        return "--"
    if not column.number:
        return _latex_text(cell)
    return cell.replace("-", "$-$").replace("+", "$+$").replace("±", r"$\pm$")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
