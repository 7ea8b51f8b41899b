"""The Compare screen under the fingers: list, details, matrix, columns, exports, copies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from host import Host, until
from staged import Staged, judged_by, staged
from textual.pilot import Pilot
from textual.widgets import Input, Static

from console.compare_model import key_of
from console.comparing import rows_of
from console.exporting import export
from console.screens.choose import Ask, Choose, Page
from console.screens.compare import CompareScreen
from console.screens.details import VIEWS
from console.widgets.chart import Chart
from engine.jobs.home import Home
from engine.results.tables import to_csv

SIZES = [(80, 24), (140, 40), (200, 60)]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    monkeypatch.chdir(tmp_path)
    return staged(tmp_path)


def text(screen: CompareScreen, name: str) -> str:
    return str(screen.query_one(name, Static).render())


async def read(pilot: Pilot[None], host: Host) -> CompareScreen:
    screen = host.shown
    assert isinstance(screen, CompareScreen)
    await until(pilot, lambda: screen.is_mounted and screen.query("#compare-table"), "mounted")
    host.tick()
    await until(pilot, lambda: screen.table.rows, "results read")
    return screen


@pytest.mark.parametrize("size", SIZES)
def test_the_list_shows_every_verdict_with_its_sign(there: Staged, size: tuple[int, int]) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=size) as pilot:
            screen = await read(pilot, host)
            shown = [row for row in screen.table.rows if row.key in screen._shown]
            lines = {key_of(line): line for line in screen.comparison.lines}
            assert set(lines) <= {row.key for row in shown}
            for row in shown:
                if row.key in lines:
                    assert lines[row.key].verdict in row.cell("verdict").text
            visible = [column.key for column, _ in screen.table._layout]
            assert {"method", "budget", "verdict", "value", "gap", "bar"} <= set(visible)
            assert there.run.id in text(screen, "#compare-head")
            await pilot.press("down", "down")
            line = screen._line()
            assert text(screen, "#compare-reason").endswith(line.reason)

    asyncio.run(body())


@pytest.mark.parametrize("size", SIZES)
def test_details_go_round_and_escape_leaves(there: Staged, size: tuple[int, int]) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=size) as pilot:
            screen = await read(pilot, host)
            gd = next(row.key for row in screen.table.rows if "gaussian\tgd" in row.key)
            screen.table.move_to(gd)
            await pilot.press("enter")
            assert screen.drilled
            seeds = screen.query_one("#details-seeds")
            assert [c.title for c in seeds.columns] == [
                "metric", "mean", "95 % interval", "s0", "s1", "s2",
            ]  # fmt: skip
            await pilot.press("tab")
            chart = screen.query_one("#scores-line", Chart)
            await until(pilot, lambda: chart.series, "scores read")
            assert chart.options.title.startswith("gd")
            for role in ("retrain", "none"):
                assert screen.query_one(f"#scores-{role}", Chart).series
            await pilot.press("tab")
            names = {one.name for one in screen.query_one("#budget-audit", Chart).series}
            assert {"retrain", "none", "gd"} <= names
            assert screen.query_one("#budget-utility", Chart).series
            await pilot.press("tab")
            assert screen.details.switch.current == "details-rows"
            await pilot.press("tab")
            assert "gaussian.mean_score" in text(screen, "#details-page")
            await pilot.press("tab")
            assert screen.details.switch.current == next(iter(VIEWS))
            await pilot.press("escape")
            assert not screen.drilled
            assert screen.table.cursor_key == gd
            assert screen.table.has_focus

    asyncio.run(body())


def test_an_attack_without_scores_says_so(there: Staged) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            screen.table.move_to(
                next(row.key for row in screen.table.rows if "badnets\tgd" in row.key)
            )
            await pilot.press("enter", "tab")
            chart = screen.query_one("#scores-line", Chart)
            await until(pilot, lambda: "keeps no scores" in chart.notice, "notice")

    asyncio.run(body())


def test_group_sort_pin_matrix_and_columns(there: Staged) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(140, 40)) as pilot:
            screen = await read(pilot, host)
            await pilot.press("g")
            assert screen.view.group == "method"
            assert any(row.key == "group\tgd" for row in screen.table.rows)
            await pilot.press("s")
            assert screen.view.sort == "verdict"
            screen.table.move_to(key_of(screen.comparison.lines[2]))
            line = screen._line()
            await pilot.press("p")
            assert screen.table.rows[0].key == f"pin\t{key_of(line)}"
            await pilot.press("m")
            assert [column.key for column in screen.table.columns][2:] == (
                screen.comparison.families()
            )
            await pilot.press("m", "o")
            assert isinstance(host.screen, Choose)
            await pilot.press("space", "enter")
            assert "budget" in screen.view.hidden
            assert "budget" not in [column.key for column in screen.table.columns]

    asyncio.run(body())


def test_export_writes_what_the_command_line_prints(there: Staged, tmp_path: Path) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            await read(pilot, host)
            await pilot.press("e")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(host.screen, Ask), "asks where")
            path = Path(host.screen.query_one(Input).value)
            assert path.parent == tmp_path
            await pilot.press("enter")
            await until(pilot, path.exists, "written")
            await until(pilot, lambda: host.said, "said")
            assert path.read_text() == to_csv(rows_of([there.run]))

    asyncio.run(body())


def test_copy_and_explain(there: Staged) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            await pilot.press("down", "down", "c")
            assert screen._line().verdict in host.clipboard
            assert "\t" in host.clipboard
            await pilot.press("C")
            assert host.clipboard.startswith("| setting")
            await pilot.press("x")
            assert isinstance(host.screen, Page)
            assert "Verdict" in host.screen.text
            await pilot.press("escape")
            assert host.screen is screen

    asyncio.run(body())


def test_other_runs_can_be_chosen_and_a_lost_one_is_forgotten(there: Staged) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            await pilot.press("r")
            assert isinstance(host.screen, Choose)
            assert host.screen.chosen == [there.run.id]
            await pilot.press("enter")
            assert not host.marked  # it is the open run anyway
            host.marked.add("gone")
            host.tick()
            await pilot.pause()
            assert screen.table.rows
            assert text(screen, "#compare-head").startswith(f"run {there.run.id}")

    asyncio.run(body())


def test_an_empty_home_says_what_to_do(tmp_path: Path) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), Home(tmp_path))
        async with host.run_test(size=(80, 24)) as pilot:
            screen = host.shown
            assert isinstance(screen, CompareScreen)
            await until(pilot, lambda: screen.is_mounted, "mounted")
            host.tick()
            assert "No runs yet" in screen.table.empty
            await pilot.press("enter", "tab", "e", "x", "escape", "c", "p", "s", "g", "m")

    asyncio.run(body())


def test_it_comes_back_as_it_was(there: Staged) -> None:
    async def body() -> None:
        first = CompareScreen()
        host = Host(first, there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            await pilot.press("down", "down", "down", "g", "p")
            told, key = screen.remember(), screen.table.cursor_key
        second = CompareScreen()
        host = Host(second, there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: second.is_mounted, "mounted")
            second.restore(told)
            screen = await read(pilot, host)
            assert (screen.view.group, screen.table.cursor_key) == ("method", key)
            screen.restore({"view": 3, "runs": "x", "table": None})

    asyncio.run(body())


def warned(there: Staged, text: str) -> int:
    """Have all trainings warn of something; how many there are."""
    count = 0
    for path in there.home.store.glob("objects/*/*/DONE.json"):
        told = json.loads(path.read_text())
        if told["kind"] == "train":
            path.write_text(json.dumps(told | {"warnings": [text]}))
            count += 1
    return count


def test_what_stages_warned_of_is_said_above_the_list(there: Staged) -> None:
    count = warned(there, "[red]the loss[/blue] jumped")

    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            line = screen.query_one("#compare-warning")
            assert line.display
            told = f"1 warning: [red]the loss[/blue] jumped (×{count} stages)"
            assert text(screen, "#compare-warning") == told
            await pilot.press("w")
            assert isinstance(host.screen, Page)
            assert "[red]the loss[/blue] jumped" in host.screen.text

    asyncio.run(body())


def test_without_warnings_there_is_no_line(there: Staged) -> None:
    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await read(pilot, host)
            assert not screen.query_one("#compare-warning").display

    asyncio.run(body())


@pytest.mark.parametrize("form", ["json", "md", "csv", "tex"])
def test_an_export_has_the_warnings(there: Staged, tmp_path: Path, form: str) -> None:
    count = warned(there, "the loss jumped")
    path = tmp_path / f"table.{form}"
    export(form, path, [there.run], rows_of([there.run]))
    told = path.read_text()
    if form == "json":
        assert json.loads(told)["warnings"] == [{"text": "the loss jumped", "stages": count}]
    else:
        assert told.count("the loss jumped") == (form == "md")


LINE = "margin of attack-success.asr: ±0.03 (shipped: ±0.05)"


@pytest.mark.parametrize("size", SIZES)
def test_a_margin_of_its_own_stands_above_list_and_details(
    there: Staged, size: tuple[int, int]
) -> None:
    other = judged_by(there, {"attack-success": {"asr": 0.03}})

    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        host.open_id = other.id
        async with host.run_test(size=size) as pilot:
            screen = await read(pilot, host)
            assert LINE in text(screen, "#compare-head").splitlines()
            badnets = next(row.key for row in screen.table.rows if "badnets\tgd" in row.key)
            screen.table.move_to(badnets)
            await pilot.press("x")
            assert isinstance(host.screen, Page)
            mine = "±0.03, set by the preset (shipped: ±0.05)"
            assert mine in " ".join(host.screen.text.split())
            await pilot.press("escape", "enter")
            assert screen.drilled and LINE in text(screen, "#compare-head")
            assert mine in " ".join(text(screen, "#details-page").split())

    asyncio.run(body())


def test_runs_by_two_margins_are_not_shown_together(there: Staged) -> None:
    other = judged_by(there, {"attack-success": {"asr": 0.03}})

    async def body() -> None:
        host = Host(CompareScreen(), there.home)
        host.open_id = there.run.id
        async with host.run_test(size=(140, 40)) as pilot:
            screen = await read(pilot, host)
            assert "margin" not in text(screen, "#compare-head")
            screen._mark({there.run.id, other.id})
            await until(pilot, lambda: "±0.03" in text(screen, "#compare-reason"), "refused")
            for word in (there.run.id, other.id, "±0.05 (shipped)"):
                assert word in text(screen, "#compare-reason")
            assert not screen.comparison.lines

    asyncio.run(body())


@pytest.mark.parametrize("form", ["json", "md", "csv", "tex"])
def test_an_export_has_the_margins(there: Staged, tmp_path: Path, form: str) -> None:
    other = judged_by(there, {"attack-success": {"asr": 0.03}})
    path = tmp_path / f"table.{form}"
    export(form, path, [other], rows_of([other]))
    content = path.read_text()
    if form == "json":
        margin = json.loads(content)["margins"]["attack-success"]["asr"]
        assert margin == {"margin": 0.03, "shipped": 0.05}
    else:
        assert content.count(LINE) == (form != "csv")
