"""The command palette: every action of this screen, every theme, every run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider

from console import themes
from console.actions import Action, actions_of
from console.screens.base import ConsoleScreen
from console.viewmodel import fuzzy

if TYPE_CHECKING:
    from console.app import ConsoleApp

MOST_RUNS = 2_000  # looked through in one search


class ActionProvider(Provider):
    @property
    def _console(self) -> ConsoleApp:
        app: ConsoleApp = self.app  # type: ignore[assignment]
        return app

    def _actions(self) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        mode = self.screen.MODE if isinstance(self.screen, ConsoleScreen) else ""
        for action in actions_of(mode, self._console.read_only):
            keys = " ".join(action.shown_keys)
            told = f"{keys}  {action.help}" if keys else action.help
            yield action.title, told, partial(self._run, action)
        for word, name in themes.NAMES.items():
            yield f"Theme {word}", "Use these colours.", partial(setattr, self.app, "theme", name)

    def _run(self, action: Action) -> Awaitable[Any]:
        # After the palette is gone, as if the key had been pressed.
        where = self.screen if action.screens else self.app
        return self.app.run_action(action.id, default_namespace=where)

    async def discover(self) -> Hits:
        for title, told, run in self._actions():
            yield DiscoveryHit(Text(title), run, text=title, help=told)

    async def search(self, query: str) -> Hits:
        for title, told, run in self._actions():
            score = max(fuzzy(query, title), fuzzy(query, told) / 3)
            if score:
                yield Hit(score, Text(title), run, text=title, help=told)
        for row in self._console.snapshot.runs[:MOST_RUNS]:
            score = fuzzy(query, f"{row.id} {row.title}") / 2
            if score:
                run = partial(self._console.watch_run, row.id)
                yield Hit(score, Text(f"Watch {row.id}"), run, text=row.id, help=row.title)
