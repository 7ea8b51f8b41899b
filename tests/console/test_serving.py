"""Who `chelate serve` lets in, how much it takes of whom, and where it listens."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from console import actions, serving
from console.web.bounds import HIGHEST, MESSAGE, WIDEST, fits
from console.web.gate import Gate, Refused, public_address
from engine.spec.errors import BadInput

LAB = public_address("https://lab.example/chelate")


@pytest.mark.parametrize(
    ("hosts", "root"),
    [
        (["localhost:8000"], "http://localhost:8000"),
        (["localhost:9000"], "http://localhost:9000"),  # ssh -L 9000:localhost:8000
        (["LocalHost"], "http://localhost"),
        (["127.0.0.1:80"], "http://127.0.0.1"),
        (["[::1]:1"], "http://[::1]:1"),
        (["lab.example"], "https://lab.example"),
        (["lab.example:443"], "https://lab.example"),
        (["lab.example:80"], None),
        (["evil.example"], None),
        (["localhost.evil.example"], None),
        (["evil.example:localhost"], None),
        (["localhost:8000", "evil.example"], None),
        (["[::1"], None),
        (["localhost:"], None),
        ([""], None),
        ([], None),
    ],
)
def test_it_answers_to_its_own_names(hosts: list[str], root: str | None) -> None:
    if root is None:
        with pytest.raises(Refused):
            Gate(LAB).address(hosts)
    else:
        assert Gate(LAB).address(hosts).root == root


@pytest.mark.parametrize(
    ("host", "origin", "right"),
    [
        ("localhost:8000", "http://localhost:8000", True),
        ("lab.example", "https://lab.example", True),
        ("localhost:8000", "http://localhost:9999", False),  # any other server of this machine
        ("localhost:8000", "http://localhost", False),
        ("localhost:8000", "https://localhost:8000", False),
        ("localhost:8000", "chrome-extension://localhost:8000", False),
        ("lab.example", "http://lab.example", False),
        ("localhost:8000", "http://evil.example", False),
        ("localhost:8000", "null", False),
        ("localhost:8000", "", False),
        ("localhost:8000", None, False),
    ],
)
def test_a_websocket_is_for_its_own_pages(host: str, origin: str | None, right: bool) -> None:
    gate = Gate(LAB)
    address, origins = gate.address([host]), [] if origin is None else [origin]
    if right:
        gate.check_origin(address, origins, needed=True)
    else:
        with pytest.raises(Refused):
            gate.check_origin(address, origins, needed=True)


def test_each_start_has_a_token_of_its_own() -> None:
    one, other = Gate(), Gate()
    assert one.opens(one.token) and one.knows(one.pass_)
    assert not one.opens(other.token) and not one.knows(other.pass_) and not one.knows(one.token)
    assert not one.opens("ü\ud800") and not one.opens("") and not one.knows(None)
    assert one.cookie != other.cookie
    assert one.token not in repr(one)


@pytest.mark.parametrize(
    "url", ["lab-3", "ftp://lab", "http://", "http://[::1", "http://a b/", "http://l/?a"]
)
def test_what_cannot_work_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--public-url"):
        serving.serve(tmp_path, public_url=url)
    with pytest.raises(BadInput, match="--public-url"):
        serving.serve(tmp_path, "0.0.0.0")
    with pytest.raises(BadInput, match="--port 0"):
        serving.serve(tmp_path, port=0)
    with pytest.raises(BadInput, match="--sessions 0"):
        serving.serve(tmp_path, sessions=0)
    with pytest.raises(BadInput, match="--idle nan"):
        serving.serve(tmp_path, idle=float("nan"))


def test_it_watches_only_unless_told_otherwise(tmp_path: Path) -> None:
    home = tmp_path / "a home; with $words"
    assert serving.console_words(home, False) == ["--home", str(home), "--read-only"]
    assert serving.console_words(home, True, ("--ascii",)) == ["--home", str(home), "--ascii"]


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    with pytest.raises(BadInput, match=r"pip install 'chelate\[web\]'"):
        serving.serve(tmp_path)


def test_a_socket_is_its_owners_and_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving.listening(path) as one:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        one.listen()
        with pytest.raises(BadInput, match="another server"), serving.listening(path):
            pass
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # by a server that was killed
    with serving.listening(path):
        pass
    path.write_text("mine")
    with pytest.raises(BadInput, match="no socket"), serving.listening(path):
        pass
    assert path.read_text() == "mine"


def test_a_console_that_only_watches_has_these_actions_and_no_other() -> None:
    """A new action is in this list only after somebody has thought about who may do it."""
    there = {a.id for mode in actions.modes(True) for a in actions.actions_of(mode, True)}
    assert there == set(WATCHING.split())
    gone = [a for a in actions.ACTIONS if a.id not in there]
    for action in gone:
        name, _, words = action.id.partition("(")
        parameters = (json.loads(words[:-1].replace("'", '"')),) if words else ()
        assert not actions.allowed(name, parameters, True), action.id
        assert actions.allowed(name, parameters, False)
    assert not actions.allowed("screenshot", (), True)  # Textual's own: it writes a file


WATCHING = """
show('runs') show('live') show('compare') show('queue') show('logs') help palette jump next_theme ring
suspend_process quit open filter sort mark unmark_all next_pane pin band next_metric log_y log_x smooth
zoom_in zoom_out zoom_reset pan_left pan_right earlier later full pause follow warnings data search
next_hit last_hit source tail copy drill back next_view choose_runs matrix group order columns pin_line
explain copy_line copy_table
"""


@pytest.mark.parametrize(
    ("width", "height", "right"),
    [
        (80, 24, True), (WIDEST, HIGHEST, True), (WIDEST + 1, 24, False), (20000, 20000, False),
        (0, 24, False), (-1, 24, False), (80.0, 24, False), ("80", 24, False), (True, 24, False),
        (float("inf"), 24, False), (None, None, False), (10**400, 24, False),
    ],
)  # fmt: skip
def test_a_screen_has_bounds(width: object, height: object, right: bool) -> None:
    assert fits(width, height) is right


# --- a server with a small program in place of consoles --------------------------------------------

ECHO = """
import os, sys
os.write(1, b"__GANGLION__\\n")
def show(data):
    os.write(1, b"D" + len(data).to_bytes(4, "big") + data)
