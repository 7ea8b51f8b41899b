"""The live table: rows keep their cursor and marks, and only what changed is repainted."""

from __future__ import annotations

import asyncio
import json
import timeit
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.geometry import Region
from textual.message import Message
from textual.pilot import Pilot

from console.widgets import (
    GAP,
    Cell,
    Column,
    Piece,
    Row,
    SpanApp,
    arranged,
    changed_spans,
    fitted,
    ordered,
    plain,
)
from console.widgets.table import Table

COLUMNS = [
    Column("name", "run", 12, min=6, priority=9, grow=1),
    Column("state", "state", 8, priority=5),
    Column("loss", "loss", 8, align="right", priority=3),
    Column("note", "note", 20, min=10, priority=1),
]
Body = Callable[[Table, Pilot[Any]], Awaitable[None]]


class OneTable(SpanApp[None]):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.table = Table(how.pop("columns", COLUMNS), **how)
        self.said: list[Message] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        self.said.append(event)

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        self.said.append(event)

    def on_table_marks_changed(self, event: Table.MarksChanged) -> None:
        self.said.append(event)

    def on_table_sort_changed(self, event: Table.SortChanged) -> None:
        self.said.append(event)


def run(body: Body, size: tuple[int, int] = (60, 12), **how: Any) -> OneTable:
    app = OneTable(**how)

    async def session() -> None:
        async with app.run_test(size=size) as pilot:
            app.table.focus()
            await pilot.pause()
            await body(app.table, pilot)

    asyncio.run(session())
    return app


def rows(count: int, **more: Any) -> list[Row]:
    return [
        Row(
            f"r{i}",
            {"name": f"run {i}", "state": Cell("running", "good"), "loss": f"{i}.50", **more},
        )
        for i in range(count)
    ]


def text(table: Table) -> list[str]:
    return [table.render_line(y).text for y in range(table.size.height)]


def test_rows_under_a_header_and_a_text_when_there_are_none() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        assert text(table)[1].startswith("no runs yet: press n") and table.cursor_key is None
        table.update(rows(3))
        shown = text(table)
        assert shown[0].split() == ["run", "state", "loss", "note"]
        assert [line.split()[:3] for line in shown[1:4]] == [
            ["run", str(i), "running"] for i in range(3)
        ]
        assert all(cell_len(line) == table.size.width for line in shown)
        table.update([])
        assert text(table)[1].startswith("no runs yet")

    run(body, empty="no runs yet: press n")


def test_the_cursor_stays_on_its_row() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(8))
        await pilot.press("down", "down")
        assert table.cursor_key == "r2"
        table.update(rows(8)[::-1])
        assert table.cursor_key == "r2" and table.cursor_row == 5
        table.update([row for row in rows(8) if row.key != "r2"])
        assert table.cursor_row == 5 and table.cursor_key == "r6"
        table.update([])
        assert table.cursor_key is None
        table.update(rows(8))
        assert table.cursor_key == "r6"

    app = run(body)
    keys = [event.key for event in app.said if isinstance(event, Table.RowHighlighted)]
    assert keys == ["r0", "r1", "r2", "r6", None, "r6"]


def test_keys_move_the_cursor_and_the_view() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(100))
        await pilot.press("up")
        assert table.cursor_row == 0
        await pilot.press("end")
        assert table.cursor_row == 99 and "run 99" in text(table)[-1]
        await pilot.press("pageup")
        assert table.cursor_row == 89
        await pilot.press("home", "pagedown", "down")
        assert table.cursor_row == 11 and "run 11" in text(table)[-1]
        table.move_to("r50")
        assert table.cursor_row == 50 and any("run 50" in line for line in text(table))
        table.move_to("nowhere")
        assert table.cursor_row == 50
        await pilot.press("enter")

    app = run(body)
    assert isinstance(app.said[-1], Table.RowSelected) and app.said[-1].key == "r50"


def test_the_row_of_the_cursor_is_in_reverse_video() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(3))
        reverse = [all(s.style and s.style.reverse for s in table.render_line(y)) for y in range(4)]
        assert reverse == [False, True, False, False]

    run(body)


