"""`report`: a run as one HTML page that needs nothing else: no script, no style sheet, no network.

Everything from files (names, reasons, presets) is escaped where it enters the page; figures are
inline SVG of the same functions that draw them for paper.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from console import row_detection
from console.attack_costs import attack_costs
from console.comparing import rows_of, tuning_of
from console.datasets import full_text
from console.output import say_written
from console.plotting import Panel, figure_of, panels_of
from console.warnings_view import counted
from engine.jobs import bounded_json, runs, schema
from engine.jobs.datasets import data_sets_of
from engine.jobs.datasets import lines as data_lines
from engine.jobs.discretion import asked_discreetly, discretion_of
from engine.jobs.events import strip_control
from engine.jobs.home import Home, open_plain, resolve_home
from engine.jobs.machines import machines_of, mixed
from engine.jobs.run_warnings import warnings_of
from engine.jobs.runs import Run
from engine.jobs.store import Damaged
from engine.results import margins
from engine.results.compare import shown_metric
from engine.results.explain import explain
from engine.results.figures import inline_svg
from engine.results.tables import COLUMNS, Line, summary
from engine.results.tidy import Audits, class_names
from engine.results.tuning import ORACLE, note, table_of
from engine.spec.errors import BadInput
from engine.spec.outputs import check_output, is_stdout, write_output

CHARSET = '<meta charset="utf-8">'
PER_FIGURE = 6  # panels: more would not fit on a printed page
# Those facts of a poison that are classes.
CLASS_FACTS = frozenset({"target", "true_class", "adversarial", "first", "second"})
FIGURES = (
    ("budget", "Against the budget", "Means over seeds with 95 % t-intervals."),
    ("z", "Scores against N(0, 1)", "Pooled over seeds; methods at their largest budget."),
    ("loss", "Losses", "Every seed thin, their mean thick."),
)
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #e2e2e2; text-align: left;
         white-space: nowrap; }
td.number, th.number { text-align: right; } td.reason { white-space: normal; min-width: 18rem; }
.known td { white-space: normal; vertical-align: top; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .82rem; }
.residue { color: #b3261e; font-weight: 600; } .removed { color: #00684a; font-weight: 600; }
.inconclusive { color: #7a5b00; } .wrecked { color: #8a3b80; font-weight: 600; }
.reference, .nothing-to-remove, .note { color: #666; }
@media print { body { margin: 0; max-width: none; } details { break-inside: avoid; } }
"""


MARK = re.compile(rb'<meta name="generator" content="chelate report ([^" ]+) ([0-9a-f]{64})">')
LARGEST = 64 << 20  # bytes of a page that is read to see whose it is


def marked(page: str, run_id: str) -> str:
    """A page that says which run it reports, and the hash of all it holds but for that."""
    told = hashlib.sha256(page.encode("utf-8", "backslashreplace")).hexdigest()
    mark = f'<meta name="generator" content="chelate report {run_id} {told}">'
    return page.replace(CHARSET, CHARSET + mark, 1)


def is_own(file: Path, run_id: str) -> bool:
    """Whether a file is a report of this run as it was written."""
    try:
        with open_plain(file) as opened:
            content = opened.read(LARGEST) or b""
    except (OSError, ValueError):
        return False
    found = MARK.search(content, 0, 1000)
    if found is None or found[1] != run_id.encode():
        return False
    rest = content[: found.start()] + content[found.end() :]
    return hashlib.sha256(rest).hexdigest().encode() == found[2]


def write_report(run_id: str, home: Path | None, out: Path, force: bool = False) -> None:
    """Write DIR/report.html. Raises BadInput, and without `force` replaces nothing but what this
    command wrote there of the same run, and nobody has changed since."""
    run = runs.find(Home(resolve_home(home)), run_id)
    target = out if is_stdout(out) else out / "report.html"
    force = force or is_own(target, run.id)
    check_output(target, force=force)
    page = marked(discretion_of(run).places(report(run)), run.id)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be written: {error.strerror}.") from None
    write_output(target, page, force=force)
    say_written(target)


def report(run: Run) -> str:
    """The page. The same run gives the same page. Raises BadInput if its files cannot be read."""
    rows = rows_of([run])
    lines = summary(rows)
    audits = margins.audits_of([run])
    title = str(run.facts.get("title") or run.facts.get("name") or run.id)
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="note">{_text(_subtitle(run))}</p>',
        *_data_lines(run),
        *(f"<p>{_text(text)}</p>" for text in margins.lines(audits)),
        _section("Verdicts", _verdicts(lines)),
        _machines(run),
        _warnings(run),
        _tuning(run),
        *(_figures(run, *figure) for figure in FIGURES),
        _detected(run),
        _data(run),
        _poisons(run),
        _attacks(run),
        _section("Measurements", _measurements(rows)),
        _section("What the words mean", _explanations(lines, audits)),
        _section("Preset, every default written out", _pre(_preset(run))),
        _section("Environment", _environment(run)),
    ]
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head>{CHARSET}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _subtitle(run: Run) -> str:
    created = float(run.facts.get("created") or 0.0)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created))
    where = f"computed on {run.imported['host']} and imported; " if run.imported is not None else ""
    return (
        f"run {run.id}: {run.state()}; {where}asked for {when}; chelate {run.facts.get('chelate')}"
    )


