"""What a visitor can ask for at most; the server and the console's own process both hold to it."""

from __future__ import annotations

WIDEST, HIGHEST = (
    1_000,
    400,
)  # columns and lines: four 4K screens beside each other in small letters
MESSAGE = 64 << 10  # bytes of one message to the server; a longer paste ends the session
PACKET = 16 << 20  # bytes of one packet of a console's output
SESSIONS = 8  # pages at a time, by default; each is a process of about 100 MB
HEARTBEAT = 15.0  # seconds; a page that is silent for one and a half of them is gone
GRACE = 3.0  # seconds for a process to end by itself, once its page is gone
IDLE = 24.0  # hours without any page, by default, until the server ends


def fits(width: object, height: object) -> bool:
    """Whether these are columns and lines of a screen."""
    return (
        type(width) is int and type(height) is int and 0 < width <= WIDEST and 0 < height <= HIGHEST
    )
