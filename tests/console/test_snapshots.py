"""Pictures of the screens, compared with the files in snapshots/.

    CHELATE_SNAPSHOTS=write python -m pytest tests/console/test_snapshots.py      draws them anew

The app runs under `run_test`, which raises what the app raised: a picture of a failure cannot
pass. Pictures belong to the versions of Textual and Rich that drew them; with others the test is
skipped, for every release moves something.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from importlib.metadata import version
from pathlib import Path

import homes
import pytest
from homes import WrittenRun, running_run
from test_app import opened, text_of, until

from console import themes
from console.viewmodel import Machine
from console.watching.machine import Meters

FOLDER = Path(__file__).parent / "snapshots"
DRAWN_BY = FOLDER / "versions.txt"
VERSIONS = f"textual {version('textual')}, rich {version('rich')}\n"
THEN = 1_790_000_000.0
# name → size, keys from Live on, theme, ascii
PICTURES: dict[str, tuple[tuple[int, int], tuple[str, ...], str, bool]] = {
    "runs": ((80, 24), ("1",), themes.DARK, False),
    "runs-wide": ((140, 40), ("1",), themes.DARK, False),
    "live": ((80, 24), (), themes.DARK, False),
    "live-look": ((80, 24), ("tab", "tab"), themes.DARK, False),
    "live-wide": ((140, 40), (), themes.DARK, False),
    "live-light": ((80, 24), (), themes.LIGHT, False),
    "live-safe": ((80, 24), (), themes.SAFE, False),
    "live-16": ((80, 24), (), themes.ANSI, False),
    "live-ascii": ((80, 24), ("tab", "tab"), themes.DARK, True),
    "live-no-colour": ((80, 24), (), themes.DARK, False),
    "queue": ((80, 24), ("5",), themes.DARK, False),
    "logs": ((80, 24), ("6", "j", "j", "j"), themes.DARK, False),
    "help": ((80, 24), ("?",), themes.DARK, False),
}


@pytest.fixture(autouse=True)
def same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still, a machine without a name, one time zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(homes, "clock", lambda: THEN)
    monkeypatch.setattr(time, "time", lambda: THEN + 42)
    monkeypatch.setattr(Meters, "read", lambda self: Machine("", 25.0, 4, 8 << 30, 32 << 30, 1.0))


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = os.environ.get("CHELATE_SNAPSHOTS") == "write"
    if not writing and (not DRAWN_BY.exists() or DRAWN_BY.read_text() != VERSIONS):
        pytest.skip(f"pictures were not drawn by {VERSIONS.strip()}")
    size, keys, theme, ascii_ = PICTURES[name]
    if name == "live-no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    run = running_run(tmp_path)
    run.output(run.key("gd"), "one\ntwo\n")
    failed = WrittenRun(tmp_path, "earlier", created=THEN)
    failed.session()
    failed.begin("none")
    failed.end("none", outcome="failed", reason="diverged at step 7: the loss is nan")
    failed.ended("failed")

    file = FOLDER / f"{name}.svg"

    async def draw() -> str:
        async with opened(tmp_path, size, theme=theme, ascii=ascii_, run=run.id) as (app, pilot):
            # All of Live first: below a dialog nothing is painted any more.
            await until(pilot, lambda: all(w in text_of(app) for w in ("2/13", "+6.7", "n=1")))
            for key in keys:
                await pilot.press(key)
                await pilot.pause(0.1)
            await until(pilot, lambda: not getattr(app.reader._feed, "behind", True))
            await pilot.pause(0.6 if writing else 0.05)
            for path in app.screen.query("#logs-path"):
                path.update("…")  # type: ignore[attr-defined]
            await pilot.pause()
            for _ in range(1 if writing else 100):  # a busy machine paints later
                picture = normal(app.export_screenshot(title=name))
                if not writing and picture == file.read_text(encoding="utf-8"):
                    break
                await pilot.pause(0.1)
            return picture

    drawn = asyncio.run(draw())
    run.release()
    if writing:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(drawn, encoding="utf-8")
        DRAWN_BY.write_text(VERSIONS)
    if drawn != file.read_text(encoding="utf-8"):
        seen = tmp_path / file.name
        seen.write_text(drawn, encoding="utf-8")
        raise AssertionError(f"{seen} is not {file}: look at both, then draw anew if it is right")


def normal(svg: str) -> str:
    """Without the names Rich makes up."""
    return re.sub(r"terminal-\d+", "terminal", svg)
