"""`chelate serve` as a visitor finds it: over its websocket, every key, every form."""

from __future__ import annotations

import asyncio
import contextlib
import json
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.actions import ACTIONS, MODES
from tests.console.homes import WrittenRun
from tests.console.staged import staged
from tests.console.visitor import MARK, Browser, Served, browser, digest

pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")

SPECIAL = (
    "\r", "\t", "\x1b[Z", "\x1b", "\x7f", "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~",
    "\x1b[H", "\x1b[F", "\x1b[3~", "\x1bOP", "\x1b[15~", "\x1b[21~",
    *(chr(n) for n in range(1, 27) if chr(n) not in "\r\t\n"),
)  # fmt: skip
KEYS = (*(c for c in string.printable if c.isprintable()), *SPECIAL)
SCREENS = "123456"
ESCAPE = "\x1b[27u"  # whatever follows it, and however soon


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path, _home(tmp_path))
    yield one
    one.process.kill()
    one.process.communicate()


def _home(folder: Path) -> Path:
    """With results to compare, a run that failed, and an owner who left in the middle of a draft."""
    home = staged(folder).home.root
    run = WrittenRun(home, "toy")
    run.session()
    run.output(run.begin("gd"), "a line\nanother\n")
    run.end("gd", outcome="failed", reason="it broke")
    run.ended("failed", "it broke")
    draft = {"raw": {"title": "mine"}, "name": "mine", "origin": "quickstart", "before": {}}
    told = {"v": 1, "mode": "new", "run": run.id, "screens": {"new": draft}}
    (home / "console.json").write_text(json.dumps(told))
    (folder / MARK).mkdir()
    (folder / MARK / "secret.txt").write_text("nobody's business")
    return home


async def _tour(visitor: Browser, todo: list[tuple[str, str]], path: str) -> None:
    """Each of these keys on its screen, then a path into whatever has opened, and out again."""
    todo = todo[::-1]
    while todo:
        async with visitor.page("?width=120&height=40") as page:
            await page.until("chelate")
            while todo and not page.closed:
                screen, key = todo.pop()
                with contextlib.suppress(ConnectionError):  # some keys close the console
                    await page.type(screen)
                    await page.type(key)
                    await page.type(path + "\r")
                    await page.type(ESCAPE * 2)


def _watched(served: Served, keys: list[tuple[str, str]]) -> None:
    places = (served.home, served.work, served.user, served.folder / MARK)
    before = digest(*places)

    async def drive() -> None:
        async with browser(served.socket) as visitor:
            await visitor.enter(served.token)
            await _tour(visitor, keys, str(served.folder / MARK / "secret.txt"))

    asyncio.run(drive())
    assert served.reached() == []
    assert digest(*places) == before
    assert served.end() == ""


def test_no_key_and_no_form_reaches_a_file(served: Served) -> None:
    """Every action's keys, where they are; `test_no_key_at_all` presses all of a keyboard."""
    _watched(
        served,
        [
            (screen, key)
            for screen, mode in zip(SCREENS, MODES, strict=True)
            for action in ACTIONS
            if mode in action.screens or (not action.screens and screen == "1")
            for key in action.keys
            if len(key) == 1 and key != "q"
        ],
    )


@pytest.mark.slow
def test_no_key_at_all_reaches_a_file(served: Served) -> None:
    _watched(served, [(screen, key) for screen in SCREENS for key in KEYS])
