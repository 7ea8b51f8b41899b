"""Of one line of the comparison, the poisoned rows that are still detected."""

from __future__ import annotations

from typing import NamedTuple

from textual.app import ComposeResult
from textual.containers import Vertical

from console.row_detection import ROW_HEADINGS, line_of, row_cells, sentence
from console.widgets import Column, Row
from console.widgets.lists import Choices
from console.widgets.words import Words
from engine.jobs.runs import Run
from engine.results.detected_rows import NO_SCORES
from engine.results.tables import Line
from engine.spec.errors import BadInput

WIDTHS = (8, 15, 15, 6, 7, 6, 6)  # of ROW_HEADINGS
SEEDS = 20  # columns of a list of seeds, where there is room


class RowsTold(NamedTuple):
    """What is said of the rows, and the cells of those detected."""

    text: str
    cells: list[list[str]]


class RowList(Vertical):
    """A few sentences, and a table of the rows."""

    DEFAULT_CSS = """
    RowList { height: 1fr; }
    RowList Words { height: auto; max-height: 6; margin-bottom: 1; }
    """

    def compose(self) -> ComposeResult:
        yield Words("reading scores …", id="row-words")
        yield Choices([], id="row-table")

    def on_mount(self) -> None:
        table = self.query_one("#row-table", Choices)
        table.set_columns(
            [
                Column(str(n), name, SEEDS if name.endswith("in") else width, width,
                       "right" if number else "left", 9 - n)
                for n, ((name, number), width) in enumerate(zip(ROW_HEADINGS, WIDTHS, strict=True))
            ]
        )  # fmt: skip

    @staticmethod
    def read(found: list[Run], line: Line) -> RowsTold:
        """From the store; slow, for a thread."""
        try:
            told = line_of(found, line)
        except BadInput as error:
            return RowsTold(str(error), [])
        if told is None:
            return RowsTold(f"n/a: {NO_SCORES}.", [])
        rows = [] if told.detection is None else told.detection.detected_rows()
        return RowsTold(sentence(told), [row_cells(row, SEEDS) for row in rows])

    def show(self, told: RowsTold) -> None:
        self.query_one("#row-words", Words).update(told.text)
        self.query_one("#row-table", Choices).update(
            Row(str(number), {str(n): cell for n, cell in enumerate(cells)})
            for number, cells in enumerate(told.cells)
        )

    def clear(self) -> None:
        self.show(RowsTold("reading scores …", []))
