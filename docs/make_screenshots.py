"""SVG pictures of the console for the README, made by the app itself: `make screenshots`.

python docs/make_screenshots.py HOME RUN     a home with a finished (or running) run
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from console.app import ConsoleApp
from console.themes import DARK
from engine.jobs.home import Home
from engine.jobs.runs import find

HERE = Path(__file__).parent
SIZE = (140, 40)
# File → keys from Live on; "…" waits.
PICTURES = {"live.svg": ("G", "…"), "compare.svg": ("3", "…", "…")}


async def take(home: Home, run_id: str) -> None:
    for name, keys in PICTURES.items():
        app = ConsoleApp(home, run=run_id, theme=DARK, read_only=True)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.pause(2.0)
            for key in keys:
                await (pilot.pause(1.5) if key == "…" else pilot.press(key))
            (HERE / name).write_text(app.export_screenshot(title="chelate"), encoding="utf-8")


def main() -> None:
    home = Home(Path(sys.argv[1]))
    asyncio.run(take(home, find(home, sys.argv[2]).id))


if __name__ == "__main__":
    main()