def test_only_what_changed_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(5))
        await pilot.pause()
        asked: list[Region] = []
        monkeypatch.setattr(table, "refresh", lambda *regions, **_: asked.extend(regions))
        table.update(rows(5))
        assert asked == []
        changed = rows(5)
        changed[3] = Row("r3", {**changed[3].cells, "loss": "3.75"})
        table.update(changed)
        before = text(table)[4].index("3.75")
        assert asked == [Region(before + 2, 4, 2, 1)]
        asked.clear()
        await pilot.press("down")
        assert {region.y for region in asked} == {1, 2}

    run(body, size=(80, 12))


def test_what_is_painted_is_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(9))
        await pilot.pause()
        cells = [list(line) for line in text(table)]
        asked: list[Region] = []
        monkeypatch.setattr(table, "refresh", lambda *regions, **_: asked.extend(regions))
        table.update([*rows(7, note="new")[2:], Row("x", {"name": "another", "loss": "12.25"})])
        after = text(table)
        for x, y, width, _ in asked:
            cells[y][x : x + width] = after[y][x : x + width]
        assert ["".join(line) for line in cells] == after

    run(body)


def test_text_is_plain() -> None:
    evil = "\x1b[31mred\x1b[0m [b]not bold[/b]\nnext\a"

    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update([Row("a", {"note": evil, "state": Cell("odd", "no-such-style")})])
        line = text(table)[1]
        assert "[31mred[0m [b]not…" in line and line.isprintable()

    run(body, columns=[*COLUMNS[:2], Column("note", "no\x1bte", 18)])
    assert plain(evil) == "[31mred[0m [b]not bold[/b] next"


def test_wide_characters_keep_the_columns_straight() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(
            [Row("a", {"name": "実験" * 6, "state": "ok"}), Row("b", {"name": "x", "state": "ok"})]
        )
        lines = text(table)[1:3]
        assert cell_len(lines[0]) == cell_len(lines[1]) == table.size.width
        starts = [cell_len(line[: line.index("ok")]) for line in lines]
        assert starts[0] == starts[1]

    run(body)


def test_marks() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(3))
        table.action_mark()
        assert table.marked == {"r0"} and text(table)[1].startswith("● run 0")
        table.update(rows(3)[::-1])
        assert text(table)[3].startswith("● run 0")
        table.action_mark()
        assert table.marked == set()

    app = run(body, marks=True)
    assert sum(isinstance(event, Table.MarksChanged) for event in app.said) == 2


def test_sorting_by_a_click_on_the_header_and_by_call() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(12))
        await pilot.click(table, offset=(2, 0))
        assert table.sort == ("name", False) and "run▲" in text(table)[0]
        assert [row.key for row in table.rows][:3] == ["r0", "r1", "r10"]
        await pilot.click(table, offset=(2, 0))
        assert table.sort == ("name", True) and "run▼" in text(table)[0]
        table.sort_by(None)
        assert [row.key for row in table.rows] == [f"r{i}" for i in range(12)]

    app = run(body)
    assert sum(isinstance(event, Table.SortChanged) for event in app.said) == 3


def test_a_click_moves_the_cursor_and_another_opens() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(4))
        await pilot.click(table, offset=(5, 3))
        assert table.cursor_key == "r2"
        await pilot.click(table, offset=(5, 9))
        assert table.cursor_key == "r2"
        await pilot.click(table, offset=(5, 3))

    app = run(body)
    assert [event.key for event in app.said if isinstance(event, Table.RowSelected)] == ["r2"]


def test_numbers_then_texts_and_what_is_missing_last() -> None:
    given = {"a": 2.0, "b": None, "c": "ten", "d": -1, "e": float("nan"), "f": "Alpha"}
    unsorted = [Row(key, {}, {"v": value}) for key, value in given.items()]
    assert [row.key for row in ordered(unsorted, ("v", False))] == list("dafcbe")
    assert [row.key for row in ordered(unsorted, ("v", True))] == list("cfadbe")


