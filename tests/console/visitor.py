"""A visitor of `chelate serve`: a browser's part, spoken by a test; and what its console did."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # seconds; only ever reached when something hangs
QUIET = 0.02  # seconds without a picture
WHOLE = 120 * 39  # bytes of a picture of the whole screen, at least
ROOT = Path(__file__).parents[2]
MARK = "V1S1T0R"  # in every path that a visitor names, and nowhere else
MOUTH = "http://localhost:8000"

# Imported by every Python before anything else: tells of whatever touches a path with MARK in it.
# No audit event tells of a stat, so that these functions tell themselves.
SPY = f"""
import os, sys
into = os.open(os.environ["CHELATE_TEST_SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def look(event, words):
    if {MARK!r} in repr(words):
        os.write(into, f"{{event}} {{words!r}}"[:300].encode("utf-8", "replace") + b"\\n")
sys.addaudithook(look)
for name in ("stat", "lstat", "access", "readlink", "statvfs", "pathconf"):
    def telling(*words, _name=name, _real=getattr(os, name), **named):
        look("os." + _name, words)
        return _real(*words, **named)
    setattr(os, name, telling)
"""


class Served:
    """`chelate serve` as a process, at a unix socket."""

    def __init__(self, folder: Path, home: Path, *options: str) -> None:
        self.folder, self.home = folder, home
        self.work, self.user = folder / "work", folder / "user"
        for place in (self.work, self.user, folder / "spy"):
            place.mkdir(exist_ok=True)
        self.socket = folder / "s"
        self.seen = folder / "seen.txt"
        (folder / "spy" / "sitecustomize.py").write_text(SPY)
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder / "spy"), *known])),
            "CHELATE_TEST_SEEN": str(self.seen),
            "HOME": str(self.user),
            "XDG_DATA_HOME": str(self.user / "data"),
        }
        words = ["--home", str(home), "--socket", str(self.socket), *options]
        command = [sys.executable, "-P", str(ROOT / "chelate" / "pin.py"), "console.cli", "serve"]
        self.process = subprocess.Popen(
            [*command, *words], cwd=self.work, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        while "Ctrl-C" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            self.said += line
        found = re.search(r"token=(\S+)", self.said)
        assert found
        self.token = found[1]

    def reached(self) -> list[str]:
        """What its processes did with paths of the visitor."""
        return self.seen.read_text().splitlines() if self.seen.exists() else []

    def consoles(self) -> list[int]:
        """The processes behind pages."""
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def end(self) -> str:
        """What it said on stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE)[1]


def digest(*folders: Path) -> str:
    """Of everything there: names, kinds, times of change, contents."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            facts = path.lstat()
            found.update(
                repr((str(path), facts.st_mode, facts.st_size, facts.st_mtime_ns)).encode()
            )
            if path.is_file():
                found.update(path.read_bytes())
    return found.hexdigest()


class Page:
    """An open websocket."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.shown = b""
        self.width = 120

    async def send(self, *words: object) -> None:
        await self.socket.send_json(list(words))

    async def type(self, text: str) -> None:
        await self.send("stdin", text)
        await self.settle()

    async def fence(self) -> None:
        """Until it has painted a whole screen after everything that was sent: of another size."""
        self.width = 241 - self.width
        await self.send("resize", {"width": self.width, "height": 40})
        end = time.monotonic() + 2.0
        while not self.closed and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                message = await self.socket.receive(timeout=0.2)
                if isinstance(message.data, bytes):
                    self.shown += message.data
                    if len(message.data) > WHOLE:
                        return

    async def settle(self, quiet: float = QUIET) -> None:
        """Until nothing is painted any more, or there is no page."""
        while not self.closed:
            try:
                message = await self.socket.receive(timeout=quiet)
            except TimeoutError:
                return
            if isinstance(message.data, bytes):
                self.shown += message.data

    async def until(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while text.encode() not in self.shown:
                assert not self.closed, self.shown[-2000:]
                await self.settle(0.1)

    async def gone(self) -> int:
        """Wait for the page to be closed; by which code."""
        async with asyncio.timeout(PATIENCE):
            while not self.closed:
                await self.settle(0.1)
        return int(self.socket.close_code)

    @property
    def closed(self) -> bool:
        return bool(self.socket.closed)


class Browser:
    """`get` and `page` with the headers that a browser sends, or others."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def get(self, path: str, **headers: str) -> Any:
        told = {"Host": "localhost:8000", **headers}
        answer = await self.client.get(MOUTH + path, headers=told, allow_redirects=False)
        await answer.read()
        return answer

    async def enter(self, token: str) -> None:
        answer = await self.get(f"/?token={token}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")

    @asynccontextmanager
    async def page(self, query: str = "", **headers: str) -> AsyncIterator[Page]:
        told = {"Origin": MOUTH, "Host": "localhost:8000", **headers}
        async with self.client.ws_connect(
            MOUTH + "/ws" + query, headers=told, max_msg_size=0
        ) as ws:
            yield Page(ws)


@asynccontextmanager
async def browser(socket: Path) -> AsyncIterator[Browser]:
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket)), cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as client:
        yield Browser(client)
