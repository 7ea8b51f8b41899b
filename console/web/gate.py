"""Who gets in: by the name the server was asked by, by the page that asks, and by a token.

The token is new at each start, in the address that is printed. The first request with it gets a cookie
in exchange; from then on the address holds no secret that a screenshot or a history would keep. Host
keeps out other names for this machine (DNS rebinding), Origin other pages of the same browser.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


class Refused(Exception):
    """Why somebody does not get in, in words for them."""


@dataclass(frozen=True)
class Address:
    """Where a browser believes to be: `root` is it without a path, `path` ends in no slash."""

    scheme: str
    host: str
    path: str = ""

    @property
    def root(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def websocket(self) -> str:
        return f"{'wss' if self.scheme == 'https' else 'ws'}://{self.host}{self.path}/ws"


def public_address(url: str) -> Address | None:
    """Of a --public-url; None if it is none."""
    try:
        parts = urlsplit(url)
        host = normal(parts.netloc, parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in PORTS or host is None or parts.query or parts.fragment:
        return None
    return Address(parts.scheme, host, parts.path.rstrip("/"))


def normal(host: str, scheme: str) -> str | None:
    """A Host header as everybody would write it, without the scheme's own port; None for none."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return None
    name, port = found.groups()
    return name if port in (None, PORTS.get(scheme)) else f"{name}:{int(port)}"


@dataclass(frozen=True)
class Gate:
    """`public`: the one address that is not loopback, at which it answers."""

    public: Address | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    # Browsers share cookies among all ports of a machine: its own name for each server.
    cookie: str = field(default_factory=lambda: f"chelate-{secrets.token_hex(4)}")
    pass_: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def address(self, hosts: list[str]) -> Address:
        """By the Host headers of a request, of which there must be one. Raises Refused."""
        host = hosts[0] if len(hosts) == 1 else ""
        if self.public is not None and normal(host, self.public.scheme) == self.public.host:
            return self.public
        local = normal(host, "http")
        if local is not None and re.sub(r":\d+$", "", local) in LOOPBACK:
            return Address("http", local)
        raise Refused("This server does not answer to that name; --public-url gives it one.")

    def check_origin(self, address: Address, origins: list[str], needed: bool = False) -> None:
        """Origin is the page's that asks; browsers always tell it to a websocket. Raises Refused."""
        if origins != [address.root] and (origins or needed):
            raise Refused("That page is not of this server.")

    def knows(self, cookie: str | None) -> bool:
        return cookie is not None and _same(cookie, self.pass_)

    def opens(self, token: str) -> bool:
        return _same(token, self.token)


def _same(one: str, other: str) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
