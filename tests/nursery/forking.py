"""Supervisors and workers by fork, from a process that has loaded torch: milliseconds, not seconds.

    {"argv": [...], "env": {...}, "log": path, "options": {...}} on stdin → {"pid": n} on stdout

What runs is the engine's own supervisor and worker; only starting a program is replaced by forking
one. (Nothing has computed yet in this process: a fork after OpenMP has started threads would hang.)
It is the subreaper of all it leads to, so whoever is left behind becomes its child and is seen.

Options: `grace` (seconds until a worker is killed), `slow` (seconds that every stage sleeps first),
`deaf` (workers ignore SIGTERM), `offspring` (stages leave a child behind), `clock_back` (seconds by
which the clock is set back while the first stages run), `checkpoints` (as many as asked for), `umask`,
`script` (a file of Python that is run first, and may change the engine).
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SUBREAPER = 36
# What a worker would load stage by stage (torch._dynamo at the first step of an optimizer).
LOADED = (
    "PIL.Image", "safetensors.torch", "scipy.stats", "torch._dynamo", "engine.lab.stages",
    "engine.lab.models._layers", "engine.jobs.session", "engine.jobs.worker",
)  # fmt: skip


class Forked:
    """What the supervisor uses of subprocess.Popen, for workers."""

    def __init__(
        self, command: list[str], *, stdout: Any, env: Any, pass_fds: Any, **_: Any
    ) -> None:
        theirs, ours = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            become(command[4:], stdout.fileno(), env, theirs, set(pass_fds))
        os.close(theirs)
        self.stdin = os.fdopen(ours, "wb")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 1e9) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


def become(argv: list[str], output: int, env: Any, stdin: int, keep: set[int]) -> None:
    """Be the worker that would have been started."""
    from engine.jobs import worker

    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for source, target in ((stdin, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for name in sorted(path.name for path in Path("/proc/self/fd").iterdir()):
            if int(name) > 2 and int(name) not in keep:
                os.closerange(int(name), int(name) + 1)
        os.environ |= env
        gc.unfreeze = lambda: None  # what was loaded before the fork is looked at by nobody
        sys.stdin = os.fdopen(0, closefd=False)
        sys.argv = ["worker", *argv]
        worker.main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def supervise(order: dict[str, Any]) -> None:
    """Be a supervisor."""
    from engine.jobs import crashpoints, hired, session

    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ |= order["env"]
        crashpoints.arm(os.environ)
        hired.subprocess = SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE)
        alter(order["options"])
        sys.argv = ["session", *order["argv"]]
        session.main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def alter(options: dict[str, Any]) -> None:
    from engine.jobs import checkpoints, crew, worker
    from engine.lab.stages import RUN

    if "script" in options:
        runpy.run_path(options["script"])
    crew.GRACE = options.get("grace", 15.0)
    if "umask" in options:
        os.umask(options["umask"])
    if options.get("deaf"):
        worker.Worker._on_signal = lambda *_: None
    if options.get("checkpoints"):
        checkpoints.MOST_SHARE = 1.0
    if options.get("clock_back"):
        real, begin = time.time, time.monotonic()
        time.time = lambda: real() - options["clock_back"] * (time.monotonic() - begin > 0.2)
    for kind, function in list(RUN.items()):

        def altered(config: Any, context: Any, function: Any = function) -> float:
            if options.get("offspring"):
                subprocess.Popen(["sleep", "300"])
            time.sleep(options.get("slow", 0.0))
            return function(config, context)

        RUN[kind] = altered


def main() -> None:
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever ends is gone at once
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that looks at it all would make it its own, page by page

    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            supervise(order)
        print(json.dumps({"pid": pid}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
