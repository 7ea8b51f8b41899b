"""What all screens have in common: a title line, a body, a line of keys, and one `publish` a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from console.actions import allowed, bindings
from console.characters import in_ascii
from console.viewmodel import Snapshot
from console.widgets.bars import KeyBar, TitleBar

if TYPE_CHECKING:
    from console.app import ConsoleApp

SMALLEST = (60, 15)  # below this a screen only says that it is too small


class ConsoleScreen(Screen[None]):
    """A mode of the console. Subclasses set MODE and HELP, yield their widgets from `body`, and
    fill them in `publish`; their actions come from the registry by MODE.

    Classes set by size: -narrow or -wide (110 columns), -low or -high (32 lines), -tiny.
    """

    MODE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""  # a paragraph for the help screen: what this screen shows
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]  # noqa: RUF012

    def __init_subclass__(cls, **options: Any) -> None:
        own = bindings(cls.MODE) if cls.MODE else []
        cls.BINDINGS = [*cls.__dict__.get("BINDINGS", []), *own]
        super().__init_subclass__(**options)

    @property
    def chelate(self) -> ConsoleApp:
        app: ConsoleApp = self.app  # type: ignore[assignment]
        return app

    def compose(self) -> ComposeResult:
        yield TitleBar(self.MODE)
        yield Static(id="too-small", markup=False)
        yield from self.body()
        yield KeyBar(self.MODE)

    def body(self) -> ComposeResult:
        """The widgets between the title and the keys."""
        yield from ()

    def publish(self, snapshot: Snapshot) -> None:
        """Show a snapshot. Called on the UI thread, only while this screen is the one in front."""

    def remember(self) -> dict[str, Any]:
        """What of this screen should be as it was when the console is opened again (JSON)."""
        return {}

    def restore(self, told: dict[str, Any]) -> None:
        """Undo `remember`. What is told may come from another version: ignore what does not fit."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return allowed(action, parameters, self.chelate.read_only)

    def say(self, text: str, level: str = "information") -> None:
        """A passing message. Markup in it is shown as it is."""
        text = in_ascii(text) if self.chelate.ascii else text
        self.app.notify(text, severity=level, markup=False)  # type: ignore[arg-type]

    def on_resize(self) -> None:
        width, height = self.size
        tiny = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(tiny, "-tiny")
        if tiny:
            need = f"chelate needs {SMALLEST[0]}x{SMALLEST[1]}, this is {width}x{height}"
            self.query_one("#too-small", Static).update(need)

    def on_screen_resume(self) -> None:
        self.chelate.came_to_front(self)
