"""A chart on the screen: zoom, pan, log axes, smoothing, and as few bytes as the change allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from console.charts import BACK, FAINT, INKS, STRONG, WASH, Grid, Options, Series, fit
from console.charts.raster import render
from console.charts.scale import Range, View, axis_range, data_range, panned, smooth, zoomed

SMOOTHING = (0.0, 0.6, 0.9, 0.99)
STEP, WHEEL = 2.0, 1.25  # zoom factors of a key and of a notch
SHIFT = 0.25  # of the width: how far an arrow key pans, and a followed window moves at once
DEEPEST = 1e-6  # of the data: as far as zoom goes
TINT, PALE = 0.3, 0.5  # share of its colour in a band's background, and in a faint line
FEWEST_COLOURS = ("standard", "windows")


class Chart(Widget, can_focus=True):
    """Draws the series it is shown. The y axis fits what is in view; the x axis can be zoomed.

    While zoomed, the window follows new data as long as the newest are in it.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{ink}" for ink in INKS}
    # The palette is Okabe and Ito's, told apart with any colour vision; darker on a light ground.
    DEFAULT_CSS = """
    Chart {
        height: 1fr; width: 1fr; min-height: 3;
        .chart--axis { color: $foreground 35%; }
        .chart--label { color: $foreground 70%; }
        .chart--notice { color: $foreground 60%; }
        .chart--reference { color: $foreground 90%; }
        .chart--series-1 { color: #56b4e9; }
        .chart--series-2 { color: #e69f00; }
        .chart--series-3 { color: #2cb88f; }
        .chart--series-4 { color: #cc79a7; }
        .chart--series-5 { color: #f0e442; }
        .chart--series-6 { color: #e8703a; }
        .chart--series-7 { color: #7d8ff5; }
        .chart--series-8 { color: #b0a08a; }
        &:light {
            .chart--series-1 { color: #0072b2; }
            .chart--series-2 { color: #a05a00; }
            .chart--series-3 { color: #00735a; }
            .chart--series-4 { color: #9c3f78; }
            .chart--series-5 { color: #756c00; }
            .chart--series-6 { color: #b83b00; }
            .chart--series-7 { color: #4a4fc4; }
            .chart--series-8 { color: #5f5445; }
        }
        &:ansi {
            .chart--axis { color: ansi_bright_black; }
            .chart--label { color: ansi_default; }
            .chart--notice { color: ansi_default; }
            .chart--reference { color: ansi_default; }
            .chart--series-1 { color: ansi_cyan; }
            .chart--series-2 { color: ansi_yellow; }
            .chart--series-3 { color: ansi_green; }
            .chart--series-4 { color: ansi_magenta; }
            .chart--series-5 { color: ansi_bright_yellow; }
            .chart--series-6 { color: ansi_red; }
            .chart--series-7 { color: ansi_bright_blue; }
            .chart--series-8 { color: ansi_white; }
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign", "zoom_in", "Zoom in", id="chart.zoom_in", show=False),
        Binding("minus", "zoom_out", "Zoom out", id="chart.zoom_out", show=False),
        Binding("left", "pan(-1)", "Earlier", id="chart.left", show=False),
        Binding("right", "pan(1)", "Later", id="chart.right", show=False),
        Binding("0", "reset", "Whole chart", id="chart.reset", show=False),
    ]

    class ViewChanged(Message):
        """The person zoomed, panned, or changed an axis or the smoothing."""

        def __init__(self, chart: Chart) -> None:
            super().__init__()
            self.chart = chart

        @property
        def control(self) -> Chart:
            return self.chart

    def __init__(
        self,
        title: str = "",
        *,
        options: Options | None = None,
        notice: str = "",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`options` other than the title are kept; patterns and shades are also used whenever the
        terminal has too few colours. `notice` is said when there is nothing to draw."""
        super().__init__(id=id, classes=classes)
        self.options = replace(options or Options(), title=title)
        self.notice = notice
        self.series: tuple[Series, ...] = ()
        self.view: View | None = None
        self.window: Range | None = None  # the zoomed part of the x axis; None: all of it
        self.logx, self.logy, self.smoothing = False, False, 0.0
        self.follow, self.frozen = True, False
        self._grid: Grid | None = None
        self._dragged_from: tuple[int, Range] | None = None
        self._palette = lru_cache(256)(self._style)
        self._ground = Style()  # what the palette was mixed for

    # --- what is shown ---

    def show(self, series: Sequence[Series], title: str | None = None) -> None:
        """Draw `series` from now on (when the chart is frozen: as soon as it no longer is)."""
        self.series = tuple(series)
        if title is not None:
            self.options = replace(self.options, title=title)
        self.repaint()

    def repaint(self, force: bool = False) -> None:
        """Draw, and have the spans of the screen refreshed that are not as before."""
        if (self.frozen and not force) or not self.is_mounted or not self.size.area:
            return
        before, self._grid = self._grid, self._drawn()
        if before is None or before.size != self._grid.size:
            self.refresh()
            return
        changes = self._grid.changes(before)
        if changes:
            self.refresh(*(Region(start, y, end - start, 1) for y, start, end in changes))

    def _drawn(self) -> Grid:
        width, height = self.size
        shown = self._smoothed()
        self._follow()
        found = fit(shown, self.logx, self.logy, self.window, self.view)
        self.view = found if isinstance(found, View) else None
        few = self.app.no_color or self.app.console.color_system in FEWEST_COLOURS
        few = few or self.app.native_ansi_color
        options = replace(
            self.options,
            patterns=self.options.patterns or few,
            shade=self.options.shade or few,
            notice=self.notice or (found if isinstance(found, str) else ""),
        )
        return render(shown, width, height, self.view, options)

    def _smoothed(self) -> list[Series]:
        """Each line as its average, over its own values drawn faint."""
        shown: list[Series] = []
        for one in self.series:
            if self.smoothing and one.kind == "line" and not one.faint and one.ink >= 0:
                x, y = one.columns("x", "y")
                shown += [replace(one, name="", faint=True)]
                shown += [replace(one, x=x, y=smooth(y, self.smoothing))]
            else:
                shown.append(one)
        return shown

    def _follow(self) -> None:
        """Move the window, in steps, so that the newest data are in it."""
        newest = self._data()
        if self.window is None or not self.follow or newest is None:
            return
        if newest[1] > self.window[1]:
            whole, window = axis_range(newest, self.logx), axis_range(self.window, self.logx)
            end = whole[1] + SHIFT * (window[1] - window[0])
            self.window = data_range((end - (window[1] - window[0]), end), self.logx)

    def _data(self) -> Range | None:
        """The x range of everything, zoomed or not."""
        found = fit(self.series, self.logx, self.logy)
        if isinstance(found, str):
            return None
        ends = [x for one in self.series for x in one.reach("x") if len(x)]
        largest = max((float(x[x <= found.xmax].max(initial=-math.inf)) for x in ends), default=0.0)
        return found.xmin, largest if largest > found.xmin else found.xmax

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if self._grid is None or self._grid.size != (width, height):
            self._grid = self._drawn()
        if (ground := self.rich_style) != self._ground:  # of a widget around this one, too
            self._ground = ground
            self._palette.cache_clear()
        if not 0 <= y < height or not width:
            return Strip.blank(width, ground)
        runs = self._grid.runs(y)
        return Strip([Segment(text, self._palette(style)) for text, style in runs], width)

    def _style(self, style: int) -> Style:
        """The Rich style of a cell. Never None and never `dim`: both fail in line filters."""
        painted = self.get_component_rich_style(f"chart--{INKS[style % BACK]}")
        ground, ink = painted.bgcolor, painted.color
        exact = not self.app.native_ansi_color
        if style & FAINT:
            axis = self.get_component_rich_style("chart--axis").color
            ink = _blend(ground, ink, PALE) if exact else axis
        if back := style // BACK % BACK:
            filled = self.get_component_rich_style(f"chart--{INKS[back]}").color
            ground = _blend(ground, filled, TINT) if style & WASH and exact else filled
        return Style(color=ink, bgcolor=ground, bold=bool(style & STRONG))

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._palette.cache_clear()
        self._grid = None

    def on_resize(self) -> None:
        self._grid = None
        self.refresh()

    # --- looking around ---

    def zoom(self, factor: float, centre: float = 0.5) -> None:
        """Zoom in by `factor` (out, below 1) about the fraction `centre` of the width."""
        data = self._data()
        if self.view is None or data is None:
            return
        window = zoomed((self.view.xmin, self.view.xmax), self.logx, factor, centre)
        whole = fit(self.series, self.logx, self.logy)
        if isinstance(whole, str):
            return
        outer = axis_range((whole.xmin, whole.xmax), self.logx)
        inner = axis_range(window, self.logx)
        if inner[1] - inner[0] < DEEPEST * (outer[1] - outer[0]):
            return
        everything = inner[0] <= outer[0] and inner[1] >= outer[1]
        self._look(None if everything else window)

    def pan(self, fraction: float) -> None:
        """Move the window right by a fraction of its width, as far as there are data."""
        data = self._data()
        if self.window is None or data is None:
            return
        window = panned(self.window, self.logx, fraction)
        if window[0] <= data[1] and window[1] >= data[0]:
            self._look(window)

    def _look(self, window: Range | None) -> None:
        data = self._data()
        self.window = window
        self.follow = window is None or data is None or window[0] <= data[1] <= window[1]
        self._changed()

    def _changed(self) -> None:
        self.repaint(force=True)
        self.post_message(self.ViewChanged(self))

    def action_zoom_in(self) -> None:
        self.zoom(STEP, self._newest_or_middle())

    def action_zoom_out(self) -> None:
        self.zoom(1 / STEP, self._newest_or_middle())

    def _newest_or_middle(self) -> float:
        """While following, zoom keeps the newest data where they are."""
        data = self._data()
        if data is None or self.view is None or not self.follow:
            return 0.5
        return min(max(float(self.view.across(data[1])), 0.0), 1.0)

    def action_pan(self, direction: int) -> None:
        self.pan(direction * SHIFT)

    def action_reset(self) -> None:
        self.view = None
        self._look(None)

    def action_log_x(self) -> None:
        self.logx, self.window, self.follow = not self.logx, None, True
        self._changed()

    def action_log_y(self) -> None:
        self.logy = not self.logy
        self._changed()

    def action_smoothing(self) -> None:
        """The next stronger smoothing, then none."""
        self.smoothing = next((s for s in SMOOTHING if s > self.smoothing), 0.0)
        self._changed()

    def action_freeze(self) -> None:
        """Stop painting, or go on. What arrives meanwhile is kept."""
        self.frozen = not self.frozen
        self.repaint()

    def action_follow(self) -> None:
        self.follow = not self.follow
        self._changed()

    # --- the mouse ---

    def _fraction(self, x: int) -> float:
        left, _, width, _ = self._grid.plot if self._grid else (0, 0, 0, 0)
        return min(max((x - left) / width, 0.0), 1.0) if width > 0 else 0.5

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.zoom(WHEEL, self._fraction(event.x))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.zoom(1 / WHEEL, self._fraction(event.x))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if self.window is not None:
            self.capture_mouse()
            self._dragged_from = (event.x, self.window)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        width = self._grid.plot[2] if self._grid else 0
        if self._dragged_from is not None and width > 0:
            start, self.window = self._dragged_from
            self.pan((start - event.x) / width)

    def on_mouse_up(self) -> None:
        if self._dragged_from is not None:
            self.release_mouse()
        self._dragged_from = None

    # --- memory ---

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            "window": list(self.window) if self.window else None,
            "logx": self.logx,
            "logy": self.logy,
            "smoothing": self.smoothing,
            "follow": self.follow,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up an earlier state; what cannot be understood is left as it is."""
        window = state.get("window")
        if isinstance(window, list | tuple) and len(window) == 2 and all(map(_number, window)):
            self.window = (float(window[0]), float(window[1]))
        elif "window" in state and window is None:
            self.window = None
        for name in ("logx", "logy", "follow"):
            if isinstance(state.get(name), bool):
                setattr(self, name, state[name])
        if _number(state.get("smoothing")) and 0 <= state["smoothing"] < 1:
            self.smoothing = float(state["smoothing"])
        self.view = None
        self.repaint(force=True)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _blend(ground: RichColor | None, ink: RichColor | None, share: float) -> RichColor | None:
    if ground is None or ink is None or ground.is_default or ink.is_default:
        return ink
    return Color.from_rich_color(ground).blend(Color.from_rich_color(ink), share).rich_color
