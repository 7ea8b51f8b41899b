"""The chart on a screen: what it paints, how one looks around, and what it remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from console.charts import NEUTRAL, Options, Series, gaussian_histogram
from console.widgets import SpanApp, SpanUpdate
from console.widgets.chart import Chart

Body = Callable[[Chart, Pilot[Any]], Awaitable[None]]


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the terminal that the app believes it has: with few, charts use patterns and shades."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


class OneChart(SpanApp[None]):
    CSS = "Chart { border: round $primary; }"

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.chart = Chart(**how)
        self.views: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        yield self.chart

    def on_chart_view_changed(self, event: Chart.ViewChanged) -> None:
        self.views.append(event.chart.state())


def run(body: Body, size: tuple[int, int] = (60, 16), **how: Any) -> OneChart:
    app = OneChart(**how)

    async def session() -> None:
        async with app.run_test(size=size) as pilot:
            app.chart.focus()
            await pilot.pause()
            await body(app.chart, pilot)

    asyncio.run(session())
    return app


def line(n: int = 1000, name: str = "loss") -> Series:
    return Series(name, range(n), np.exp(-np.arange(n) / 300) + 0.1)


def text(chart: Chart) -> str:
    return "\n".join(chart.render_line(y).text for y in range(chart.size.height))


def test_it_shows_what_it_is_given_and_says_when_there_is_nothing() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        assert "no data yet" in text(chart)
        chart.show([line()], title="training")
        assert "training" in text(chart) and "── loss" in text(chart)
        chart.show([Series("loss", [1], [np.nan])])
        assert "no finite values" in text(chart)
        chart.notice = "waiting for the first step"
        chart.show([])
        assert "waiting for the first step" in text(chart)

    run(body)


def test_only_what_changed_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line(910)])
        await pilot.pause()
        asked: list[tuple[Region, ...]] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions, **_: asked.append(regions))
        chart.show([line(910)])
        assert asked == []
        chart.show([line(913)])
        assert len(asked) <= 1
        assert all(region.width <= 3 for regions in asked for region in regions)
        chart.show([line(950)])
        assert sum(region.area for regions in asked for region in regions) < 30

    run(body)


def test_what_is_painted_is_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refreshed spans, laid over the earlier picture, give the later one."""

    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line(500), Series("b", [0, 999], [0, 1], 1)])
        cells = [list(row) for row in text(chart).splitlines()]
        asked: list[Region] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions, **_: asked.extend(regions))
        chart.show([line(800), Series("b", [0, 999], [0.1, 0.9], 1)])
        after = text(chart).splitlines()
        for x, y, width, _ in asked:
            cells[y][x : x + width] = after[y][x : x + width]
        assert ["".join(row) for row in cells] == after

    run(body)


def test_zoom_pan_and_reset_by_keys() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line()])
        await pilot.press("plus")
        assert chart.window is not None
        lo, hi = chart.window
        assert hi - lo == pytest.approx(500, abs=5) and hi == pytest.approx(1000, abs=5)
        await pilot.press("left", "left")
        assert chart.window[0] < lo and not chart.follow
        await pilot.press("minus", "minus", "minus")
        assert chart.window is None and chart.follow
        await pilot.press("plus", "0")
        assert chart.window is None
        for _ in range(80):
            chart.action_zoom_in()
        assert chart.window is not None and chart.window[1] > chart.window[0]
        for _ in range(80):
            chart.action_pan(1)
        assert chart.window[0] <= 999

    app = run(body)
    assert len(app.views) > 8


def test_a_zoomed_window_follows_new_data_until_one_pans_away() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line(1000)])
        chart.action_zoom_in()
        assert chart.window is not None
        width = chart.window[1] - chart.window[0]
        chart.show([line(1500)])
        assert chart.window[1] >= 1499 and chart.window[0] > 700
        assert chart.window[1] - chart.window[0] == pytest.approx(width)
        chart.action_pan(-1)
        chart.action_pan(-1)
        stayed = chart.window
        chart.show([line(3000)])
        assert chart.window == stayed
        chart.action_follow()
        chart.show([line(3001)])
        assert chart.window[1] >= 3000

    run(body)


def test_the_mouse_zooms_and_drags() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line()])
        await pilot.pause()
        await pilot._post_mouse_events([_scroll_up()], chart, (30, 5))
        assert chart.window is not None
        before = chart.window
        await pilot.mouse_down(chart, offset=(30, 5))
        await pilot.hover(chart, offset=(40, 5))
        await pilot.mouse_up(chart, offset=(40, 5))
        assert chart.window[0] < before[0]
        after = chart.window
        await pilot.hover(chart, offset=(10, 5))
        assert chart.window == after

    run(body)


def _scroll_up() -> Any:
    from textual.events import MouseScrollUp

    return MouseScrollUp


def test_log_axes_and_smoothing() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        noisy = np.array([1, 100] * 200, dtype=float)
        chart.show([Series("loss", range(1, 401), noisy)])
        chart.action_log_y()
        assert chart.view is not None and chart.view.logy and "10┤" in text(chart)
        chart.action_log_x()
        assert chart.view.logx
        chart.action_smoothing()
        assert chart.smoothing == 0.6
        raw, smoothed = chart._smoothed()
        assert raw.faint and not raw.name and smoothed.name == "loss"
        assert np.array_equal(raw.array("y"), noisy) and np.ptp(smoothed.array("y")[50:]) < 50
        chart.show([Series("n", y=[1], kind="hline"), Series("r", [0], [1], NEUTRAL)])
        assert len(chart._smoothed()) == 2
        for _ in range(3):
            chart.action_smoothing()
        assert chart.smoothing == 0
        chart.show([Series("loss", [1, 2], [-1, 0])])
        assert "nothing above 0" in text(chart)

    run(body)


