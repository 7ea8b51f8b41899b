"""The data sets of runs and plans, as they can be told: by the data stage where it is done, until
then by what planning knew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.jobs import bounded_json
from engine.jobs.store import Damaged, Store
from engine.spec.data_line import elided, line, plain, short, sound
from engine.spec.data_report import DataReport

if TYPE_CHECKING:
    from engine.jobs.runs import Run
    from engine.spec.planned import Plan, Stage

# What a data stage leaves; tokens only of texts, a sample of texts and tables.
FACTS, TOKENS, SAMPLE = "data.json", "tokens.json", "sample.json"
NAMED, NAME = 3, 60  # settings that a line names, characters of one
LINES = 8  # of a grid over data


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set: its stage, the settings that use it, its report.

    `read` says whether the report is that of the data stage, which looked at every row.
    """

    key: str
    settings: tuple[str, ...]
    report: DataReport
    read: bool
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"run": self.run} if self.run else {}
        return told | {
            "stage": self.key,
            "settings": list(self.settings),
            "read": self.read,
            "line": line(self.report),
            "report": self.report,
        }


def data_sets_of(runs: Sequence[Run]) -> list[DataSet]:
    """All data sets of some runs, in the plans' order. Raises BadInput for a plan that cannot be
    read."""
    return [one for run in runs for one in data_sets(run.plan, run.store, run.id)]


def data_sets(plan: Plan, store: Store, run: str = "") -> list[DataSet]:
    """One for each data stage of a plan."""
    found = []
    for stage, settings in _data_stages(plan):
        known = _known(stage, sound(plan.reports.get(stage.key)))
        told = stored(store, stage.key, known)
        found.append(DataSet(stage.key, settings, told or known, told is not None, run))
    return found


def stored(store: Store, key: str, known: DataReport) -> DataReport | None:
    """What the data stage told, over what was `known`; None where the store does not have it."""
    try:
        facts = bounded_json.parse(store.open_verified(key, FACTS))
    except (Damaged, ValueError):
        return None
    if not isinstance(facts, dict):
        return None
    record = store.record(key)
    texts = record is not None and TOKENS in record.files
    own = sound({"classes": facts.get("classes"), "shape": facts.get("shape")})
    # Stages of before tell neither what they are of nor how they were read.
    kind: DataReport = {"kind": _kind(own.get("shape", []), texts)}
    return {**kind, **own, **known, **sound(facts.get("report")), **_sample(store, key)}


def _sample(store: Store, key: str) -> DataReport:
    """The first rows; an excerpt and stages of before do not have them."""
    try:
        return sound(bounded_json.parse(store.open_verified(key, SAMPLE)))
    except (Damaged, ValueError):
        return {}


def lines(found: Sequence[DataSet]) -> list[str]:
    """A line for each data set, what is told alike told once; several say whose they are."""
    owners: dict[str, list[str]] = {}
    several = len({one.run for one in found}) > 1
    reports: dict[str, DataReport] = {}
    for one in found:
        told = line(one.report)
        if told:
            reports.setdefault(told, one.report)
            names = one.settings or ("",)
            words = [" ".join(filter(None, (one.run * several, text))) for text in names]
            owners.setdefault(told, []).extend(filter(None, words))
    if len(reports) < 2:
        return list(reports)
    shown = [line(report, _named(owners[told])) for told, report in reports.items()]
    more = [f"data: and {len(shown) - LINES} more data sets"] if len(shown) > LINES else []
    return shown[:LINES] + more


def both_lines(found: Sequence[DataSet]) -> tuple[tuple[str, str], ...]:
    """(in full, in short) of the data sets that differ."""
    told = {line(one.report): short(one.report) for one in found}
    return tuple((full, brief) for full, brief in told.items() if full)


def _named(words: Sequence[str]) -> str:
    shown = [plain(word, NAME) for word in dict.fromkeys(words)]
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return elided(f"{', '.join(shown[:NAMED])}{more}", NAMED * NAME + 20)


def _data_stages(plan: Plan) -> Iterator[tuple[Stage, tuple[str, ...]]]:
    """Data stages, each with the settings whose measurements read it."""
    settings: dict[str, dict[str, None]] = {
        key: {} for key, stage in plan.stages.items() if stage.kind == "data"
    }
    for cell in plan.cells:
        stage = plan.stages.get(cell.key)
        key = stage.inputs.get("data") if stage is not None else None
        if key in settings and cell.setting:
            settings[key][cell.setting] = None
    for key, names in settings.items():
        yield plan.stages[key], tuple(names)


def _known(stage: Stage, report: DataReport) -> DataReport:
    """Of a run of before at least its classes are known."""
    config = stage.config
    return {**sound({"classes": _listed(config.get("classes"))}), **report}


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _kind(shape: Sequence[int], texts: bool) -> str:
    if texts:
        return "text"
    return "table" if list(shape[1:]) == [1, 1] else "image"
