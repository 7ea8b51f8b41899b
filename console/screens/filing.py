"""The New screen's ways in and out: start from a preset or a run, diff, save, launch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from console.appraisal import Appraisal, told
from console.compose import HERE, Draft, Problem
from console.launching import begin
from console.saving import command_word, write_preset
from console.screens.choose import Ask, Choose, Option, Page, check_new_file, free_path
from engine.jobs.home import Home
from engine.spec.errors import BadInput
from engine.spec.outputs import ANOTHER, check_output
from engine.spec.places import expanded
from engine.spec.presets import read_toml, shipped, validate

if TYPE_CHECKING:
    from console.screens.base import ConsoleScreen as Base
else:
    Base = object

SINGULAR = {"attacks": "attack", "methods": "method", "audits": "audit"}


class Filing(Base):
    """Mixed into the screen, which holds the draft."""

    draft: Draft
    problems: list[Problem]
    appraisal: Appraisal | None
    _home: Home

    def start(self, source: str) -> None:
        raise NotImplementedError

    def _show_state(self, waiting: str = "") -> None:
        raise NotImplementedError

    def action_start_from(self) -> None:
        options = [
            Option(name, name, _preset_page(path), note="preset")
            for name, path in shipped().items()
        ]
        snapshot = self.chelate.snapshot
        options += [
            Option(row.id, row.id, f"{row.title}\n\nstate  {row.state}", note="run")
            for row in snapshot.runs
            if row.state != "unreadable"
        ]

        def take(wanted: list[str] | None) -> None:
            if wanted:
                self.start(wanted[0])

        self.app.push_screen(Choose("Start from", options), take)

    def action_diff(self) -> None:
        lines = self.draft.diff() or ["Nothing differs from where it started."]
        self.app.push_screen(Page(f"Against {self.draft.origin}", "\n".join(lines)))

    def action_save(self) -> None:
        if self.problems:
            self.say(f"Not valid yet: {self.problems[0].text}", "warning")
            return

        def check(text: str) -> str:
            path = check_new_file(text, lambda path: check_output(path, otherwise=ANOTHER))
            return "" if path.suffix == ".toml" else "a preset's name ends in .toml"

        def take(text: str | None) -> None:
            if text:
                self._save(expanded(text))

        start = free_path(Path.cwd(), self.draft.name, "toml")
        self.app.push_screen(Ask("Save as preset", str(start), check), take)

    def _save(self, path: Path) -> None:
        try:
            write_preset(validate(self.draft.raw, HERE), path, otherwise=ANOTHER)
        except BadInput as error:
            self.say(str(error), "error")
            return
        self.draft.name = path.stem
        self._show_state()
        near = os.path.relpath(path)
        named = path if near.startswith("..") else Path(near)
        self.say(f"Saved. `chelate run {command_word(named)}` runs it.")

    def action_launch(self) -> None:
        if self.problems or self.appraisal is None:
            problem = self.problems[0].text if self.problems else "still planning"
            self.say(f"Cannot launch: {problem}", "warning")
            return
        found = self.appraisal
        text = "\n".join([told(found), "", *found.remarks, "", *self.draft.diff()])

        def take(yes: bool | None) -> None:
            if yes:
                self._launch(found)

        self.app.push_screen(Page(f"Launch {self.draft.name}?", text, "launch"), take)

    @work(thread=True, group="launch", exit_on_error=False)
    def _launch(self, found: Appraisal) -> None:
        origin = self.draft.origin + (" (edited)" if self.draft.changed else "")
        try:
            run, _ = begin(self._home, found.planned, self.draft.name, origin)
        except (BadInput, OSError) as error:
            self.app.call_from_thread(self.say, str(error), "error")
            return
        self.app.call_from_thread(self.chelate.watch_run, run.id)


def _preset_page(path: Path) -> str:
    try:
        raw = read_toml(path)
    except BadInput as error:
        return str(error)
    names = {
        field: ", ".join(str(entry.get("name")) for entry in raw.get(field, []))
        for field in SINGULAR
    }
    told_ = "\n".join(f"{field:8} {text}" for field, text in names.items())
    return f"{raw.get('title', '')}\n\n{raw.get('description', '')}\n{told_}"
