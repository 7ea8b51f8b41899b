"""An experiment under composition: plain data, edited key by key, checked by the preset's own rules.

The data are those of a preset's TOML, valid or not; nothing here knows a screen.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from console.fields import Field, fields_of, margin_field
from console.saving import raw_of
from engine.jobs.home import Home
from engine.spec import toml
from engine.spec.component import Audit, Listed
from engine.spec.errors import BadInput
from engine.spec.experiment import COMPONENT_FIELDS, Compute, Experiment, Forget, Train, Tune
from engine.spec.margins import judged
from engine.spec.presets import validate
from engine.spec.registry import registered

HERE = "preset"  # where the messages say an error is; cut off again for the screen
TABLES: dict[str, type[BaseModel]] = {
    "train": Train, "forget": Forget, "compute": Compute, "tune": Tune,
}  # fmt: skip
OWN = ("title", "description", "seeds", "budgets", "validation", "grid")  # keys of no table
UNDO = 200  # steps
PLACE = re.compile(r"([a-z_]+)(?:\[(\d+)\])?(?:\.(?:grid\.)?([\w-]+))?")
MARGIN = re.compile(r"verdicts\.([\w-]+(?:\.[\w-]+)?)")  # of an audit, or of its metric


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the preset: "general" (the keys of no table), "train", "data", or an entry of
    a list, as ("attacks", 1). `many`: others may stand beside it."""

    field: str
    index: int | None = None
    name: str = ""
    many: bool = False

    @property
    def title(self) -> str:
        return self.name or self.field

    def holds(self, problem: Problem) -> bool:
        if self.field == "general":
            return problem.field in OWN or not problem.field
        return problem.field == self.field and problem.index in (None, self.index)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as the form shows it; `text` is empty where the default holds."""

    field: Field
    text: str
    problem: str = ""

    @property
    def shown(self) -> str:
        return self.text or self.field.default


@dataclass(slots=True)
class Draft:
    """Edits go through `write`, `take`, `drop` and `twin`; each can be undone."""

    raw: dict[str, Any]
    name: str = "experiment"
    origin: str = ""  # where it came from, for people
    before: dict[str, Any] = field(default_factory=dict)  # the origin's data
    _past: list[dict[str, Any]] = field(default_factory=list)
    _future: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def start(source: str, home: Home) -> Draft:
        """From a preset (name or file) or a run. Raises BadInput if it cannot be read.

        What cannot be shown as a form (a list where a table belongs) is refused too.
        """
        raw, where = raw_of(source, home)
        for key, (_, many) in COMPONENT_FIELDS.items():
            _check_shape(raw, key, many, where)
        for key in (*TABLES, "verdicts"):
            _check_shape(raw, key, False, where)
        path = Path(where)
        of_run = path.parent.parent == home.runs
        name = re.sub(r"-[0-9a-f]{10}$", "", path.parent.name) if of_run else path.stem
        return Draft(raw, name, where, copy.deepcopy(raw))

    # --- looking ---------------------------------------------------------------------------------

    def sections(self) -> list[Section]:
        """Every table there is, in the order of a preset."""
        found = [Section("general")]
        for key, (_, many) in COMPONENT_FIELDS.items():
            entries = self.raw.get(key, [] if many else {})
            for number, entry in enumerate(entries if many else [entries]):
                name = str(entry.get("name", ""))
                found.append(Section(key, number if many else None, name, many))
            if key == "model":
                found.append(Section("train"))
        # Without its table nothing is tuned: there are no defaults to show.
        tuned = [Section("tune")] if "tune" in self.raw else []
        verdicts = [Section("verdicts")] if "verdicts" in self.raw or self._margins() else []
        return [*found, Section("forget"), *tuned, *verdicts, Section("compute")]

    def table(self, section: Section) -> dict[str, Any]:
        """The section's own data; {} where the preset says nothing of it."""
        if section.field == "general":
            return self.raw
        place = self.raw.get(section.field, {})
        if section.field == "verdicts":
            return _flat(place)
        found = place[section.index] if section.index is not None else place
        return found if isinstance(found, dict) else {}

    def entries(self, section: Section, problems: Sequence[Problem] = ()) -> list[Entry]:
        """The section's form. Keys that do not exist are shown too, with what is wrong."""
        told: dict[str, str] = {}
        for problem in problems:
            if section.field == "general" and problem.field in OWN:
                told.setdefault(problem.field, problem.text)
            elif section.holds(problem):
                told.setdefault(problem.key, problem.text)
        if section.field == "verdicts":  # what is said of an audit is said of all its keys
            for key in self.table(section):
                told.setdefault(key, told.get(key.partition(".")[0], ""))
        table = self.table(section)
        grid = table.get("grid", {}) if section.many else {}
        grid = grid if isinstance(grid, dict) else {}
        fields = self.fields(section)
        known = {one.key for one in fields}
        odd = [key for key in table if key not in known and key not in ("name", "grid")]
        if section.field != "general":
            fields += [Field(key, "text", "unknown key: empty it") for key in odd]
        return [
            Entry(
                one,
                one.written(grid[one.key] if one.key in grid else table.get(one.key)),
                told.get(one.key, ""),
            )
            for one in fields
        ]

    def fields(self, section: Section) -> list[Field]:
        if section.field == "general":
            others = tuple(key for key in Experiment.model_fields if key not in OWN)
            return fields_of(Experiment, without=others)
        if section.field in TABLES:
            return fields_of(TABLES[section.field])
        if section.field == "verdicts":
            return self._margins()
        cls = registered(COMPONENT_FIELDS[section.field][0]).get(section.name)
        if cls is None:
            return []
        listed = issubclass(cls, Listed)
        return fields_of(cls, grid=listed, without=("grid",) if listed else ())

    def _margins(self) -> list[Field]:
        """A key for each listed audit that has a margin."""
        known = registered("audit")
        names = [str(entry.get("name", "")) for entry in self.raw.get("audits", [])]
        audits = {name: cls for name in names if issubclass(cls := known.get(name, Audit), Audit)}
        return [
            margin_field(name, *primary)
            for name, cls in audits.items()
            if (primary := judged(cls)) is not None
        ]

    # --- editing ---------------------------------------------------------------------------------

    def write(self, section: Section, one: Field, text: str) -> None:
        """Set a key from what was typed; nothing typed restores the default."""
        self._remember()
        value = one.read(text) if text.strip() else None
        if section.field == "verdicts":
            self._write_margin(one.key, value)
            return
        table = self._own_table(section)
        alternatives = section.many and one.is_grid(value)
        grid = table.get("grid", {}) if section.many else {}
        grid = grid if isinstance(grid, dict) else {}
        if alternatives:
            table.pop(one.key, None)
            table["grid"] = grid | {one.key: value}
            return
        if grid.pop(one.key, None) is not None and not grid:
            del table["grid"]
        if value is None:
            table.pop(one.key, None)
        else:
            table[one.key] = value
        if section.field in TABLES and not table and section.field != "tune":
            del self.raw[section.field]

    def _write_margin(self, key: str, value: Any) -> None:
        """Set `audit.metric`, or with None empty it and the tables that hold nothing then."""
        audit, _, metric = key.partition(".")
        tables = self.raw.setdefault("verdicts", {})
        if not isinstance(tables.get(audit), dict):
            tables[audit] = {}
        tables[audit].pop(metric, None)
        if value is not None:
            tables[audit][metric] = value
        if not tables[audit]:
            del tables[audit]
        if not tables:
            del self.raw["verdicts"]

    def _own_table(self, section: Section) -> dict[str, Any]:
        if section.field in TABLES and not isinstance(self.raw.get(section.field), dict):
            self.raw[section.field] = {}
        return self.table(section)

    def take(self, key: str, name: str) -> Section:
        """Choose the data or the model called `name`, or list one more of the others."""
        self._remember()
        many = COMPONENT_FIELDS[key][1]
        if not many:
            self.raw[key] = {"name": name}
            return Section(key, None, name)
        entries = self.raw.setdefault(key, [])
        entries.append({"name": name})
        self._tell_apart(entries)
        return Section(key, len(entries) - 1, name, True)

    def twin(self, section: Section) -> Section:
        """One more like this, below it."""
        self._remember()
        entries = self.raw[section.field]
        at = (section.index or 0) + 1
        entries.insert(at, copy.deepcopy(self.table(section)))
        self._tell_apart(entries, at)
        return Section(section.field, at, section.name, True)

    def _tell_apart(self, entries: list[dict[str, Any]], at: int = -1) -> None:
        """Give a label to what would otherwise be listed twice."""
        new = entries[at]
        others = [entry for entry in entries if entry is not new]
        same = [(e.get("name"), e.get("label"), e.get("grid")) for e in others]
        number, label = 2, new.get("label") or ""
        while (new.get("name"), new.get("label"), new.get("grid")) in same:
            new["label"] = f"{label} {number}".strip()
            number += 1

    def drop(self, section: Section) -> None:
        """Take an entry off its list."""
        if section.index is not None:
            self._remember()
            del self.raw[section.field][section.index]

    def move(self, section: Section, by: int) -> Section:
        """Put an entry higher or lower on its list."""
        entries = self.raw[section.field]
        at = section.index or 0
        to = min(max(at + by, 0), len(entries) - 1)
        if to != at:
            self._remember()
            entries.insert(to, entries.pop(at))
        return Section(section.field, to, section.name, True)

    def _remember(self) -> None:
        self._past = [*self._past[1 - UNDO :], copy.deepcopy(self.raw)]
        self._future = []

    def undo(self) -> bool:
        """Whether there was anything to undo."""
        if self._past:
            self._future.append(self.raw)
            self.raw = self._past.pop()
            return True
        return False

    def redo(self) -> bool:
        if self._future:
            self._past.append(self.raw)
            self.raw = self._future.pop()
            return True
        return False

    # --- checking --------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """What the preset's own rules say of it, in the command line's words; [] if it is valid."""
        try:
            validate(self.raw, HERE)
        except BadInput as error:
            return problems_of(error)
        return []

    def toml(self) -> str:
        """The data as TOML, valid or not."""
        return toml.dumps(self.raw)

    def diff(self) -> list[str]:
        """Unified diff of the origin's TOML (comments aside) and this; [] if nothing changed."""
        old, new = toml.dumps(self.before).splitlines(), self.toml().splitlines()
        return list(difflib.unified_diff(old, new, self.origin, "this experiment", lineterm=""))

    @property
    def changed(self) -> bool:
        return self.raw != self.before


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    """[verdicts] with one key for each margin; what is no table of an audit's stays as it is."""
    found: dict[str, Any] = {}
    for audit, table in tables.items():
        if isinstance(table, dict):
            found |= {f"{audit}.{metric}": value for metric, value in table.items()}
        else:
            found[audit] = table
    return found


def _check_shape(raw: dict[str, Any], key: str, many: bool, where: str) -> None:
    value = raw.get(key, [] if many else {})
    entries = value if many and isinstance(value, list) else [value]
    if isinstance(value, list) != many or not all(isinstance(entry, dict) for entry in entries):
        validate(raw, where)  # says what is wrong
        raise BadInput(f"{where}: {key}: must be {'a list of tables' if many else 'one table'}.")


# --- problems ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint: `field` and `index` name the section, `key` the key, as far as it is told."""

    text: str
    field: str = ""
    index: int | None = None
    key: str = ""


def problems_of(error: BadInput) -> list[Problem]:
    """The complaints of one message, each with the place it names."""
    found = []
    for line in str(error).splitlines():
        text = line.removeprefix(f"{HERE}: ")
        place = PLACE.match(text)
        if place is None or not _is_field(place[1]):
            found.append(Problem(text))
            continue
        number = int(place[2]) if place[2] else None
        margin = MARGIN.match(text)
        # Once planned, an entry is named by its component: attacks.gaussian.share.
        found.append(Problem(text, place[1], number, margin[1] if margin else place[3] or ""))
    return found


def _is_field(word: str) -> bool:
    return word in Experiment.model_fields
