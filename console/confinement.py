"""A process that only watches: from here on nothing it runs can change a file or start a program.

The second wall of `--read-only`. The first is that the console has no way to it (console/actions.py,
ConsoleApp.push_screen); this one also holds for what somebody adds there and forgets to mark, and for
what a library does on its own account. It is made of Python's audit events, so that it binds Python
code: it is no sandbox for machine code.
"""

from __future__ import annotations

import os
import sys
from typing import Any

NOWHERE = (os.devnull,)
ASKED = ("squeue",)  # the only program a watcher starts: how a run on a cluster stands
CHANGING = frozenset(
    (
        "os.chflags", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.mkfifo", "os.mknod",
        "os.remove", "os.removexattr", "os.rename", "os.rmdir", "os.setxattr",
        "os.symlink", "os.truncate", "os.utime",
        "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn",
        "socket.bind", "socket.connect", "socket.sendto", "webbrowser.open",
    )
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_confined = False


def confine() -> None:
    """For good: an audit hook cannot be taken away. What is refused raises PermissionError, which
    everything that handles a full or read-only disk handles, too."""
    global _confined  # noqa: PLW0603  the hook is the process's
    sys.dont_write_bytecode = True
    if not _confined:
        _confined = True
        sys.addaudithook(_refuse)


def _refuse(event: str, words: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = words
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & WRITING
        if writes and path not in NOWHERE and not isinstance(path, int):  # descriptors are open
            raise PermissionError(f"{path}: not written, for this console only watches")
    elif event == "subprocess.Popen":
        program = words[1][0] if words[1] else words[0]
        if os.path.basename(os.fsdecode(program)) not in ASKED:  # noqa: PTH119  words, not a place
            raise PermissionError(f"{program}: not started, for this console only watches")
    elif event in CHANGING:
        raise PermissionError(f"{event}: not done, for this console only watches")
