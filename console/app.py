"""The Textual app: modes, the tick that shows snapshots, memory, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.screen import Screen

from console import actions, crash, state, suspension, themes
from console.ringing import tell_end
from console.screens import make
from console.screens.base import ConsoleScreen
from console.viewmodel import OpenRun, RunRow, Snapshot
from console.watching.reader import Reader
from console.widgets import SpanApp
from console.widgets.bars import TitleBar
from engine.jobs import trash
from engine.jobs.home import Home
from engine.jobs.runs import ID

SAVE_EVERY, WATCH_EVERY = 1.0, 5.0  # seconds


class ConsoleApp(SpanApp[None]):
    """The console of one home folder. Closing it ends nothing but itself."""

    TITLE = "chelate"
    CSS_PATH = "screens/base.tcss"
    ENABLE_COMMAND_PALETTE = False  # ours opens with plain keys, too
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        mode: partial(make, mode) for mode in actions.MODES
    }
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings()]

    def __init__(
        self,
        home: Home,
        *,
        read_only: bool = False,
        ascii: bool = False,
        theme: str | None = None,
        run: str | None = None,
        bell: bool | None = None,
    ) -> None:
        """`run`: show this one live at once. What is not given is as it was last time.

        `read_only`: whoever sits there may be a stranger. Nothing is written, not even what the
        console remembers; screens and dialogs that ask for a path, or change a run, are not there.
        """
        self.home = home
        self.remembered = state.load(home.root)
        mode = "live" if run else self.remembered.get("mode")
        there = actions.modes(read_only)
        self.MODES = {mode: type(self).MODES[mode] for mode in there}  # type: ignore[misc]
        self.DEFAULT_MODE = mode if mode in there else "runs"  # type: ignore[misc]
        super().__init__()
        self.read_only, self.ascii = read_only, ascii
        self.rings = bool(self.remembered.get("bell")) if bell is None else bell
        self.over_ssh = "SSH_CONNECTION" in os.environ or "SSH_TTY" in os.environ
        self.rate = 5 if self.over_ssh else 10  # ticks a second
        self.animation_level = "none" if self.over_ssh else self.animation_level
        known = run or state.word(self.remembered.get("run")) or ""
        exists = ID.fullmatch(known) and (home.runs / known).is_dir()
        self.open_id = known if exists else None
        self.marked: set[str] = set()
        self.trashed: list[Path] = []
        self.reader = Reader(home, 1 / self.rate)
        self.snapshot: Snapshot = self.reader.snapshot
        self._published: tuple[object, ...] = ()
        self._restored: set[str] = set()
        self._ended = 0
        self._saved, self._next_save, self._next_watch = dict(self.remembered), 0.0, 0.0
        self._crash: Path | None = None
        self._farewell = ""
        for one in themes.THEMES:
            self.register_theme(one)
        chosen = theme or state.word(self.remembered.get("theme")) or themes.default_theme()
        self.theme = chosen if chosen in self.available_themes else themes.DARK

    # --- the tick --------------------------------------------------------------------------------

    def on_mount(self) -> None:
        if self.open_id:
            self.reader.open(self.open_id)
        self.reader.start()
        self.set_class(self.ascii, "-ascii")
        self.set_interval(1 / self.rate, self.tick)
        suspension.heed_stops(self, self._driver)
        with contextlib.suppress(RuntimeError, ValueError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)

    def tick(self) -> None:
        """Show the latest snapshot on the screen in front, if it is one of ours and new."""
        if not (self.is_running and self.screen_stack):  # closing, or between two modes
            return
        now = time.monotonic()
        screen = self.screen
        if isinstance(screen, ConsoleScreen) and self._published != self._to_publish(screen):
            self.publish_to(screen)
        for row in self.snapshot.ended[self._ended :]:
            tell_end(self, row)
        self._ended = len(self.snapshot.ended)
        if now >= self._next_save:
            self._next_save = now + SAVE_EVERY
            self._save()
        if now >= self._next_watch:
            self._next_watch = now + WATCH_EVERY
            if not (self.is_headless or self.is_web or sys.__stdin__.isatty()):  # type: ignore[union-attr]
                self.exit()  # the terminal is gone, and nobody sent a SIGHUP
            if not self.read_only:
                self.reader.do(partial(trash.sweep, self.home))

    def publish_to(self, screen: ConsoleScreen) -> None:
        self.snapshot = self._of_the_open_run(self.reader.snapshot)
        if not self.snapshot.loading:  # a run that is deleted and made again is another one
            self.marked &= {row.id for row in self.snapshot.runs}
        if not screen.is_mounted:
            return
        self._published = self._to_publish(screen)
        notes = [word for word, on in (("read-only", self.read_only), ("bell", self.rings)) if on]
        screen.query_one(TitleBar).publish(self.snapshot, notes)
        screen.publish(self.snapshot)

    def _to_publish(self, screen: ConsoleScreen) -> tuple[object, ...]:
        return self.reader.snapshot, self.open_id, screen

    def _of_the_open_run(self, snapshot: Snapshot) -> Snapshot:
        """The reader may need a moment to read the run that was opened: until then nothing is shown of
        the one that was open before."""
        if self.open_id is None or (snapshot.open and snapshot.open.row.id == self.open_id):
            return snapshot
        row = snapshot.run(self.open_id) or RunRow(self.open_id, self.open_id, state="reading")
        return replace(snapshot, open=OpenRun(row))

    def came_to_front(self, screen: ConsoleScreen) -> None:
        """A screen of ours is in front now: give it its memory and the latest snapshot."""
        if screen.MODE not in self._restored:
            self._restored.add(screen.MODE)
            told = self.remembered.get("screens", {})
            known = told.get(screen.MODE) if isinstance(told, dict) else None
            if isinstance(known, dict):
                screen.restore(known)
        self.publish_to(screen)

    # --- memory ----------------------------------------------------------------------------------

    def _save(self, now: bool = False) -> None:
        if self.read_only:
            return
        screens = dict(self._saved.get("screens") or {})
        front = self.screen_stack[0] if self.is_running and self.screen_stack else None
        if isinstance(front, ConsoleScreen) and front.MODE in self._restored:
            screens[front.MODE] = front.remember()
        told = {
            "v": state.VERSION, "mode": self.current_mode, "run": self.open_id,
            "theme": self.theme, "bell": self.rings, "screens": screens,
        }  # fmt: skip
        if told != self._saved and self.home.root.is_dir():
            self._saved = told
            if now:
                state.save(self.home.root, told)
            else:
                self.reader.do(partial(state.save, self.home.root, told))

    # --- actions ---------------------------------------------------------------------------------

    def open_run(self, run_id: str) -> None:
        """Read this run from now on; Live, Queue and Logs show it, and Compare where none is marked."""
        self.open_id = run_id
        self.reader.open(run_id)

    def open_first(self, snapshot: Snapshot) -> None:
        """Open a run under way, or else the newest, where none is open yet."""
        running = [row for row in snapshot.runs if row.state == "running"]
        if snapshot.runs and self.open_id is None:
            self.open_run((running or list(snapshot.runs))[0].id)

    def watch_run(self, run_id: str) -> None:
        """Open a run and show it live."""
        self.open_run(run_id)
        self.reader.refresh()
        self.action_show("live")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return actions.allowed(action, parameters, self.read_only)

    def push_screen(self, screen: Any, *words: Any, **named: Any) -> Any:
        """Textual's, of which everything comes to the front; in a console that only watches no
        dialog that asks for a path, or whether to change something, whatever called for it."""
        if self.read_only and getattr(screen, "CHANGES", False):
            self.notify("This console only watches.", severity="warning")
            return AwaitComplete()
        return super().push_screen(screen, *words, **named)

    def action_show(self, mode: str) -> None:
        if mode not in self.MODES or mode == self.current_mode:
            return
        self._save()
        self.switch_mode(mode)

    def action_help(self) -> None:
        from console.screens.help import HelpScreen

        if isinstance(self.screen, ConsoleScreen):
            self.push_screen(HelpScreen(self.screen, self.read_only))

    def action_palette(self) -> None:
        from textual.command import CommandPalette

        from console.screens.palette import ActionProvider

        if isinstance(self.screen, ConsoleScreen):
            self.push_screen(CommandPalette([ActionProvider]))

    def action_jump(self) -> None:
        from console.screens.jump import JumpScreen

        if isinstance(self.screen, ConsoleScreen):
            self.push_screen(JumpScreen(self.screen))

    def action_next_theme(self) -> None:
        names = list(themes.NAMES.values())
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]
        self.notify(f"theme {self.theme}", timeout=2)

    def action_ring(self) -> None:
        self.rings = not self.rings
        self.notify(f"bell and OSC 9 at the end of a run: {'on' if self.rings else 'off'}")

    def action_undo(self) -> None:
        from console.screens.acting import undo

        undo(self)

    def action_suspend_process(self) -> None:
        self._save()
        suspension.suspend(self, self._driver)

    async def action_quit(self) -> None:
        going_on = self.snapshot.count("running")
        if going_on:
            self._farewell = f"chelate: {going_on} run{'s' * (going_on > 1)} going on without me."
        self.exit()

    # --- the end ---------------------------------------------------------------------------------

    def exit(self, *args: Any, **options: Any) -> None:
        with contextlib.suppress(Exception):  # nothing may keep somebody from leaving
            self._save(now=True)
        super().exit(*args, **options)

    def on_unmount(self) -> None:
        self.reader.stop(0.5)

    def _handle_exception(self, error: Exception) -> None:
        """Textual's own door for what nobody caught. The report goes to a file: a traceback on a
        terminal over SSH is lost with the next clear."""
        if not self.read_only:
            self._crash = crash.report(self.home.root, error, self.size) or self._crash
        super()._handle_exception(error)

    def _print_error_renderables(self) -> None:
        if self._crash is None:
            super()._print_error_renderables()
            return
        self._exit_renderables.clear()
        crash.tell(self._crash)

    def say_farewell(self) -> None:
        if self._farewell and self._crash is None:
            sys.stderr.write(self._farewell + "\n")
