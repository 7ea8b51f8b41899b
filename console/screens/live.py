"""Live: the open run's models as they are made: curves, the poison's histogram, devices, log.

On a narrow screen the list is on top and one pane below it; tab goes round. On a wide one all
panes are there; z gives the whole screen to one.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widget import Widget
from textual.widgets import Static

from console.charts import Options
from console.screens import live_view
from console.screens.live_actions import PANES, LiveActions
from console.screens.warned import WarningLine
from console.viewmodel import OpenRun, Snapshot, fuzzy
from console.widgets.chart import Chart
from console.widgets.lists import FilterLine, Rows
from console.widgets.table import Table
from console.widgets.textview import TextView
from console.widgets.words import Words


class Facts(Static, can_focus=True):
    """Text that can be jumped to."""


class LiveScreen(LiveActions):
    MODE: ClassVar[str] = "live"
    HELP: ClassVar[str] = (
        "One line for each model of the run: a training, a retraining, or an unlearning over its "
        "budgets. The curve is that of the cursor, with pinned ones beside it; the band is "
        "retraining (of an unlearning: where retraining ended; of the score: 95 % of models that "
        "never saw the poison). The histogram holds the poison's scores: without poison they "
        "follow N(0,1), drawn over it on the same scale; [ and ] step through the looks taken "
        "while unlearning went on."
    )
    CSS_PATH = "live.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (140, "-broad")]  # noqa: RUF012

    def body(self) -> ComposeResult:
        options = Options(ascii=self.chelate.ascii)
        yield Static("", id="live-head", markup=False)
        yield WarningLine(id="live-warning")
        yield Words(id="live-data")
        yield Words(id="live-margins")
        yield FilterLine("filter: letters in this order", id="live-filter")
        yield FilterLine("search in the log", id="live-search")
        with Container(id="live-panes"):
            yield Rows(live_view.COLUMNS, empty="reading …", ascii=self.chelate.ascii, id="tracks")
            yield Chart("loss", options=options, id="curve", classes="pane")
            with Vertical(id="look-pane", classes="pane"):
                yield Chart("z", options=options, notice="no look at the poison yet", id="look")
                yield Static("", id="look-text", markup=False)
            yield Facts("", id="facts", classes="pane", markup=False)
            yield TextView("log", empty="nothing yet", ascii=self.chelate.ascii, id="log",
                           classes="pane")  # fmt: skip

    def on_mount(self) -> None:
        self.tracks.focus()
        self._arrange()

    # --- showing ---------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if snapshot.open is None:
            self._without_run(snapshot)
            return
        told = snapshot.open
        if told.row.id != self._run:
            self._begin(told.row.id)
        if self._paused:
            return
        self.query_one("#live-head", Static).update(
            live_view.headline(told, self.chelate.ascii) + self._modes()
        )
        self.show_warnings(dict(told.warnings))
        self._show_data(told)
        self._show_margins(told.margins)
        self._show_tracks(told)
        self._show_curves(told)
        self._show_look(told)
        self._show_log(told)
        self._show_facts(told, snapshot)

    def _begin(self, run_id: str) -> None:
        """Another run than before: nothing of the last one stays."""
        self._run, self._pinned, self._place, self._followed = run_id, [], None, None
        self._follow, self._cursor_to = True, None
        self.query_one("#live-search", FilterLine).value = ""
        self.log_view.tail = True
        self._set_paused(False)
        self._drawn = self._looked = None
        self.curve.action_reset()
        self.curve.show([], self._metric)
        self.query_one("#look", Chart).show([], "z")
        self.query_one("#look-text", Static).update("")
        self.log_view.show([], 0)
        self.tracks.update([])
        self.tracks.move_to(0)

    def _without_run(self, snapshot: Snapshot) -> None:
        self.show_warnings({})
        self.chelate.open_first(snapshot)
        if not snapshot.loading and self.chelate.open_id is None:
            self.tracks.empty = "No run is open: 1 lists them, 4 composes one."
            self.tracks.update([])

    def _modes(self) -> str:
        words = []
        if self._paused:
            words.append("paused")
        if not self._follow:
            words.append("F follows")
        return f"  [{', '.join(words)}]" if words else ""

    def _show_data(self, told: OpenRun) -> None:
        line, text = (
            self.query_one("#live-data", Words),
            live_view.data_line(told, self.size.width - 2),
        )
        line.display = bool(text)
        if text != self._data_text:
            self._data_text = text
            line.update(text)

    def _show_margins(self, margins: tuple[str, ...]) -> None:
        line = self.query_one("#live-margins", Words)
        line.display = bool(margins)
        text = "; ".join(margins)
        if text != line.content:
            line.update(text)

    def _show_tracks(self, told: OpenRun) -> None:
        shown = [t for t in told.tracks if not self._filter or fuzzy(self._filter, t.label)]
        table = self.tracks
        self._see_whether_moved()  # the table's own message of it may still be on its way
        table.empty = "no model matches" if told.tracks else told.problem or "reading the plan …"
        table.update(
            live_view.track_row(t, self._metric, self.chelate.ascii, t.id in self._pinned)
            for t in shown
        )
        if self._cursor_to is not None and any(t.id == self._cursor_to for t in shown):
            table.move_to(self._cursor_to)
            self._cursor_to = None
        if self._follow:
            running = [t for t in shown if t.state == "running"]
            now = next((t for t in running if t.id == self._followed), None)
            best = now or next((t for t in reversed(running)), None)
            if best is not None and best.id != table.cursor_key:
                self._followed = best.id
                table.move_to(best.id)
            elif best is not None:
                self._followed = best.id
        self._ask()

    def _ask(self) -> None:
        """Tell the reader what this screen needs."""
        told, chosen = self._snapshot.open, self.tracks.cursor_key
        wanted = [chosen, *self._pinned] if chosen else list(self._pinned)
        if told is not None and self._band:
            wanted += [track.id for track in told.tracks if track.role == "retrain"][:10]
        self.chelate.reader.want(tuple(dict.fromkeys(wanted)), self._metric)

    def _show_curves(self, told: OpenRun) -> None:
        chosen = self._chosen(told)
        if chosen is None:
            return
        pinned = [t for t in told.tracks if t.id in self._pinned and t.id != chosen.id]
        series = live_view.curve_series(told, chosen, pinned, self._metric, self._band)
        drawn = [(s.name, s.kind, len(s.columns("x")[0]), id(s.x) if s.kind == "line" else 0)
                 for s in series]  # fmt: skip
        last = [float(s.array("y")[-1]) for s in series if s.kind == "line" and len(s.array("y"))]
        key = (chosen.id, self._metric, drawn, last)
        if key != self._drawn:
            self._drawn = key
            self.curve.notice = "" if drawn else live_view.why_no_curve(chosen)
            smooth = f" ~{self.curve.smoothing:g}" if self.curve.smoothing else ""
            self.curve.show(series, self._metric + smooth)

    def _show_look(self, told: OpenRun) -> None:
        chosen = self._chosen(told)
        looks = told.looks.get(chosen.id, ()) if chosen is not None else ()
        count = len(looks)
        place = count - 1 if self._place is None else min(max(self._place, 0), count - 1)
        key = (chosen.id if chosen else "", looks[place] if count else None, count)
        if key == self._looked:
            return
        self._looked = key
        chart, text = self.query_one("#look", Chart), self.query_one("#look-text", Static)
        if not count:
            chart.show([], "z")
            text.update("")
        else:
            chart.show(live_view.look_series(looks[place]), "z")
            text.update(live_view.look_text(looks[place], place, count))

    def _show_log(self, told: OpenRun) -> None:
        view = self.log_view
        if view.display and view.size.area:
            view.show(
                [(f"{time.strftime('%H:%M:%S', time.localtime(x.t))} {x.text}", x.level)
                 for x in told.log],
                told.log_start,
            )  # fmt: skip

    def _show_facts(self, told: OpenRun, snapshot: Snapshot) -> None:
        pane = self.query_one("#facts", Facts)
        if pane.display and pane.size.area:
            text = live_view.facts(
                told, snapshot.machine, self._chosen(told), pane.size.width - 2, self.chelate.ascii
            )
            if text != getattr(self, "_facts_text", None):
                self._facts_text = text
                pane.update(text)

    # --- panes -----------------------------------------------------------------------------------

    def _pane_widget(self, name: str) -> Widget:
        return self.query_one("#look-pane" if name == "look" else f"#{name}")

    def _arrange(self) -> None:
        """Which panes are there: all on a wide screen, on a narrow one the list and one more."""
        width, height = self.size
        wide = width >= 110 and height >= 24
        for name in PANES:
            here = name == self._pane
            if self._full:
                shown = here
            elif wide:
                shown = name != "facts" or width >= 140
            else:
                shown = here or name == "tracks"
            self._pane_widget(name).display = shown
        self.set_class(not wide, "-stacked")
        self.set_class(self._full, "-full")

    def _go_to(self, name: str) -> None:
        self._pane = name if name != "tracks" or self._full else self._pane
        self._arrange()
        self.set_focus(self.query_one(f"#{name}"))
        self._again()

    def _again(self) -> None:
        """Paint once more after something of ours changed, even while paused."""
        self._drawn = self._looked = None
        paused, self._paused = self._paused, False
        self.publish(self._snapshot)
        self._paused = paused
        if paused and self._snapshot.open is not None:
            head = live_view.headline(self._snapshot.open, self.chelate.ascii) + self._modes()
            self.query_one("#live-head", Static).update(head)

    def on_resize(self) -> None:
        super().on_resize()
        self._arrange()
        self.call_after_refresh(self._again)

    def action_next_pane(self) -> None:
        order = [n for n in PANES if n != "facts" or self.size.width >= 140 or not self._wide()]
        at = order.index(self._focused_pane()) if self._focused_pane() in order else 0
        self._go_to(order[(at + 1) % len(order)])

    def _wide(self) -> bool:
        return self.size.width >= 110 and self.size.height >= 24

    def action_full(self) -> None:
        self._full = not self._full
        if self._full:
            self._pane = self._focused_pane()
        elif self._pane == "tracks":
            self._pane = "curve"
        self._arrange()
        self.call_after_refresh(self._again)

    # --- the list --------------------------------------------------------------------------------

    def on_table_row_highlighted(self, event: Table.RowHighlighted) -> None:
        self._see_whether_moved()
        self._place = None
        self._ask()
        if self._snapshot.open is not None and not self._paused:
            self._show_curves(self._snapshot.open)
            self._show_look(self._snapshot.open)

    def _see_whether_moved(self) -> None:
        """Whoever moves the cursor off what is followed wants to stay there."""
        now = self.tracks.cursor_key
        if (
            self._followed is not None
            and now not in (None, self._followed)
            and self._cursor_to is None
        ):
            self._follow = False

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        self._go_to("curve")

    def action_pin(self) -> None:
        key = self.tracks.cursor_key
        if key is None:
            return
        if key in self._pinned:
            self._pinned.remove(key)
        else:
            self._pinned = [*self._pinned, key][-live_view.INKS :]
        self._again()

    def on_filter_line_typed(self, event: FilterLine.Typed) -> None:
        if event.line.id == "live-search":
            self.log_view.search(event.value)
        else:
            self._filter = event.value.strip()
            self._again()

    # --- memory ----------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        return {
            "chart": self.curve.state(), "metric": self._metric, "band": self._band,
            "follow": self._follow, "pane": self._pane, "full": self._full,
            "run": self._run, "track": self.tracks.cursor_key, "pinned": self._pinned,
        }  # fmt: skip

    def restore(self, told: dict[str, Any]) -> None:
        if isinstance(told.get("chart"), dict):
            self.curve.restore(told["chart"])  # `_begin` resets the zoom if it was another run's
        if isinstance(told.get("metric"), str):
            self._metric = told["metric"]
        for name in ("band", "follow", "full"):
            if isinstance(told.get(name), bool):
                setattr(self, f"_{name}", told[name])
        if told.get("pane") in PANES:
            self._pane = told["pane"]
        if told.get("run") == self.chelate.open_id and isinstance(told.get("pinned"), list):
            self._run = self.chelate.open_id or ""
            self._pinned = [word for word in told["pinned"] if isinstance(word, str)]
            if isinstance(told.get("track"), str):
                self._cursor_to = told["track"]
        self._arrange()
