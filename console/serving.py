"""`chelate serve`: the console in a browser, by textual-serve (an extra of its own).

Whoever opens the page gets a console of their own, a process that ends with the page. The page
has no password, so that it answers on this machine alone and only watches unless told otherwise;
and it talks only to pages it served itself: any other web page that happens to be open in the
same browser could otherwise reach it, too.
"""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chelate.pin import program
from console.output import say
from engine.jobs.home import resolve_home
from engine.spec.errors import BadInput

EXTRA = "pip install 'chelate[web]'"
LOCAL = ("localhost", "127.0.0.1", "::1")
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  what is asked for, not bound to by default


def serve(
    home: Path | None,
    host: str = LOCAL[0],
    port: int = 8000,
    public_url: str | None = None,
    write: bool = False,
    options: tuple[str, ...] = (),
) -> None:
    """Serve until Ctrl-C. `options` are those of the console, such as --ascii. Raises BadInput."""
    if not 0 < port < 65536:
        raise BadInput(f"--port {port}: must be from 1 to 65535.")
    if host in ANYWHERE and public_url is None:
        raise BadInput(
            f"--host {host}: give --public-url, too, the address that browsers use for this "
            f"machine, as in --public-url http://lab-3:{port}."
        )
    if public_url is not None and not urlsplit(public_url).hostname:
        raise BadInput(f"--public-url {public_url}: must be as in http://lab-3:{port}.")
    try:
        module = importlib.import_module("textual_serve.server")
    except ImportError:
        raise BadInput(f"the browser needs textual-serve: {EXTRA}") from None
    command = console_command(resolve_home(home), write, options)
    served = guarded(module.Server)(
        command, host=host, port=port, title="chelate", public_url=public_url
    )
    if write:
        say("Whoever opens the page can start, stop and delete runs.")
    try:
        served.serve()
    except OSError as error:
        raise BadInput(f"{host}:{port}: cannot be served: {error.strerror or error}.") from None


def console_command(home: Path, write: bool, options: tuple[str, ...] = ()) -> str:
    """What each page runs. textual-serve gives it to a shell: every word is quoted."""
    watching = () if write else ("--read-only",)
    words = [*program("console.cli"), "--home", str(home), *watching, *options]
    return shlex.join(words)


def guarded(server: type[Any]) -> type[Any]:
    """textual-serve's Server, answering only to its own name and to its own pages."""

    class Guarded(server):  # type: ignore[misc]
        def answers(self, host: str, origin: str | None) -> bool:
            """By a request's headers; a browser always tells the page's Origin to a websocket."""
            own = {*LOCAL, self.host, urlsplit(self.public_url).hostname}
            asked = urlsplit(f"//{host}").hostname
            return asked in own and (origin is None or urlsplit(origin).hostname in own)

        async def _make_app(self) -> Any:
            from aiohttp import web

            app = await super()._make_app()

            async def check(request: Any, handler: Any) -> Any:
                if not self.answers(request.host, request.headers.get("Origin")):
                    raise web.HTTPForbidden(text="This page is not of this server.\n")
                return await handler(request)

            app.middlewares.append(web.middleware(check))
            return app

    return Guarded
