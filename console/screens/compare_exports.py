"""What Compare shows, passed on: to the clipboard, or as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import work

from console import exporting
from console.compare_model import Comparison
from console.screens.choose import Ask, Choose, Option, check_new_file, free_path
from console.screens.warned import WarnedScreen
from engine.jobs.runs import Run
from engine.results.tables import to_markdown
from engine.spec.errors import BadInput
from engine.spec.places import expanded


class ExportsScreen(WarnedScreen):
    """`found` and `comparison` are what is shown."""

    found: list[Run]
    comparison: Comparison

    def action_copy_table(self) -> None:
        self._copy(to_markdown(self.comparison.rows), "the table as Markdown")

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.say(f"Copied {what}.")

    def action_export(self) -> None:
        if not self.comparison.rows:
            self.say("Nothing to export yet.", "warning")
            return
        options = [Option(form, told) for form, told in exporting.FORMS.items()]

        def take(wanted: list[str] | None) -> None:
            if wanted:
                self._ask_where(wanted[0])

        self.app.push_screen(Choose("Export", options), take)

    def _ask_where(self, form: str) -> None:
        name = self.found[0].id if len(self.found) == 1 else "comparison"
        start = free_path(Path.cwd(), name, form)

        def check(text: str) -> str:
            check_new_file(text, lambda path: exporting.check(form, path))
            return ""

        def take(text: str | None) -> None:
            if text:
                self._export(form, expanded(text))

        self.app.push_screen(Ask(f"Export {exporting.FORMS[form]} to", str(start), check), take)

    @work(thread=True, group="export", exit_on_error=False)
    def _export(self, form: str, path: Path) -> None:
        told: Callable[..., Any] = self.app.call_from_thread
        try:
            written = exporting.export(form, path, self.found, self.comparison.rows)
        except (BadInput, OSError) as error:
            told(self.say, str(error), "error")
        else:
            told(self.say, f"Wrote {written}")