def _data_lines(run: Run) -> list[str]:
    return [f"<p>{_text(text)}</p>" for text in data_lines(data_sets_of([run]))]


def _data(run: Run) -> str:
    """The data in full, as far as they were read; the lines above tell them in short."""
    return _section(
        "Data",
        f"<details open><summary>In full</summary>{_pre(full_text(run, to_share=True))}</details>",
    )


def _text(value: object) -> str:
    return escape(strip_control(str(value)))


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{_text(title)}</h2>\n" + "\n".join(parts) + "</section>"


def _pre(text: str) -> str:
    # A preset's line breaks matter; other control characters have no business on a page.
    lines = (escape(strip_control(line)) for line in text.split("\n"))
    return "<pre>" + "\n".join(lines) + "</pre>"


def _table(headings: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """`headings` are (text, is a number); the cells of `rows` are HTML already."""
    kinds = [' class="number"' if number else "" for _, number in headings]
    head = "".join(
        f"<th{kind}>{_text(text)}</th>" for kind, (text, _) in zip(kinds, headings, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"
        for cells in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _verdicts(lines: Sequence[Line]) -> str:
    if not lines:
        return "<p>Nothing has been measured yet.</p>"
    texts = [line.cells() for line in lines]
    told = [n for n in range(len(COLUMNS)) if {row[n] for row in texts} - {"", "-"}]
    headings = [(COLUMNS[n].heading, COLUMNS[n].number) for n in told]
    rows = []
    for line, cells in zip(lines, texts, strict=True):
        shown = [_text(cells[n]) for n in told]
        word = "na" if line.verdict == "n/a" else _text(line.verdict).replace(" ", "-")
        shown[-1] = f'<span class="{word}">{shown[-1]}</span>'
        rows.append([*shown, f'<span class="note">{_text(line.reason)}</span>'])
    return _table([*headings, ("why", False)], rows).replace(
        '<td><span class="note">', '<td class="reason"><span class="note">'
    )


def _warnings(run: Run) -> str:
    """What stages warned of; empty where none did."""
    counts = warnings_of([run]).counts
    if not counts:
        return ""
    told = "\n".join(f"<li>{_text(counted(text, count))}</li>" for text, count in counts.items())
    return _section("Warnings", f"<ul>{told}</ul>")


def _machines(run: Run) -> str:
    """That rows come from several kinds of machine, where they do."""
    told = mixed(machines_of([run]))
    return f'<p class="note">{_text(told)}.</p>' if told else ""


def _tuning(run: Run) -> str:
    """Every trial behind the tuned rows; empty where nothing was tuned."""
    tried = tuning_of([run])
    if not tried:
        return ""
    headings, lines = table_of(tried)
    text = note(tried)
    if any(row["objective"] == "oracle" for row in tried):
        text += f" {ORACLE}."
    table = _table(headings, ([_text(cell) for cell in line] for line in lines))
    listed = f"<details open><summary>All {len(tried)} trials</summary>{table}</details>"
    return _section("Choice of hyper-parameters", f'<p class="note">{_text(text)}</p>', listed)


def _figures(run: Run, kind: str, title: str, note: str) -> str:
    panels: list[Panel] = panels_of(kind, [run])
    if not panels:
        return ""
    drawn = [
        f"<figure>{inline_svg(figure_of(panels[n : n + PER_FIGURE]), f'{kind}-{n}')}</figure>"
        for n in range(0, len(panels), PER_FIGURE)
    ]
    return _section(title, f'<p class="note">{_text(note)}</p>', *drawn)


def _texts(lines: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[_text(cell) for cell in cells] for cells in lines]


def _detected(run: Run) -> str:
    """Rows that methods leave detectable, for each attack; the rows of the largest budgets."""
    parts = []
    for family in row_detection.families(row_detection.lines_of([run])):
        if family[0].place.method:
            columns = row_detection.shown_columns(family)
            cells = row_detection.cells_of(family, columns)
            table = _table([(c.heading, c.number) for c in columns], _texts(cells))
            parts += [f"<h3>{_text(row_detection.heading(family))}</h3>", table]
        parts += [f'<p class="note">{_text(note)}.</p>' for note in row_detection.notes(family)]
        for line, rows in row_detection.last_budgets(family):
            cells = [row_detection.row_cells(row, 60) for row in rows]
            listed = _table(row_detection.ROW_HEADINGS, _texts(cells))
            title = f"{row_detection.titled(line)}: {len(rows)} rows"
            parts.append(f"<details><summary>{_text(title)}</summary>{listed}</details>")
    note = f'<p class="note">{_text(row_detection.NOTE)}</p>'
    return _section("Rows still detected", note, *parts) if parts else ""


def _poisons(run: Run) -> str:
    """What each attack says of its poison: residuals, bounds, what it would do to an exact head."""
    told = []
    for stage in run.plan.stages.values():
        record = run.store.record(stage.key) if stage.kind == "craft" else None
        if record is None or record.na is not None:
            continue
        try:
            content = bounded_json.parse(run.store.open_verified(stage.key, "poison.json"))
            schema.POISON(content)
        except (Damaged, ValueError):
            continue
        found = content["facts"]
        names = class_names(run.plan.stages, stage.key) if CLASS_FACTS & found.keys() else ()
        facts = ", ".join(_fact(name, value, names) for name, value in found.items())
        if facts:
            title = stage.title.removeprefix("craft ")
            told.append([_text(title), f"{record.seconds:.1f}", f"{record.tee:.3g}", facts])
    if not told:
        return ""
    headings = [("poison", False), ("seconds", True), ("TEE", True), ("facts", False)]
    page = _table(headings, told)
    return _section("Poison", f"<details><summary>All {len(told)}</summary>{page}</details>")


def _fact(name: str, value: object, names: Sequence[str]) -> str:
    """As "target 1 (dog)", where it is a class."""
    told = f"{_text(name.replace('_', ' '))} {_measured(value)}"
    place = int(value) if isinstance(value, int | float) and value == value // 1 else -1
    if name in CLASS_FACTS and 0 <= place < len(names):
        told += f" ({_text(names[place])})"
    return told


def _attacks(run: Run) -> str:
    """What each attack had to know, and what its poison cost: the paper's appendix, for this run."""
    costs = attack_costs(run)
    if not costs:
        return ""
    knows = list(costs[0].knows.told())
    known = _table(
        [("attack", False), *((heading, False) for heading in knows)],
        ([_text(c.attack), *(_text(text) for text in c.knows.told().values())] for c in costs),
    )
    headings = ("poisons", "TEE each", "seconds each", "surrogates", "their TEE, a poison's share",
                "their seconds")  # fmt: skip
    spent = _table(
        [("attack", False), *((heading, True) for heading in headings)],
        (
            [
                _text(c.attack),
                f"{c.finished} of {c.poisons}",
                *map(_measured, (c.tee, c.seconds, c.surrogates)),
                *map(_measured, (c.surrogate_tee, c.surrogate_seconds)),
            ]
            for c in costs
        ),
    )
    note = "What the attacker must know or control, and what making one poison took."
    wrapped = known.replace('<div class="scroll">', '<div class="scroll known">')
    return _section("The attacks", f'<p class="note">{note}</p>', wrapped, spent)


MEASURED = ("setting", "attack", "method", "variant", "budget", "audit", "metric", "n", "mean",
            "lo", "hi", "gap", "gap_lo", "gap_hi", "values")  # fmt: skip


def _measurements(rows: Sequence[dict[str, Any]]) -> str:
    told = [n for n in MEASURED if any(row[n] not in (None, "", []) for row in rows)]
    numbers = {"budget", "n", "mean", "lo", "hi", "gap", "gap_lo", "gap_hi"}
    table = _table(
        [(name.replace("_", " "), name in numbers) for name in told],
        ([_measured(_shown(row, name)) for name in told] for row in rows),
    )
    return f"<details><summary>All {len(rows)} of them, seed by seed</summary>{table}</details>"


def _shown(row: dict[str, Any], name: str) -> object:
    return shown_metric(row) if name == "metric" else row[name]


def _measured(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_measured(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _explanations(lines: Sequence[Line], audits: Audits) -> str:
    words = dict.fromkeys(page for line in lines for page in line.pages)
    words |= dict.fromkeys(("gap", "recovery", "tee"))
    words |= dict.fromkeys(f"{line.audit}.{line.metric}" for line in lines)
    pages = []
    for word in (*words, "detected", "found again"):
        try:
            pages.append(_pre(explain(word, audits).strip()))
        except BadInput:  # an audit that is no longer installed
            continue
    return "\n".join(pages)


def _preset(run: Run) -> str:
    return asked_discreetly(run)


def _environment(run: Run) -> str:
    """What the stages say they ran on; several machines may have computed one run."""
    found: dict[str, dict[str, None]] = {"host": {}}
    for key in run.plan.stages:
        record = run.store.record(key)
        if record is None:
            continue
        found["host"][record.host] = None
        for name, value in record.env.items():
            found.setdefault(name, {})[str(value)] = None
    facts = {name: ", ".join(values) for name, values in sorted(found.items())}
    facts["stages"] = str(len(run.plan.stages))
    facts["device asked for"] = str(run.facts.get("device"))
    return _table(
        [("what", False), ("found", False)], ([_text(k), _text(v)] for k, v in facts.items())
    )
