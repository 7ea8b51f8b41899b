"""What can be done on Live, apart from what it shows: charts, looks, the log, the run."""

from __future__ import annotations

from abc import abstractmethod

from console.screens import live_view
from console.screens.data import show_data
from console.screens.steering import SteeringScreen
from console.screens.warned import WarnedScreen
from console.selection import named
from console.viewmodel import OpenRun, RunRow, Snapshot, Track
from console.widgets import Column
from console.widgets.chart import Chart
from console.widgets.lists import FilterLine, Rows
from console.widgets.textview import TextView
from engine.jobs.home import Home
from engine.jobs.runs import Run

PANES = ("tracks", "curve", "look", "log", "facts")


class LiveActions(SteeringScreen, WarnedScreen):
    def __init__(self) -> None:
        super().__init__()
        self._snapshot = Snapshot()
        self._run = ""
        self._pinned: list[str] = []
        self._metric = "loss"
        self._band, self._follow, self._paused, self._full = True, True, False, False
        self._pane = "curve"
        self._place: int | None = None  # of the look; None: the latest
        self._filter = ""
        self._drawn: object = None
        self._data_text = ""
        self._looked: object = None
        self._followed: str | None = None
        self._cursor_to: str | None = None  # from memory, until its run is there

    @property
    def tracks(self) -> Rows:
        return self.query_one("#tracks", Rows)

    @property
    def curve(self) -> Chart:
        return self.query_one("#curve", Chart)

    @property
    def log_view(self) -> TextView:
        return self.query_one("#log", TextView)

    @abstractmethod
    def _again(self) -> None:
        """Paint once more after something of ours changed, even while paused."""

    def _focused_pane(self) -> str:
        focused = self.focused
        for name in PANES:
            if focused is not None and focused.id == name:
                return name
        return "tracks"

    def _chosen(self, told: OpenRun) -> Track | None:
        key = self.tracks.cursor_key
        return next((track for track in told.tracks if track.id == key), None)

    def action_follow(self) -> None:
        self._follow = not self._follow
        self._followed = None
        self._again()

    def action_filter(self) -> None:
        if self._focused_pane() == "log":
            self.query_one("#live-search", FilterLine).open()
        else:
            self.query_one("#live-filter", FilterLine).open()

    def action_next_hit(self) -> None:
        self._hit(1)

    def action_last_hit(self) -> None:
        self._hit(-1)

    def _hit(self, direction: int) -> None:
        if not self.log_view.next_hit(direction):
            self.say("nothing found" if self.log_view.query_text else "/ in the log searches it")

    # --- charts ----------------------------------------------------------------------------------

    def _chart(self) -> Chart:
        return self.query_one("#look", Chart) if self._focused_pane() == "look" else self.curve

    def action_next_metric(self) -> None:
        told = self._snapshot.open
        names = list(told.metrics) if told is not None else []
        if names:
            at = names.index(self._metric) if self._metric in names else -1
            self._metric = names[(at + 1) % len(names)]
            columns = [c if c.key != "value" else Column(
                "value", self._metric[:8], 8, 8, "right", priority=7)
                for c in live_view.COLUMNS]  # fmt: skip
            self.tracks.set_columns(columns)
            self._again()

    def action_log_y(self) -> None:
        self._chart().action_log_y()

    def action_log_x(self) -> None:
        self._chart().action_log_x()

    def action_smooth(self) -> None:
        self.curve.action_smoothing()
        self._again()

    def action_zoom_in(self) -> None:
        self._chart().action_zoom_in()

    def action_zoom_out(self) -> None:
        self._chart().action_zoom_out()

    def action_zoom_reset(self) -> None:
        self._chart().action_reset()

    def action_pan_left(self) -> None:
        self._chart().action_pan(-1)

    def action_pan_right(self) -> None:
        self._chart().action_pan(1)

    def action_band(self) -> None:
        self._band = not self._band
        self._again()

    def action_earlier(self) -> None:
        self._step_look(-1)

    def action_later(self) -> None:
        self._step_look(1)

    def _step_look(self, by: int) -> None:
        told = self._snapshot.open
        chosen = self._chosen(told) if told is not None else None
        count = len(told.looks.get(chosen.id, ())) if told is not None and chosen else 0
        if count:
            place = (count - 1 if self._place is None else self._place) + by
            self._place = None if place >= count - 1 else max(0, place)
            self._again()

    def action_pause(self) -> None:
        self._set_paused(not self._paused)
        self._again()

    def _set_paused(self, paused: bool) -> None:
        self._paused = self.curve.frozen = self.query_one("#look", Chart).frozen = paused

    # --- the run ---------------------------------------------------------------------------------

    def action_tail(self) -> None:
        self.log_view.toggle_tail()

    def run_at_hand(self) -> RunRow | None:
        return self._snapshot.open.row if self._snapshot.open is not None else None

    def runs_shown(self) -> str:
        return named([self._run], 60) if self._run else "no run"

    def action_data(self) -> None:
        row = self.run_at_hand()
        if row is not None:
            show_data(self, [Run(Home(self._snapshot.home), row.id)])

    def action_copy(self) -> None:
        told = self._snapshot.open
        if told is None:
            return
        if self._focused_pane() == "log":
            text = "\n".join(self.log_view.visible_lines)
        else:
            chosen = self._chosen(told)
            text = f"{told.row.id} {chosen.label}" if chosen is not None else told.row.id
            if chosen is not None:
                text += "".join(f" {name}={value:.6g}" for name, value in chosen.metrics.items())
        self.app.copy_to_clipboard(text)
        self.say("copied")