show(os.environ["COLUMNS"].encode())
while data := os.read(0, 4096):
    show(data)
if sys.argv[1:] == ["deaf"]:
    import time
    time.sleep(600)
"""


def _visited(drive: Callable[[Any, Any], Awaitable[None]], *words: str, most: int = 2) -> None:
    """`drive` with a client that has the cookie already, and the site."""
    pytest.importorskip("aiohttp")
    from aiohttp.test_utils import TestClient, TestServer

    from console.web._site import Site

    async def run() -> None:
        gate = Gate()
        site = Site(gate, [sys.executable, "-c", ECHO, *words], Path(__file__).parent, most)
        async with TestClient(TestServer(site.app), cookies={gate.cookie: gate.pass_}) as client:
            await asyncio.wait_for(drive(client, site), 60)
        assert site._begun == 0

    asyncio.run(run())


def _connect(client: Any, query: str = "?width=90&height=24") -> Any:
    own = f"http://127.0.0.1:{client.port}"
    return client.ws_connect("/ws" + query, headers={"Origin": own}, max_msg_size=0)


@pytest.mark.parametrize(
    "message",
    [
        "[", "{}", "[]", "[1]", '["stdin"]', '["stdin", 1]', '["stdin", "a", "b"]', '["no"]',
        '["resize", {"width": 20000, "height": 20000}]', '["resize", {"width": 1e308, "height": 2}]',
        '["resize", {"width": true, "height": 2}]', '["resize", 5]', '["ping", []]', "[" * 5000,
        '["stdin", ' + "9" * 5000 + "]", '["resize", {"width": ' + "9" * 5000 + "}]",
        b"bytes", '["stdin", "' + "x" * MESSAGE + '"]',
    ],
    ids=lambda message: repr(message)[:30],
)  # fmt: skip
def test_whoever_says_what_no_page_says_is_shown_out(
    message: str | bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async def drive(client: Any, _: Any) -> None:
        async with _connect(client) as page:
            assert (await page.receive()).data == b"90"
            await (page.send_bytes if isinstance(message, bytes) else page.send_str)(message)
            while not page.closed:
                await page.receive()
            assert page.close_code in (1008, 1009)

    _visited(drive)
    assert capsys.readouterr() == ("", "")


def test_what_a_page_says_reaches_its_console() -> None:
    async def drive(client: Any, _: Any) -> None:
        async with _connect(client) as page:
            assert (await page.receive()).data == b"90"
            await page.send_str('["stdin", "k\\ud800"]')
            assert (await page.receive()).data == b"D\0\0\0\2k?"
            await page.send_json(["resize", {"width": 100, "height": 30, "more": 1}])
            told = json.loads((await page.receive()).data[5:])
            assert told == {"type": "resize", "width": 100, "height": 30}
            await page.send_json(["ping", "7"])
            assert (await page.receive()).data == '["pong", "7"]'

    _visited(drive)


def test_there_are_so_many_pages_and_no_more() -> None:
    async def drive(client: Any, site: Any) -> None:
        import aiohttp

        async with _connect(client), _connect(client):
            assert (await client.get("/")).status == 503
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await _connect(client)
        while site._begun:
            await asyncio.sleep(0.02)
        assert (await client.get("/")).status == 200

    _visited(drive)


def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    from console.web import session

    monkeypatch.setattr(session, "GRACE", 0.1)

    async def drive(client: Any, site: Any) -> None:
        async with _connect(client) as page:
            await page.receive()
        while site._begun:
            await asyncio.sleep(0.02)

    _visited(drive, "deaf")


def test_a_server_that_nobody_uses_ends(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("aiohttp")
    from console.web._site import Site

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = Site(Gate(), [], Path(__file__).parent, idle=0.05)
    asyncio.run(site.run(("127.0.0.1", port), lambda: None))
    assert "No page was open" in capsys.readouterr().err
