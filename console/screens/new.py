"""New: compose an experiment key by key, see what it would cost, save it, launch it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.worker import get_current_worker

from console.appraisal import Appraisal, Rates, appraise, told
from console.choosing import choices
from console.compose import HERE, Draft, Problem, Section, problems_of
from console.expecting import LikeRuns
from console.screens.base import ConsoleScreen
from console.screens.cards import card_page
from console.screens.choose import Choose, Option
from console.screens.filing import SINGULAR, Filing
from console.screens.form import Form
from console.viewmodel import Snapshot
from console.widgets import Cell, Column, Row
from console.widgets.lists import Choices
from console.widgets.table import Table
from console.widgets.words import Words
from engine.jobs.home import Home
from engine.jobs.store import Store
from engine.spec.errors import BadInput
from engine.spec.experiment import COMPONENT_FIELDS

PAUSE = 0.25  # seconds without a key before the experiment is planned anew
FIRST = "quickstart"


class NewScreen(Filing, ConsoleScreen):
    MODE: ClassVar[str] = "new"
    HELP: ClassVar[str] = (
        "An experiment in the making: its parts on the left, the keys of the one under the cursor "
        "on the right. Enter edits; what is typed is checked at once, in the words of the command "
        "line. Several values with commas in a key of an attack, method or audit make a grid: one "
        "variant for each. An empty value means the default. Below: the number of stages, what the "
        "store already has, the compute to do in TEE (one epoch of the training, forward and "
        "backward), the time it would take by what similar stages took, and what verdicts to expect "
        "of it, where that is hardest (`chelate explain power`)."
    )
    CSS_PATH = "new.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft({})
        self.problems: list[Problem] = []
        self.appraisal: Appraisal | None = None
        self.rates: Rates | None = None
        self.like: LikeRuns | None = None
        self._home = Home(Path())
        self._started = False
        self._section = Section("general")
        self._sections: dict[str, Section] = {}
        self._timer: Timer | None = None
        self._trial: dict[str, Any] = {}  # the data with what is being typed

    def body(self) -> ComposeResult:
        with Horizontal(id="new-sides"):
            yield Choices(
                [Column("kind", "part", 9, 7, priority=9), Column("name", "", 14, 8, grow=1)],
                id="new-parts",
            )
            yield Form(id="new-form")
        yield Words(id="new-state")

    @property
    def parts(self) -> Choices:
        return self.query_one("#new-parts", Choices)

    @property
    def form(self) -> Form:
        return self.query_one(Form)

    def on_mount(self) -> None:
        self.set_focus(self.parts)
        if self._started:
            self.renew()

    def publish(self, snapshot: Snapshot) -> None:
        self._home = Home(snapshot.home)
        if not self._started and self.is_mounted:
            self._started = True
            self.start(FIRST)

    def start(self, source: str) -> None:
        """Begin anew from a preset or a run."""
        try:
            self.draft = Draft.start(source, self._home)
        except BadInput as error:
            self.say(str(error), "error")
            return
        self._section = Section("general")
        self.renew()

    # --- painting --------------------------------------------------------------------------------

    def renew(self) -> None:
        """After any edit: check, show, and have it planned."""
        self.problems = self.draft.check()
        self._show_parts()
        self._show_keys()
        self._show_state("…")
        self._plan_soon()

    def _show_parts(self) -> None:
        rows, self._sections = [], {}
        last = ""
        for section in self.draft.sections():
            if last in SINGULAR and section.field != last:
                rows.append(_adder(last))
            last = section.field
            key = _key(section)
            self._sections[key] = section
            wrong = any(section.holds(problem) for problem in self.problems)
            kind = SINGULAR.get(section.field, section.field)
            name = section.name
            table = self.draft.table(section)
            if section.many and (table.get("label") or table.get("grid")):
                name += f" {table.get('label') or '*'}"
            style = "bad" if wrong else ""
            rows.append(
                Row(key, {"kind": Cell(kind, style or "muted"),
                          "name": Cell(f"✗ {name}" if wrong else name, style)})
            )  # fmt: skip
        for field in SINGULAR:
            if not any(section.field == field for section in self._sections.values()):
                rows.append(_adder(field))
        self.parts.update(rows)
        if _key(self._section) in self._sections:
            self.parts.move_to(_key(self._section))

    def _show_keys(self) -> None:
        section = self._section
        about = [f"✗ {p.text}" for p in self.problems if section.holds(p)]
        if section.field in COMPONENT_FIELDS:
            about.append(card_page(COMPONENT_FIELDS[section.field][0], section.name, short=True))
        entries = self.draft.entries(section, self.problems)
        self.form.show(_key(section), entries, "\n".join(about))

    def _show_state(self, waiting: str = "") -> None:
        name = f"{self.draft.name}{' (edited)' if self.draft.changed else ''}"
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            text = f"{name}\n✗ {self.problems[0].text}{more}"
        elif self.appraisal is None or waiting:
            text = f"{name}\nplanning {waiting}"
        else:
            remarks = f"  ! {'; '.join(self.appraisal.remarks)}" if self.appraisal.remarks else ""
            text = f"{name}: {self.appraisal.cells} measurements{remarks}\n{_told(self.appraisal)}"
        self._say_state(text, bool(self.problems))

    def _say_state(self, text: str, wrong: bool) -> None:
        state = self.query_one("#new-state", Words)
        state.update(text)
        state.set_class(wrong, "-wrong")

    # --- planning, off the UI thread -------------------------------------------------------------

    def _plan_soon(self) -> None:
        self.appraisal = None
        if self._timer is not None:
            self._timer.stop()
        if not self.problems:
            self._timer = self.set_timer(PAUSE, self._plan)

    def _plan(self) -> None:
        self._appraise(self.draft.raw, self.draft.name, self._home)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _appraise(self, raw: dict[str, Any], name: str, home: Home) -> None:
        problems: list[Problem] = []
        found = None
        try:
            if self.rates is None:
                self.rates = Rates.read(Store(home.store))
            if self.like is None:
                self.like = LikeRuns(home)
            found = appraise(raw, name, home, self.rates, HERE, self.like)
        except BadInput as error:
            problems = problems_of(error)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._appraised, raw, found, problems)

    def _appraised(
        self, raw: dict[str, Any], found: Appraisal | None, problems: list[Problem]
    ) -> None:
        if self.form.editing is not None:
            if raw == self._trial:  # else something else has been typed since
                self._show_trial(self.form.editing.field.key, found, problems)
            return
        if raw != self.draft.raw:
            return
        self.appraisal, self.problems = found, problems
        if problems:
            self._show_parts()
            self._show_keys()
        self._show_state()

    # --- moving ----------------------------------------------------------------------------------

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        if event.table is self.parts and event.key in self._sections:
            self._section = self._sections[event.key]
            self._show_keys()

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        self.action_edit()

    def action_other_side(self) -> None:
        if self.form.editing is not None:
            self.form.leave()
            self.renew()
        elif self.parts.has_focus and self.form.entries:
            self.set_focus(self.form.keys)
        else:
            self.set_focus(self.parts)

    # --- editing ---------------------------------------------------------------------------------

    def action_edit(self) -> None:
        if not self.parts.has_focus:
            self.form.edit()
        elif adder := self._adder():
            self._choose(adder)
        elif self.form.entries:
            self.set_focus(self.form.keys)

    def on_form_typed(self, event: Form.Typed) -> None:
        """Try what is typed: on a copy, with the preset's own check."""
        trial = Draft(copy.deepcopy(self.draft.raw), self.draft.name)
        trial.write(self._section, event.entry.field, event.text)
        self._trial = trial.raw
        problems = trial.check()
        self._show_trial(event.entry.field.key, None, problems)
        if self._timer is not None:
            self._timer.stop()
        if not problems:
            self._timer = self.set_timer(
                PAUSE, lambda: self._appraise(trial.raw, self.draft.name, self._home)
            )

    def _show_trial(self, key: str, found: Appraisal | None, problems: list[Problem]) -> None:
        said = f"✗ {problems[0].text}" if problems else _told(found) if found else "planning …"
        self._say_state(f"{key}: enter accepts, esc leaves it as it was\n{said}", bool(problems))

    def on_form_accepted(self, event: Form.Accepted) -> None:
        event.stop()
        if event.text.strip() != event.entry.text:
            self.draft.write(self._section, event.entry.field, event.text)
        self.renew()

    def action_cycle(self) -> None:
        entry = self.form.entry
        if self.parts.has_focus or entry is None or not entry.field.choices:
            self.action_edit()
            return
        words = entry.field.choices
        now = words.index(entry.shown) if entry.shown in words else -1
        self.draft.write(self._section, entry.field, words[(now + 1) % len(words)])
        self.renew()

    def action_reset_key(self) -> None:
        entry = self.form.entry
        if not self.parts.has_focus and entry is not None and entry.text:
            self.draft.write(self._section, entry.field, "")
            self.renew()

    def action_take_back(self) -> None:
        self._after_undo(self.draft.undo())

    def action_redo(self) -> None:
        self._after_undo(self.draft.redo())

    def _after_undo(self, changed: bool) -> None:
        if changed:
            known = {_key(section): section for section in self.draft.sections()}
            self._section = known.get(_key(self._section), Section("general"))
            self.renew()
        else:
            self.say("Nothing more to undo or redo.")

    # --- parts -----------------------------------------------------------------------------------

    def _adder(self) -> str:
        """The field of the "+ …" line the cursor is on, if it is on one."""
        key = self.parts.cursor_key or ""
        return key.removeprefix("+") if key.startswith("+") else ""

    def action_add(self) -> None:
        field = self._adder() or self._section.field
        if field in COMPONENT_FIELDS:
            self._choose(field)
        else:
            self._choose("methods")

    def _choose(self, field: str) -> None:
        """The registry's list with cards; what does not fit is grey and says why."""
        kind, many = COMPONENT_FIELDS[field]
        options = [
            Option(
                choice.name,
                choice.name,
                card_page(kind, choice.name),
                choice.reason,
                f"×{choice.taken}" if choice.taken else "",
            )
            for choice in choices(self.draft.raw, field)
        ]
        now = [] if many else [str(self.draft.raw.get(field, {}).get("name", ""))]

        def take(wanted: list[str] | None) -> None:
            if wanted and wanted != now:
                self._section = self.draft.take(field, wanted[0])
                self.renew()

        title = f"Add {SINGULAR[field]}" if many else f"Choose {field}"
        self.app.push_screen(Choose(title, options, now), take)

    def action_drop(self) -> None:
        section = self._section
        if section.index is None or self._adder():
            self.say("Only attacks, methods and audits can be dropped; a chooses another.")
            return
        self.draft.drop(section)
        left = [s for s in self.draft.sections() if s.field == section.field]
        self._section = left[min(section.index, len(left) - 1)] if left else Section("general")
        self.renew()

    def action_twin(self) -> None:
        if self._section.index is not None and not self._adder():
            self._section = self.draft.twin(self._section)
            self.renew()

    def action_shift(self, by: int) -> None:
        if self._section.index is not None and not self._adder():
            self._section = self.draft.move(self._section, by)
            self.renew()

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return copy.deepcopy(
            {"raw": self.draft.raw, "name": self.draft.name, "origin": self.draft.origin,
             "before": self.draft.before}
        )  # fmt: skip

    def restore(self, told: dict[str, Any]) -> None:
        raw, before = told.get("raw"), told.get("before")
        if isinstance(raw, dict) and raw and isinstance(before, dict):
            draft = Draft(raw, str(told.get("name")), str(told.get("origin")), before)
            try:
                draft.sections()
            except (AttributeError, TypeError):  # not a preset's shape
                return
            self.draft, self._started = draft, True
            if self.is_mounted:
                self.renew()


def _told(found: Appraisal) -> str:
    """A line of what it costs, one of what verdicts to expect."""
    return f"{told(found)}\n{found.power}".rstrip()


def _key(section: Section) -> str:
    return section.field if section.index is None else f"{section.field}.{section.index}"


def _adder(field: str) -> Row:
    return Row(f"+{field}", {"kind": "", "name": Cell(f"+ {SINGULAR[field]}", "accent")})