def test_narrow_screens_hide_what_matters_least() -> None:
    def names(room: int, skip: int = 0) -> list[str]:
        return [column.key for column, _ in arranged(COLUMNS, room, skip)]

    assert names(80) == names(36) == ["name", "state", "loss", "note"]
    assert names(35) == ["name", "state", "loss"]
    assert names(20) == ["name", "state"]
    assert names(9) == names(1) == ["name"]
    assert names(20, skip=2) == ["name", "note"]

    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(2, note="at the far right"))
        assert "note" not in text(table)[0] and text(table)[0].endswith("›")
        await pilot.press("right", "right", "right")
        assert "at the far" in text(table)[1] and "run 0" in text(table)[1]
        await pilot.press("left", "left", "left", "left")
        assert "running" in text(table)[1]

    run(body, size=(26, 8))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 3)), max_size=8),
    st.integers(-3, 90),
    st.integers(0, 4),
)
def test_columns_fit(wanted: list[tuple[int, int, int]], room: int, skip: int) -> None:
    columns = [
        Column(str(i), "x", width, least, priority=rank, grow=rank)
        for i, (width, least, rank) in enumerate(wanted)
    ]
    layout = arranged(columns, room, skip)
    assert bool(layout) == bool(columns)
    assert len(layout) <= 1 or sum(width + GAP for _, width in layout) <= room
    assert all(width >= 0 for _, width in layout)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.integers(0, 12), st.sampled_from(["left", "right", "center"]))
def test_fitted_text_is_as_wide_as_its_place(content: str, width: int, align: Any) -> None:
    shown = fitted(content, width, align)
    assert cell_len(shown) == width and shown.isprintable()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab", min_size=5, max_size=5), st.text("ab", min_size=5, max_size=5))
    )
)
def test_changed_spans_cover_every_change(cells: list[tuple[str, str]]) -> None:
    old = [Piece(5 * i, 5, before, "") for i, (before, _) in enumerate(cells)]
    new = [Piece(5 * i, 5, after, "") for i, (_, after) in enumerate(cells)]
    line, wanted = list("".join(p.text for p in old)), "".join(p.text for p in new)
    spans = changed_spans(old, new)
    for start, end in spans:
        line[start:end] = wanted[start:end]
    assert "".join(line) == wanted
    assert spans == sorted(spans) and all(a < b for a, b in spans)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (12, 3), (250, 80)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        for width, height in ((40, 10), size, (250, 80), size):
            await pilot.resize_terminal(width, height)
            table.update(rows(30))
            await pilot.press("end", "right", "left")
            assert all(cell_len(line) == table.size.width for line in text(table))
        assert "run 29" in text(table)[-1] or size[0] < 12 or size[1] > 40

    run(body, size=size, marks=True)


def test_a_row_at_the_end_stays_in_view_when_the_screen_gets_lower() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(100))
        table.move_to(40)
        await pilot.resize_terminal(60, 7)
        await pilot.pause()
        assert any("run 40 " in line for line in text(table))
        table.update(rows(3))
        assert "run 2" in text(table)[3] and table.scroll_offset.y == 0

    run(body, size=(60, 30))


def test_the_wheel_scrolls_and_updates_leave_it_there() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(100))
        await pilot.pause()
        table.scroll_to(y=30, animate=False)
        table.update(rows(100))
        assert table.scroll_offset.y == 30 and "run 30" in text(table)[1]
        await pilot.press("down")
        assert table.cursor_row == 1 and table.scroll_offset.y == 1

    run(body)


def test_5000_rows_are_updated_and_scrolled_in_milliseconds() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        many = rows(5000)
        table.sort_by("loss")
        assert min(timeit.repeat(lambda: table.update(many), number=1, repeat=5)) < 0.1
        assert min(timeit.repeat(lambda: table.action_page(1), number=1, repeat=5)) < 0.02

    run(body, size=(160, 45))


def test_state_round_trips_as_json_even_before_the_rows_are_there() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.restore({"cursor": "r3", "sort": ["loss", True], "else": 1})
        table.update(rows(5))
        assert table.cursor_key == "r3" and table.rows[0].key == "r4"
        state = json.loads(json.dumps(table.state()))
        table.restore({"cursor": 7, "sort": "x"})
        assert table.state() == state

    run(body)


def test_ascii_is_ascii() -> None:
    async def body(table: Table, pilot: Pilot[Any]) -> None:
        table.update(rows(5, note="much longer than the column is"))
        table.sort_by("name")
        table.action_mark()
        assert "".join(text(table)).isascii()

    run(body, ascii=True, marks=True)
