"""The console in a browser: what is asked of textual-serve, with a fake in its place."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chelate.pin import program
from console import serving
from engine.spec.errors import BadInput


class FakeServer:
    made: list[FakeServer]

    def __init__(self, command: str, host: str, port: int, title: str, public_url: str | None):
        self.command, self.host, self.port = command, host, port
        self.public_url = public_url or f"http://{host}:{port}"
        self.served = False
        FakeServer.made.append(self)

    def serve(self) -> None:
        self.served = True

    async def _make_app(self) -> Any:
        from aiohttp import web

        app = web.Application()

        async def page(_: web.Request) -> web.Response:
            return web.Response(text="the page")

        app.add_routes([web.get("/", page)])
        return app


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeServer]:
    package, module = ModuleType("textual_serve"), ModuleType("textual_serve.server")
    module.Server = FakeServer  # type: ignore[attr-defined]
    FakeServer.made = []
    monkeypatch.setitem(sys.modules, "textual_serve", package)
    monkeypatch.setitem(sys.modules, "textual_serve.server", module)
    return FakeServer


def test_it_watches_only_and_answers_here_unless_told_otherwise(
    tmp_path: Path, fake: type[FakeServer]
) -> None:
    home = tmp_path / "a home; with $words"
    serving.serve(home)
    serving.serve(home, "lab-3", 9000, write=True, options=("--theme", "safe"))
    quiet, open_ = fake.made
    assert (quiet.host, quiet.port, quiet.served) == ("localhost", 8000, True)
    words = shlex.split(quiet.command)
    assert words == [*program("console.cli"), "--home", str(home), "--read-only"]
    assert "--read-only" not in open_.command
    assert shlex.split(open_.command)[-2:] == ["--theme", "safe"]


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    with pytest.raises(BadInput, match=r"pip install 'chelate\[web\]'"):
        serving.serve(tmp_path)


def test_what_cannot_work_is_refused(tmp_path: Path, fake: type[FakeServer]) -> None:
    with pytest.raises(BadInput, match="--public-url"):
        serving.serve(tmp_path, "0.0.0.0")
    with pytest.raises(BadInput, match="--port 0"):
        serving.serve(tmp_path, port=0)
    with pytest.raises(BadInput, match="--public-url lab-3"):
        serving.serve(tmp_path, public_url="lab-3")
    assert not fake.made


OWN, EVIL = "http://localhost:8000", "http://evil.example"


@pytest.mark.parametrize(
    ("host", "origin", "answered"),
    [
        ("localhost:8000", None, True),
        ("127.0.0.1:8000", OWN, True),
        ("lab.example", "https://lab.example", True),
        ("localhost:8000", EVIL, False),
        ("localhost:8000", "null", False),
        ("localhost:8000", "", False),
        ("evil.example", None, False),
        ("evil.example", EVIL, False),
        ("", OWN, False),
    ],
)
def test_pages_of_others_cannot_reach_it(
    host: str, origin: str | None, answered: bool, fake: type[FakeServer]
) -> None:
    one = serving.guarded(fake)("", "localhost", 8000, "", "https://lab.example/chelate")
    assert one.answers(host, origin) is answered


def test_the_server_itself_asks(fake: type[FakeServer]) -> None:
    pytest.importorskip("aiohttp")
    from aiohttp.test_utils import TestClient, TestServer

    async def ask() -> list[int]:
        one = serving.guarded(fake)("", "localhost", 8000, "", OWN)
        async with TestClient(TestServer(await one._make_app())) as client:
            return [(await client.get("/", headers={"Origin": o})).status for o in (OWN, EVIL)]

    assert asyncio.run(ask()) == [200, 403]
