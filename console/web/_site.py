"""The web server: one page, what the page is made of, and a websocket to a process for each.

Of textual-serve only the terminal in the browser is used (its static files); the rest of it trusts
whoever comes by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from console.output import complain
from console.web.bounds import GRACE, HEARTBEAT, MESSAGE, SESSIONS, fits
from console.web.gate import Address, Gate, Refused
from console.web.session import Session

PAGE = Path(__file__).with_name("page.html")
TOKEN = "token"  # noqa: S105  the name of a parameter
SHORTEST, LONGEST = 6, 64  # pixels of a letter
CHECKED = 60.0  # seconds between two looks at whether anybody is there

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """`app` is what aiohttp runs. `words` start a console; `idle`: seconds without any page until
    the server ends, 0 for never."""

    def __init__(
        self,
        gate: Gate,
        words: Sequence[str],
        static: Path,
        most: int = SESSIONS,
        idle: float = 0.0,
    ) -> None:
        self.gate, self.words, self.most, self.idle = gate, words, most, idle
        self._open: set[web.WebSocketResponse] = set()
        self._begun = 0  # sessions that begin, are under way or end
        self._seen = time.monotonic()
        # Looked up, never joined: what a visitor names reaches no file system.
        self._files = {
            f.relative_to(static).as_posix(): f for f in static.rglob("*") if f.is_file()
        }
        self._page = PAGE.read_text(encoding="utf-8")

        @web.middleware  # type: ignore[untyped-decorator]
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        self.app = web.Application(middlewares=[guard])
        self.app.add_routes(
            [
                web.get("/", self._index),
                web.get("/ws", self._websocket),
                web.get("/static/{name:.+}", self._file),
            ]
        )
        self.app.on_shutdown.append(self._close)

    # --- who gets in -----------------------------------------------------------------------------

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        address = None
        try:
            address = request["address"] = self._address(request)
            if request.path == "/" and TOKEN in request.query:
                response: web.StreamResponse = self._exchange(request, address)
            else:
                if not self.gate.knows(request.cookies.get(self.gate.cookie)):
                    raise Refused("Open the whole address that `chelate serve` printed.")
                response = await handler(request)
        except Refused as refused:
            response = web.Response(status=403, text=f"{refused}\n")
        except web.HTTPException as said:
            response = web.Response(status=said.status, text=f"{said.reason}\n")
        if not response.prepared:
            response.headers.update(_headers(address))
        return response

    def _address(self, request: web.Request) -> Address:
        """Where it was asked, by a page that may. Raises Refused."""
        headers = request.headers
        address = self.gate.address(headers.getall("Host", []))
        websocket = request.path == "/ws"
        self.gate.check_origin(address, headers.getall("Origin", []), needed=websocket)
        return address

    def _exchange(self, request: web.Request, address: Address) -> web.Response:
        """A cookie for the token, and an address without it. Raises Refused."""
        if not self.gate.opens(request.query[TOKEN]):
            raise Refused("That is no token of this server. It prints a new one at each start.")
        there = web.Response(status=303, headers={"Location": f"{address.path}/"})
        there.set_cookie(
            self.gate.cookie, self.gate.pass_, path=f"{address.path}/", httponly=True,
            samesite="Strict", secure=address.scheme == "https",
        )  # fmt: skip
        return there

    # --- pages -----------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        if self._begun >= self.most:
            raise web.HTTPServiceUnavailable(reason=f"{self.most} pages are open already")
        address: Address = request["address"]
        size = min(LONGEST, max(SHORTEST, _number(request.query.get("fontsize"), 16)))
        text = self._page.format(
            path=escape(address.path), websocket=escape(address.websocket), size=size
        )
        return web.Response(text=text, content_type="text/html")

    async def _file(self, request: web.Request) -> web.FileResponse:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(found)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        width = _number(request.query.get("width"), 80)
        height = _number(request.query.get("height"), 24)
        if not fits(width, height):
            raise web.HTTPBadRequest(reason="no screen is as large as that")
        if self._begun >= self.most:
            raise web.HTTPServiceUnavailable(reason=f"{self.most} pages are open already")
        self._begun += 1
        session = Session(self.words)
        try:
            page = web.WebSocketResponse(
                heartbeat=HEARTBEAT, max_msg_size=MESSAGE, compress=False, timeout=2.0
            )
            await page.prepare(request)
            self._open.add(page)
            try:
                await session.start(width, height)
                await _together(session.listen(page.send_bytes), _serve(page, session))
            except OSError as error:
                complain(f"a page's console: {error.strerror or error}")
            finally:
                self._open.discard(page)
                with contextlib.suppress(Exception):
                    await page.close()
        finally:
            try:
                code = await session.end()
            finally:
                session.kill()
                self._begun -= 1
                self._seen = time.monotonic()
        if code and session.said:
            complain(
                f"a page's console ended with {code}:\n{session.said.decode(errors='replace')}"
            )
        return page

    # --- the whole -------------------------------------------------------------------------------

    async def _close(self, _: web.Application) -> None:
        pages = [p.close(code=WSCloseCode.GOING_AWAY, message=b"ends") for p in self._open]
        await asyncio.gather(*pages, return_exceptions=True)

    async def run(self, where: tuple[str, int] | socket.socket, ready: Callable[[], None]) -> None:
        """Until a SIGINT or SIGTERM, or until nobody has been there for too long. Raises OSError."""
        runner = web.AppRunner(
            self.app, access_log=None, handle_signals=False, shutdown_timeout=GRACE + 2,
            keepalive_timeout=2 * HEARTBEAT,
        )  # fmt: skip
        await runner.setup()
        try:
            one = (
                web.TCPSite(runner, *where)
                if isinstance(where, tuple)
                else web.SockSite(runner, where)
            )
            await one.start()
            ready()
            over = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, over.set)
            await _together(_waited(over), self._alone())
        finally:
            await runner.cleanup()

    async def _alone(self) -> None:
        """Over when no page has been there for `idle` seconds."""
        while not self.idle or self._begun or time.monotonic() - self._seen < self.idle:
            await asyncio.sleep(min(CHECKED, self.idle or CHECKED))
        complain(f"No page was open for {self.idle / 3600:g} hours: the server ends.")


async def _waited(event: asyncio.Event) -> None:
    await event.wait()


async def _together(*jobs: Awaitable[None]) -> None:
    """Until one of them is over; then the others are, too. Raises what it raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except (ConnectionError, TimeoutError):
        pass  # a page or a process is gone: how it ends
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(page: web.WebSocketResponse, session: Session) -> None:
    """What the page says, to the process. Whoever says what no page says is shown out."""
    async for message in page:
        said = _understood(message)
        if said is None:
            await page.close(code=WSCloseCode.POLICY_VIOLATION, message=b"not understood")
            return
        kind, told = said
        if kind == "stdin":
            await session.type(told)
        elif kind == "resize":
            await session.tell("resize", width=told["width"], height=told["height"])
        elif kind == "ping":
            await page.send_json(["pong", told])
        else:
            await session.tell(kind)


def _understood(message: Any) -> tuple[str, Any] | None:
    """The kind of a message, and what it tells; None unless it is one of textual.js."""
    if message.type is not WSMsgType.TEXT:
        return None
    try:
        said = json.loads(message.data)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(said, list) and 1 <= len(said) <= 2 and isinstance(said[0], str)):
        return None
    kind, told = said[0], said[1] if len(said) == 2 else None
    match kind:
        case "stdin":
            right = isinstance(told, str)
        case "ping":
            right = isinstance(told, str) and len(told) < 100
        case "resize":
            right = isinstance(told, dict) and fits(told.get("width"), told.get("height"))
        case "focus" | "blur":
            right = True
        case _:
            right = False
    return (kind, told) if right else None


def _number(text: str | None, default: int) -> int:
    """Of a query's few digits; what is no number is as if it were not there."""
    if text is not None and text.isascii() and text.isdigit():
        return int(text[:9])
    return default


def _headers(address: Address | None) -> dict[str, str]:
    """Nothing of others in this page, this page in nothing of others, no trace of it anywhere."""
    socket = address.websocket.removesuffix(f"{address.path}/ws") if address else ""
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data:; font-src 'self' data:; connect-src 'self' {socket}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
