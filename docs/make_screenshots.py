"""SVG pictures of the console for the README, made by the app itself: `make screenshots`.

python docs/make_screenshots.py HOME RUN     a home with a finished run of `quickstart`
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from console import state, themes
from console.app import ConsoleApp
from console.screens.compare import CompareScreen
from console.screens.live import LiveScreen
from console.watching.feed import SCORE
from engine.jobs.home import Home
from engine.jobs.runs import find

HERE = Path(__file__).parent
SIZE = (150, 38)
CURSOR, PINNED = "gd s0", ("ngd 0.3 s0",)  # models of the quickstart
PATIENCE = 600  # looks, a tenth of a second apart


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str) -> None:
    for _ in range(PATIENCE):
        if true():
            await pilot.pause(1.0)
            return
        await pilot.pause(0.1)
    raise SystemExit(f"waited in vain for {what}")


async def live(app: ConsoleApp, pilot: Pilot[Any]) -> None:
    """One unlearning under the cursor, two beside it, and the poison's scores."""
    await until(pilot, lambda: app.snapshot.open and app.snapshot.open.tracks, "the plan")
    screen = app.screen
    assert isinstance(screen, LiveScreen)
    assert app.snapshot.open is not None
    ids = {track.label: track.id for track in app.snapshot.open.tracks}
    for label in (*PINNED, CURSOR):
        screen.tracks.move_to(ids[label])
        await pilot.pause(0.2)
        if label in PINNED:
            await pilot.press("space")
    while screen._metric != SCORE:
        await pilot.press("m")
        await pilot.pause(0.1)

    def read() -> bool:
        told = app.snapshot.open
        return told is not None and len(told.curves) > len(PINNED) and bool(told.looks)

    await until(pilot, read, "curves and looks")


async def compare(app: ConsoleApp, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: app.snapshot.open, "the run")
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, CompareScreen), "the screen")
    screen = app.screen
    assert isinstance(screen, CompareScreen)
    await until(pilot, lambda: screen.comparison.lines, "the rows")


async def take(home: Home, run_id: str) -> None:
    for name, prepare in {"live": live, "compare": compare}.items():
        (home.root / state.NAME).unlink(missing_ok=True)  # nothing as it was last time
        app = ConsoleApp(home, run=run_id, theme=themes.DARK, read_only=True)
        async with app.run_test(size=SIZE) as pilot:
            await prepare(app, pilot)
            picture = app.export_screenshot(title="chelate")
        (HERE / f"{name}.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    home = Home(Path(sys.argv[1]))
    socket.gethostname = lambda: "host"  # whose machine it was is nobody's business
    asyncio.run(take(home, find(home, sys.argv[2]).id))


if __name__ == "__main__":
    main()
