"""`chelate serve` as a visitor finds it: over its websocket, every key, every form."""

from __future__ import annotations

import asyncio
import contextlib
import json
import string
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console.actions import ACTIONS, MODES
from tests.console.homes import WrittenRun
from tests.console.staged import staged
from tests.console.visitor import MARK, PATIENCE, Browser, Served, browser, digest

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")

SPECIAL = (
    "\r", "\t", "\x1b[Z", "\x1b", "\x7f", "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~",
    "\x1b[H", "\x1b[F", "\x1b[3~", "\x1bOP", "\x1b[15~", "\x1b[21~",
    *(chr(n) for n in range(1, 27) if chr(n) not in "\r\t\n"),
)  # fmt: skip
KEYS = (*(c for c in string.printable if c.isprintable()), *SPECIAL)
SCREENS = "123456"
ERASE = "\x15"  # what the line suggests
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
    told = {"v": 1, "mode": "new", "run": "staged", "screens": {"new": draft}}
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
            await page.send("stdin", "3")
            await page.until("not computed")  # so that there is something to export
            while todo and not page.closed:
                screen, key = todo.pop()
                with contextlib.suppress(ConnectionError):  # some keys close the console
                    await page.type(screen)
                    await page.send("stdin", key)
                    await page.fence()
                    await page.send("stdin", path + "\r")  # in a list this chooses, and asks on
                    await page.fence()
                    await page.type(ERASE + path + "\r")
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


ASKING = {
    "filter",
    "search",
    "columns",
    "choose_runs",
    "palette",
    "jump",
    "data",
    "explain",
    "help",
}


def test_no_form_reaches_a_file(served: Served) -> None:
    """The keys of what changes something, where it is and where it is not, and of all that opens a
    dialog or a line to type in. `test_no_key_reaches_a_file` has the whole keyboard."""
    _watched(
        served,
        [
            (screen, action.keys[0])
            for screen, mode in zip(SCREENS, MODES, strict=True)
            for action in ACTIONS
            if mode in action.screens or (not action.screens and screen == "1")
            if action.keys and (action.changes or action.id in ASKING or mode == "new")
        ],
    )


@pytest.mark.slow
def test_no_key_reaches_a_file(served: Served) -> None:
    _watched(served, [(screen, key) for screen in SCREENS for key in KEYS])


def test_the_spy_sees_what_a_visitor_may_do_with_write(tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    one = Served(tmp_path, _home(tmp_path), "--write")
    target = tmp_path / MARK / "taken.tar.gz"

    async def drive() -> None:
        async with browser(one.socket) as visitor:
            await visitor.enter(one.token)
            async with visitor.page("?width=120&height=40") as page:
                await page.until("chelate")
                await page.send("stdin", "1")
                await page.until("staged")
                await page.send("stdin", "e")
                await page.until("without models")
                await page.type("\x15" + str(target))
                await page.until("taken")

    try:
        asyncio.run(drive())
        assert any("os.stat" in line for line in one.reached())
        assert "acts as you" in one.said
    finally:
        one.end()


def test_who_gets_in_and_what_is_left_behind(served: Served) -> None:
    async def drive() -> None:
        async with browser(served.socket) as visitor:
            assert (await visitor.get("/")).status == 403
            assert (await visitor.get("/?token=guess")).status == 403
            assert (await visitor.get("/static/js/textual.js")).status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with visitor.page():
                    pass
            answer = await visitor.get(f"/?token={served.token}")
            cookie = answer.headers["Set-Cookie"]
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            assert served.token not in cookie
            for _ in "reload", "second tab":
                page = await visitor.get("/")
                assert page.status == 200 and served.token not in await page.text()
            assert (await visitor.get("/static/js/textual.js")).status == 200
            for path in (
                "/static/",
                "/static/../__init__.py",
                f"/static/%2e%2e/{MARK}",
                "/download/x",
            ):
                assert (await visitor.get(path)).status == 404
            for host in ("evil.example", "[::1", "localhost@evil.example", "", "localhost:8000:1"):
                assert (await visitor.get("/", Host=host)).status in (400, 403)
            for host in ("localhost:9000", "127.0.0.1", "[::1]:9000", "LOCALHOST:8000"):
                assert (await visitor.get("/", Host=host)).status == 200
            for origin in ("http://localhost:9999", "https://localhost:8000", "null",
                           "chrome-extension://localhost:8000", "http://localhost"):  # fmt: skip
                assert (await visitor.get("/", Origin=origin)).status == 403
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    async with visitor.page(Origin=origin):
                        pass
            for query in (
                "?width=20000&height=20000",
                "?width=0&height=24",
                "?width=80&height=401",
            ):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    async with visitor.page(query):
                        pass
            assert served.consoles() == []
            async with visitor.page("?width=80&height=24") as page:
                await page.until("chelate")
                assert len(served.consoles()) == 1
                # A terminal's own word for its size, which no terminal of a browser sends.
                await page.type("\x1b[48;20000;20000;1;1t")
                await page.fence()
                assert len(page.shown) < 1_000_000
            async with asyncio.timeout(PATIENCE):
                while served.consoles():
                    await asyncio.sleep(0.05)
            async with visitor.page("?width=80&height=24") as page:
                await page.until("chelate")
                served.process.kill()  # nobody is left to end it
                left = served.consoles()
            assert len(left) == 1
            async with asyncio.timeout(PATIENCE):
                while psutil.pid_exists(left[0]):
                    await asyncio.sleep(0.05)

    asyncio.run(drive())
    assert served.reached() == []