def test_frozen_paints_nothing_and_then_the_latest() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line(100)])
        before = text(chart)
        chart.action_freeze()
        chart.show([line(1000, "later")])
        assert text(chart) == before
        chart.action_freeze()
        assert "later" in text(chart)

    run(body)


def test_state_round_trips_as_json_and_nonsense_is_ignored() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line()])
        chart.action_zoom_in()
        chart.action_log_y()
        chart.action_smoothing()
        state = json.loads(json.dumps(chart.state()))
        chart.restore({"window": None, "logy": False, "smoothing": 0, "follow": False})
        assert chart.window is None and not chart.logy
        chart.restore(state)
        assert chart.state() == state
        chart.restore({"window": [1, None], "logx": "yes", "smoothing": 7, "follow": 3, "?": []})
        assert chart.state() == state

    run(body)


def test_state_can_be_restored_before_it_is_mounted() -> None:
    chart = Chart()
    chart.restore({"window": [10, 20], "logx": True})
    chart.show([line()])
    assert chart.window == (10, 20) and chart.logx


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (20, 4), (250, 80)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        for width, height in ((40, 10), size, (250, 80), (40, 10)):
            await pilot.resize_terminal(width, height)
            chart.show([line(), *gaussian_histogram([0, 1], [3], 0.5, (0.4, 0.6))])
        chart.styles.display = "none"
        await pilot.pause()
        chart.show([line(5)])
        chart.action_zoom_in()

    run(body, size=size)


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark"])
@pytest.mark.parametrize("no_color", [False, True])
def test_every_segment_has_a_style(
    theme: str, no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment without one crashes the filter of NO_COLOR; `dim` that of ANSI colours."""
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")

    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.app.theme = theme
        await pilot.pause()
        band = Series("retrain", [0, 999], kind="band", lo=[0, 0], hi=[1, 1], ink=2)
        chart.smoothing = 0.9
        chart.show([band, line(), Series("b", [0, 999], [1, 1], 1)])
        await pilot.pause()
        styles = [s.style for y in range(chart.size.height) for s in chart.render_line(y)]
        assert all(isinstance(style, Style) and not style.dim for style in styles)
        few = no_color or theme == "ansi-dark"
        assert ("╌╌ b" in text(chart)) == few and ("░ retrain" in text(chart))
        assert ("░" in text(chart).replace("░ retrain", "")) == few

    run(body)


def test_themes_change_the_colours() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line()])
        seen = set()
        for theme in ("textual-dark", "textual-light"):
            chart.app.theme = theme
            await pilot.pause()
            seen.add(chart.get_component_rich_style("chart--series-1").color)
            painted = {s.style.color for y in range(5) for s in chart.render_line(y) if s.style}
            assert chart.get_component_rich_style("chart--series-1").color in painted
        assert len(seen) == 2

    run(body)


def test_ascii_is_ascii() -> None:
    async def body(chart: Chart, pilot: Pilot[Any]) -> None:
        chart.show([line(), *gaussian_histogram([0, 500, 999], [3, 4], 500, (400, 600))])
        assert text(chart).isascii()

    run(body, options=Options(ascii=True))


# --- SpanApp ---


def chops(row: Strip, spans: list[tuple[int, int, int]]) -> ChopsUpdate:
    return ChopsUpdate([{0: row}], spans, [[row.cell_length]])


def test_a_change_at_the_right_edge_costs_only_itself() -> None:
    red, blue = Style.parse("red"), Style.parse("blue")
    row = Strip([Segment("a" * 50, red), Segment("b" * 50, blue)])
    console = App().console
    update = SpanUpdate(chops(row, [(0, 97, 99)])).render_segments(console)
    assert update == "\x1b[1;98H\x1b[0;34mbb\x1b[0m"
    both = SpanUpdate(chops(row, [(0, 2, 3), (0, 9, 10)])).render_segments(console)
    assert both == "\x1b[1;3H\x1b[0;31ma\x1b[1;10Ha\x1b[0m"  # the colour is set once
    across = SpanUpdate(chops(row, [(0, 49, 51)])).render_segments(console)
    assert across == "\x1b[1;50H\x1b[0;31ma\x1b[0;34mb\x1b[0m"
    unstyled = SpanUpdate(chops(Strip([Segment("x")]), [(0, 0, 1)])).render_segments(console)
    assert unstyled == "\x1b[1;1Hx"


def test_a_whole_screen_sets_each_colour_once() -> None:
    red = Style.parse("red")
    lines = [
        [Strip([Segment("ab", red)]), Strip([Segment("cd", red)])],
        [Strip([Segment("e", red)])],
    ]
    update = SpanUpdate(LayoutUpdate(lines, Region(1, 4, 4, 2)))  # type: ignore[arg-type]
    written = update.render_segments(App().console)
    assert written == "\x1b[5;2H\x1b[0;31mabcd\x1b[6;2He\x1b[0m"


def test_textual_still_paints_through_the_names_we_replace() -> None:
    assert "_display" in vars(App)
    assert {"chops", "spans", "chop_ends"} <= vars(chops(Strip([]), [])).keys()
