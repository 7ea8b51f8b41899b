"""The process behind one page, from the server's side: started, fed, listened to, and ended.

Its pipes carry packets: a letter (D for what a terminal would get, M for JSON about it), the size in
four bytes, and the payload (textual/drivers/web_driver.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from console.web.bounds import GRACE, PACKET

READY = b"__GANGLION__"
DRIVER = "console.web.driver:WebDriver"
STUCK = 10.0  # seconds for a process to take what it is sent
TOLD = 16 << 10  # bytes of what it says on stderr that are kept: the last


class Session:
    """`start`, then `listen` until it is over, and always `end`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.said = b""
        self._process: asyncio.subprocess.Process | None = None
        self._saying: asyncio.Task[None] | None = None

    async def start(self, width: int, height: int) -> None:
        """Raises OSError."""
        self._process = await asyncio.create_subprocess_exec(
            *self.words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(width, height),
            start_new_session=True,  # a Ctrl-C is the server's; it ends its sessions in order
        )
        self._saying = asyncio.create_task(self._hear())

    async def listen(self, show: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass on what it paints until it ends, or says that it will."""
        out = self._pipes()[1]
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while (await out.readuntil(b"\n")).rstrip() != READY:
                pass
            while True:
                head = await out.readexactly(5)
                size = int.from_bytes(head[1:], "big")
                if size > PACKET:
                    return
                payload = await out.readexactly(size)
                if head[:1] == b"D":
                    await show(payload)
                elif head[:1] == b"M" and json.loads(payload).get("type") == "exit":
                    return

    async def type(self, text: str) -> None:
        """Raises OSError, TimeoutError."""
        await self._send(b"D", text.encode("utf-8", "replace"))

    async def tell(self, kind: str, **facts: int) -> None:
        """`kind`: resize, focus, blur. Raises OSError, TimeoutError."""
        await self._send(b"M", json.dumps({"type": kind, **facts}).encode())

    async def end(self) -> int | None:
        """However it is: afterwards there is no process. Its exit code, None if it never began."""
        process = self._process
        if process is None:
            return None
        self._pipes()[0].close()  # which it takes for the end, whatever else it was sent
        draining = asyncio.create_task(self._drain())  # it may wait to get rid of a last picture
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        finally:
            draining.cancel()
            if self._saying is not None:
                self._saying.cancel()
        return process.returncode

    def kill(self) -> None:
        """At once, where there is no time to wait."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _pipes(self) -> tuple[StreamWriter, StreamReader, StreamReader]:
        process = self._process
        assert process and process.stdin and process.stdout and process.stderr
        return process.stdin, process.stdout, process.stderr

    async def _send(self, kind: bytes, payload: bytes) -> None:
        pipe = self._pipes()[0]
        pipe.write(kind + len(payload).to_bytes(4, "big") + payload)
        await asyncio.wait_for(pipe.drain(), STUCK)

    async def _hear(self) -> None:
        while data := await self._pipes()[2].read(4096):
            self.said = (self.said + data)[-TOLD:]

    async def _drain(self) -> None:
        while await self._pipes()[1].read(1 << 16):
            pass


def environment(width: int, height: int) -> dict[str, str]:
    """Ours, and what Textual's driver looks for; without what would make it write logs of its own."""
    own = {k: v for k, v in os.environ.items() if k not in ("TEXTUAL", "TEXTUAL_LOG")}
    asked: dict[str, Any] = {
        "TEXTUAL_DRIVER": DRIVER, "TEXTUAL_FPS": 60, "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM_PROGRAM": "textual", "COLUMNS": width, "ROWS": height,
    }  # fmt: skip
    return own | {name: str(value) for name, value in asked.items()}
