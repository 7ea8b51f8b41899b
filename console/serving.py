"""`chelate serve`: the console in a browser, to watch only unless told otherwise.

Whoever opens the page gets a console of their own, a process that ends with the page. What gets in,
and what it can do once it is in, is described for people in docs/serve.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import math
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from chelate.pin import program
from console.output import say
from console.web.bounds import IDLE, SESSIONS
from console.web.gate import Address, Gate, public_address
from engine.jobs.home import resolve_home
from engine.spec.errors import BadInput

EXTRA = "pip install 'chelate[web]'"
LOCAL = "localhost"
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  what is asked for, not bound to by default
MOST_SESSIONS, LONGEST_IDLE = 200, 24.0 * 365  # pages, hours
PERMITS = (
    "--write: whoever has this address acts as you on this machine: starts, stops and deletes runs, "
    "and reads and writes files wherever you may."
)


def serve(
    home: Path | None,
    host: str = LOCAL,
    port: int = 8000,
    public_url: str | None = None,
    write: bool = False,
    options: tuple[str, ...] = (),
    path: Path | None = None,
    sessions: int = SESSIONS,
    idle: float = IDLE,
) -> None:
    """Serve until Ctrl-C. `options` are those of the console, such as --ascii; `path` is that of a
    unix socket to listen at, in place of host and port. Raises BadInput."""
    if not 0 < port < 65536:
        raise BadInput(f"--port {port}: must be from 1 to 65535.")
    if not 0 < sessions <= MOST_SESSIONS:
        raise BadInput(f"--sessions {sessions}: must be from 1 to {MOST_SESSIONS}.")
    if not (math.isfinite(idle) and 0 <= idle <= LONGEST_IDLE):
        raise BadInput(f"--idle {idle}: must be hours from 0 (never end) to {LONGEST_IDLE:g}.")
    gate = Gate(_public(host, port, public_url, path))
    words = [*program("console.cli"), *console_words(resolve_home(home), write, options)]
    static = _static()
    from console.web._site import Site

    site = Site(gate, words, static, sessions, idle * 3600)
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # what is refused is no news

    def ready() -> None:
        _announce(gate, host, port, path, write)

    try:
        if path is None:
            asyncio.run(site.run((host, port), ready))
        else:
            with listening(path) as sock:
                asyncio.run(site.run(sock, ready))
    except OSError as error:
        where = f"{host}:{port}" if path is None else str(path)
        raise BadInput(f"{where}: cannot be served: {error.strerror or error}.") from None


def console_words(home: Path, write: bool, options: tuple[str, ...] = ()) -> list[str]:
    """What the console of each page is told."""
    return ["--home", str(home), *(() if write else ("--read-only",)), *options]


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A unix socket there that nobody but its owner can open; gone afterwards. A socket that nobody
    listens at any more gives way, nothing else. Raises BadInput, OSError."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(kind):
            raise BadInput(f"--socket {path}: is there already, and is no socket.")
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(2.0)
            try:
                other.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise BadInput(f"--socket {path}: another server listens there.")
    with socket.socket(socket.AF_UNIX) as sock:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        own = path.lstat()
        try:
            yield sock
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), own):
                    path.unlink()


def _public(host: str, port: int, url: str | None, path: Path | None) -> Address | None:
    """The one address besides this machine's own names. Raises BadInput."""
    if url is None:
        if path is not None or host == LOCAL:
            return None
        if host in ANYWHERE:
            raise BadInput(
                f"--host {host}: give --public-url, too, the address that browsers use for this "
                f"machine, as in --public-url http://lab-3:{port}."
            )
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    address = public_address(url)
    if address is None:
        raise BadInput(f"--public-url {url}: must be as in http://lab-3:{port}.")
    return address


def _static() -> Path:
    """The files of the terminal in the browser. Raises BadInput."""
    found = importlib.util.find_spec("textual_serve")
    if found is None or not found.origin or importlib.util.find_spec("aiohttp") is None:
        raise BadInput(f"the browser needs textual-serve: {EXTRA}")
    return Path(found.origin).with_name("static")


def _announce(gate: Gate, host: str, port: int, path: Path | None, write: bool) -> None:
    own = gate.public or Address("http", f"{LOCAL}:{port}")
    say("Whoever has this address gets in, until this server ends:")
    say(f"  {own.root}{own.path}/?token={gate.token}")
    if path is not None and gate.public is None:
        say(f"It listens at {path}; from your own machine first:")
        say(f"  ssh -L {port}:{path} {socket.gethostname()}")
    elif host == LOCAL and gate.public is None and "SSH_CONNECTION" in os.environ:
        say(f"From your own machine first: ssh -L {port}:{host}:{port} {socket.gethostname()}")
    say(f"{PERMITS if write else 'It only watches.'} Ctrl-C ends it.")
    sys.stdout.flush()
