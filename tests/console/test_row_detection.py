"""Rows still detected, as people see them: the terminal's table, the report, the Details screen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from host import Host, until
from safetensors.numpy import save_file
from staged import POISONED, Staged, poisoned, staged
from textual.widgets import Static

from console.reporting import report
from console.row_detection import lines_of, print_rows, to_markdown
from console.screens.compare import CompareScreen
from console.screens.row_list import RowList
from console.widgets.lists import Choices
from engine.jobs.row_scores import PLACES_LOST
from engine.jobs.runs import Run
from engine.results.detected_rows import NO_SCORES, DetectionLine

PLANTED = (21, 25)  # rows that seeds 0 and 1 both poison


def plant(run: Run, method: str, *, lost: bool = False, sign: int = 1) -> None:
    """Scores of `method` at every budget and seed: null, but for PLANTED where poisoned, with ranks
    beside them. `lost`: as an old version stored them after leaving out a row."""
    for cell in run.plan.cells:
        if (cell.attack, cell.audit, cell.method) != ("gaussian", "gaussian", method):
            continue
        rows = poisoned(cell.seed)
        scores = np.linspace(-2, 2, POISONED)
        ranks = np.full(POISONED, 50)
        for place, row in enumerate(rows):
            if row in PLANTED:
                scores[place], ranks[place] = sign * (7.0 + cell.seed), 99
        told = (run.store.path(cell.key) / "measurements.json").read_bytes()
        stage = run.plan.stages[cell.key]
        run.store.discard(cell.key, "planted")
        with run.store.begin(cell.key, 1) as work:
            (work.path / "measurements.json").write_bytes(told)
            kept = scores[: -1 if lost else None]
            save_file({"scores": kept, "ranks": ranks}, work.path / "scores.safetensors")
            if not lost:
                named = {"rows": rows, "scored": None}
                (work.path / "score_rows.json").write_text(json.dumps(named))
            work.commit(kind="audit", title=stage.title, seconds=0.5, tee=0)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    monkeypatch.chdir(tmp_path)
    found = staged(tmp_path)
    plant(found.run, "gd")
    return found


def test_the_table_names_what_was_planted(
    there: Staged, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(lines_of([there.run]))
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.split()[:2] == ["gd", "0.5"])
    assert "4 (3.3 %)" in line, "two rows under two seeds"
    assert "2 of 40" in line, "of 20 that seeds 0 and 1 share, and 20 of seeds 1 and 2"
    listed = text[text.index("gd at budget 0.5") :].splitlines()[2:4]
    assert [int(row.split()[0]) for row in listed] == list(PLANTED)
    assert all("0, 1" in row and "+8.00" in row and row.endswith("0.01") for row in listed)
    assert f"badnets: {NO_SCORES}" in text.replace("\n", " ")


def test_markdown_has_both_attacks(there: Staged) -> None:
    text = to_markdown(lines_of([there.run]))
    assert "**gaussian**" in text and "**badnets**" in text and NO_SCORES in text
    assert "| gd " in text and "4 (3.3 %)" in text


def test_the_other_side_has_its_column_where_there_is_something(
    there: Staged, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_gd() -> list[DetectionLine]:
        return [line for line in lines_of([there.run]) if line.place.method == "gd"]

    print_rows(of_gd())
    assert "below" not in capsys.readouterr().out
    plant(there.run, "gd", sign=-1)
    print_rows(of_gd())
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.split()[:2] == ["gd", "0.5"])
    assert line.split()[2:6] == ["0", "(0.0", "%)", "4"]
    assert "gd 0.25, gd 0.5: rows are detected on the side away from the poison" in text
    assert '<th class="number">below</th>' in report(there.run)


def test_lost_places_are_told(there: Staged, capsys: pytest.CaptureFixture[str]) -> None:
    plant(there.run, "gd", lost=True)
    print_rows(lines_of([there.run]))
    text = " ".join(capsys.readouterr().out.split())
    assert f"gd 0.25, gd 0.5: rows cannot be named: {PLACES_LOST}" in text
    listed = text[text.index("gd at budget 0.5: the rows detected") :]
    assert listed.count(" ? ") == 4, "found, but not named"


def test_the_report_has_a_section(there: Staged) -> None:
    page = report(there.run)
    section = page[page.index("<h2>Rows still detected") :]
    section = section[: section.index("</section>")]
    assert "4 (3.3 %)" in section and "gd at budget 0.5: 2 rows" in section
    assert ">21</td>" in section and NO_SCORES in section
    assert "detected\n========" in page and "found again\n===========" in page


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_details_list_the_rows_of_the_line(there: Staged, size: tuple[int, int]) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=size) as pilot:
            screen = host.shown
            assert isinstance(screen, CompareScreen)
            await until(pilot, lambda: screen.is_mounted and screen.query("#compare-table"), "up")
            host.tick()
            await until(pilot, lambda: screen.table.rows, "results read")

            async def opened(key: str) -> tuple[str, list[str]]:
                screen.table.move_to(next(r.key for r in screen.table.rows if key in r.key))
                await pilot.press("enter")
                words = screen.query_one("#row-words", Static)
                await until(pilot, lambda: "reading" not in str(words.render()), "rows read")
                table = screen.query_one("#row-table", Choices)
                return str(words.render()), [row.cell("0").text for row in table.rows]

            text, rows = await opened("gaussian\tgd\t\t0.5")
            assert "4 of 120 rows detected (3 seeds), false discovery rate 10 %" in text
            assert "confirms 4" in text and "2 of 40" in text
            assert rows == [str(row) for row in PLANTED]
            await pilot.press("tab", "tab", "tab")
            assert screen.details.switch.current == "details-rows"
            table = screen.query_one("#row-table", Choices)
            assert table.has_focus
            await until(pilot, lambda: table.region.height > 4, "laid out")
            assert screen.query_one(RowList).region.bottom <= size[1]
            await pilot.press("escape")
            text, rows = await opened("badnets\tgd\t\t0.5")
            assert text == f"n/a: {NO_SCORES}." and not rows
            await pilot.press("escape")
            text, rows = await opened("gaussian\tretrain")
            assert text.startswith("0 of 120 rows detected") and not rows

    asyncio.run(body())
