"""The first and the last line of every screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from console.actions import MODES, actions_of
from console.viewmodel import Snapshot
from console.widgets import fitted

if TYPE_CHECKING:
    from console.app import ConsoleApp

Part = tuple[str, str]  # text, and the name of a component style


class Line(Widget):
    """One line of parts; what does not fit is left out from the right."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line--key",
        "line--muted",
        "line--bad",
        "line--good",
        "line--here",
    }
    DEFAULT_CSS = """
    Line { height: 1; width: 1fr; }
    Line .line--key { color: $accent; text-style: bold; }
    Line .line--here { text-style: reverse; }
    Line .line--muted { color: $foreground 60%; }
    Line .line--bad { color: $error; text-style: bold; }
    Line .line--good { color: $success; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts: list[Part] = []
        self._right: list[Part] = []

    def show(self, parts: list[Part], right: list[Part] | None = None) -> None:
        """Repaints only from where the text differs."""
        old, width = self._text(), self.size.width
        self._parts, self._right = parts, right or []
        new = self._text()
        if old == new:
            return
        same = 0
        old_text, new_text = "".join(p[0] for p in old), "".join(p[0] for p in new)
        if old_text.isascii() and new_text.isascii() and [p[1] for p in old] == [p[1] for p in new]:
            while same < min(len(old_text), len(new_text)) and old_text[same] == new_text[same]:
                same += 1
        self.refresh(Region(same, 0, max(1, width - same), 1))

    def _text(self) -> list[Part]:
        width = self.size.width
        right_width = sum(cell_len(text) for text, _ in self._right)
        room = width - right_width
        shown: list[Part] = []
        for text, style in self._parts:
            if cell_len(text) > room:
                shown.append((fitted(text, room), style))
                room = 0
                break
            shown.append((text, style))
            room -= cell_len(text)
        return [*shown, (" " * max(0, room), ""), *self._right]

    def render_line(self, y: int) -> Strip:
        segments = [Segment(text, self._paint(style)) for text, style in self._text()]
        return Strip(segments).crop_extend(0, self.size.width, self.rich_style)

    def _paint(self, name: str) -> Style:
        return self.get_component_rich_style(f"line--{name}") if name else self.rich_style


class TitleBar(Line):
    """Where we are, what this machine does, and how many runs there are in which state."""

    DEFAULT_CSS = """
    TitleBar { background: $panel; }
    """

    def __init__(self, mode: str) -> None:
        super().__init__(id="title-bar")
        self.mode = mode

    def publish(self, snapshot: Snapshot, notes: list[str]) -> None:
        machine = snapshot.machine
        parts: list[Part] = [("chelate ", "key")]
        if machine.host:
            parts.append((f" {machine.host} ", "muted"))
        if machine.cpu is not None:
            parts.append((f" cpu {machine.cpu:3.0f}% ", ""))
        for gpu in machine.gpus[:4]:
            busy = f" {gpu.busy:3.0f}%" if gpu.busy is not None else ""
            parts.append((f" gpu{gpu.index}{busy} {gpu.used >> 30}/{gpu.total >> 30}G ", ""))
        parts.append((f" run {snapshot.count('running')}", ""))
        parts.append((f" done {snapshot.count('done')}", ""))
        failed = snapshot.count("failed", "lost", "unreadable")
        if failed:
            parts.append((f" fail {failed}", "bad"))
        if snapshot.loading:
            parts.append((" reading …", "muted"))
        if snapshot.problem:
            parts.append((f" {snapshot.problem}", "bad"))
        parts += [(f" [{note}]", "muted") for note in notes]
        number = list(MODES).index(self.mode) + 1 if self.mode in MODES else 0
        self.show(parts, [(f" {number} {MODES.get(self.mode, self.mode)} ", "here")])


class KeyBar(Line):
    """The most useful keys of this screen, from the registry."""

    DEFAULT_CSS = """
    KeyBar { dock: bottom; background: $panel; }
    """

    def __init__(self, mode: str) -> None:
        super().__init__(id="key-bar")
        self.mode = mode

    def on_mount(self) -> None:
        self.refill()

    def on_resize(self) -> None:
        self.refill()

    def refill(self) -> None:
        """Own actions first, by their number; those for everybody always keep their place."""
        app: ConsoleApp = self.app  # type: ignore[assignment]
        actions = [a for a in actions_of(self.mode, app.read_only) if a.footer and a.keys]
        ascii_ = app.ascii
        left: list[Part] = []
        right: list[Part] = []
        for action in sorted(actions, key=lambda action: action.footer):
            key = action.keys[0] if ascii_ else action.shown_keys[0]
            part: list[Part] = [(f" {key}", "key"), (f" {action.title.lower()}", "")]
            (left if action.screens else right).extend(part)
        room = self.size.width - sum(cell_len(text) for text, _ in right) - 6
        used = 0
        kept: list[Part] = [(" 1-3 5 6" if app.read_only else " 1-6", "key")]
        for named, title in zip(left[::2], left[1::2], strict=True):
            used += cell_len(named[0]) + cell_len(title[0])
            if used > room:
                break
            kept += [named, title]
        self.show(kept, right)
