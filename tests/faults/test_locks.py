"""Who holds a lock and does not move, stores that cannot be read, streams that are closed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import COMMAND, TINY, Computed, called, computed, environment, session_folder, until
from nursery import Nursery

from console import streams
from console.running import run_preset
from engine.jobs import locks, session, trash
from engine.jobs.devices import Resources
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.lease import computed_by
from engine.jobs.runs import Run, every, find
from engine.spec.errors import BadInput

Note = Callable[[str, object], None]
HOLDS = """
import sys, time
from pathlib import Path
from engine.jobs.home import Home
with Home(Path(sys.argv[1])).plans(alone=sys.argv[2] == "alone"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Computed:
    with nursery.starts_all():
        return computed(session_folder(tmp_path_factory), text=TINY, command=called)


@contextlib.contextmanager
def stopped(script: str, *words: str) -> Iterator[int]:
    """A process that says "held", and is stopped then."""
    holder = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{holder.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


@pytest.mark.fault(
    "a stopped process holds the lock on a home's plans (SIGSTOP, a debugger)",
    seen="plans.lock is held by process <pid> …, which is stopped, since …; exit code 2 after 15 s",
)
@pytest.mark.parametrize("how", ["alone", "shared"])
def test_a_stopped_holder_of_a_lock(
    shared: Computed, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, record_property: Note,
) -> None:  # fmt: skip
    home = shared.copy(tmp_path)
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    monkeypatch.setattr(locks, "QUIET", 0.1)
    with stopped(HOLDS, str(home), how) as pid:
        commands = [("rm", shared.run, "-y", "--home", home)]
        if how == "alone":  # others share it
            commands.append(("run", shared.preset, "--home", home))
        for words in commands:
            done = called(*words)
            assert done.returncode == 2, done.stderr
            for told in (f"{home}/plans.lock is held by process {pid} of ", "which is stopped",
                         "since 20", f"kill -CONT {pid}"):  # fmt: skip
                assert told in done.stderr
            assert f"waiting for {home}/plans.lock, held by process {pid}" in caplog.text
        assert find(Home(home), shared.run)
    done = called("rm", shared.run, "-y", "--home", home)
    assert done.returncode == 0, done.stderr
    record_property("happened", "who, since when and what to do was told; nothing was lost")


def test_who_took_a_lock_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lock"
    path.write_text(
        '{"pid": 7, "host": "far", "t": 1e9}\nnonsense\n{"pid": [], "host": 1, "t": {}}\n'
    )
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    monkeypatch.setattr(locks, "_pids", lambda _: set())
    with (
        locks.holding(path, alone=True),
        pytest.raises(BadInput, match="look for it on far") as told,
        locks.holding(path, alone=False),
    ):
        raise AssertionError
    assert "process 7 on far, since 2001-09-09" in str(told.value)
    path.write_text("x" * (locks.LARGEST + 1))
    with locks.holding(path, alone=True):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_who_computes_a_stage_and_does_not_move(tmp_path: Path) -> None:
    key = "a" * 64
    script = "import sys,time; from pathlib import Path; from engine.jobs.lease import Lease\n"
    script += (
        f"Lease.acquire(Path(sys.argv[1]), {key!r}); print('held', flush=True); time.sleep(600)"
    )
    assert computed_by(tmp_path, key) == ""
    with stopped(script, str(tmp_path)) as pid:
        told = computed_by(tmp_path, key)
    assert told.startswith(f" (process {pid}, which is stopped, since 20") and "kill -CONT" in told


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "plans.lock").symlink_to("/dev/null")
    with pytest.raises(BadInput, match="cannot be opened"), Home(tmp_path).plans():
        raise AssertionError


@pytest.mark.fault(
    "standard output is lost while `run` looks on (a full disk, a reader that goes away), or closed",
    seen="standard output cannot be written: …; the run goes on; exit code 1 or 141, 0 if closed",
)
@pytest.mark.parametrize("code", [1, 141])
def test_output_that_is_lost(
    shared: Computed, tmp_path: Path, nursery: Nursery, code: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record_property: Note,
) -> None:  # fmt: skip
    home = shared.copy(tmp_path)  # half of it is there already
    if code == 1:
        lost = os.open("/dev/full", os.O_WRONLY)
    else:
        theirs, lost = os.pipe()
        os.close(theirs)
    stream = streams.Output(streams.Bytes(io.FileIO(lost, "wb")), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    with nursery.starts_all():
        assert run_preset(str(shared.preset), None, "0,2", home, None, False, True) == 0
        stream.flush()
    [run] = [run for run in every(Home(home)) if run.id != shared.run]
    assert run.state() == "done", "its work was over before the command was"
    assert f"Run {run.id} goes on: Ctrl-C stops it" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        streams._admit_loss()
    assert end.value.code == code
    stream.close()
    record_property("happened", "the run went to its end, and the command ended after it")


@pytest.mark.slow
@pytest.mark.parametrize(("redirected", "code"), [(">&-", 0), (">/dev/full", 1), ("| true", 141)])
def test_output_that_is_lost_by_the_real_command(
    shared: Computed, tmp_path: Path, redirected: str, code: int
) -> None:
    home = shared.copy(tmp_path)
    words = ["run", str(shared.preset), "--seeds", "0,2", "--home", str(home)]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" "$@" {redirected}', COMMAND, *words],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    [run] = [run for run in every(Home(home)) if run.id != shared.run]
    assert done.returncode == code, done.stderr
    assert run.state() == "done", "its work was over before the command was"
    assert "Traceback" not in done.stderr
    assert ("goes on: Ctrl-C stops it" in done.stderr) == (code != 0)


@pytest.mark.fault(
    "a store, or results in it, that nobody here may read",
    seen="verify, exit code 1, and export, 2: <path> cannot be read: Permission denied",
)
@pytest.mark.parametrize("place", ["store", "store/objects", "object", "artifact"])
def test_what_cannot_be_read_is_not_called_whole(
    shared: Computed, tmp_path: Path, place: str, record_property: Note
) -> None:
    home = shared.copy(tmp_path)
    key = next(iter(find(Home(home), shared.run).plan.stages))
    folder = home / "store" / "objects" / key[:2] / key
    target = {"object": folder, "artifact": folder / "DONE.json"}.get(place, home / place)
    with not_ours(target), unprivileged():
        for words in (("verify",), ("verify", shared.run), ("verify", "--repair")):
            done = called(*words, "--home", home)
            assert done.returncode == 1, done.stdout + done.stderr
            assert "cannot be read: " in done.stdout and "Permission denied" in done.stdout
            told = json.loads(called(*words, "--home", home, "--json").stdout)
            assert told["unreadable"] and not told["damaged"]
        done = called("export", shared.run, tmp_path / "x.tgz", "--home", home)
        assert done.returncode == 2 and "Permission denied" in done.stderr, done.stderr
        assert not (tmp_path / "x.tgz").exists()
    assert called("verify", "--home", home).returncode == 0
    record_property("happened", "neither said that all is well, and --repair took nothing away")


def test_gc_where_runs_cannot_be_read(shared: Computed, tmp_path: Path) -> None:
    home = shared.copy(tmp_path)
    with not_ours(home / "runs"), unprivileged():
        done = called("gc", "--older-than", "0s", "--yes", "--home", home)
    assert done.returncode == 2 and "cannot be read" in done.stderr
    assert called("verify", "--home", home).returncode == 0


@contextlib.contextmanager
def not_ours(path: Path) -> Iterator[None]:
    """What lies at a path can be read by nobody but root."""
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root keeps its name, and may not open every file for a while; this thread only."""
    libc, header = ctypes.CDLL(None), Header(0x20080522, 0)
    before, data = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    if libc.capget(ctypes.byref(header), before) or libc.capget(ctypes.byref(header), data):
        pytest.skip("no capabilities here")
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert not libc.capset(ctypes.byref(header), data)
    try:
        yield
    finally:
        assert not libc.capset(ctypes.byref(header), before)


@pytest.mark.fault(
    "a home on a file system that is read-only",
    seen="<path>: Read-only file system; exit code 2",
)
def test_a_read_only_home(shared: Computed, tmp_path: Path, record_property: Note) -> None:
    home = shared.copy(tmp_path)
    (home / "runs" / shared.run / "session.json").unlink()  # as if it had been lost
    mount = ["mount", "--bind", "-o", "ro", str(home), str(home)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
    try:
        with pytest.raises(OSError, match="Read-only"):
            (home / "x").touch()
        for words in (("rm", shared.run, "-y"), ("run", shared.preset), ("retry", shared.run),
                      ("resume", shared.run), ("export", shared.run, home / "x.tgz")):  # fmt: skip
            done = called(*words, "--home", home)
            assert done.returncode == 2, (words, done.stderr)
            assert len(done.stderr.splitlines()) == 1, done.stderr
            if words[0] != "retry":
                assert "Read-only file system" in done.stderr, done.stderr
        for words in (("verify",), ("export", shared.run, tmp_path / "y.tgz")):
            assert called(*words, "--home", home).returncode == 0, words
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)
    record_property("happened", "one line each; looking and exporting elsewhere work as ever")


@pytest.mark.fault(
    "no process may be started any more (`ulimit -u`)",
    seen="its supervisor cannot be started: Resource temporarily unavailable (… `ulimit -u`)",
)
def test_no_process_may_be_started(
    shared: Computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    home = shared.copy(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(session.subprocess, "Popen", refused)
    monkeypatch.setattr("engine.jobs.session.start", STARTS)
    for more in ((), ("--detach",)):
        done = called("run", shared.preset, "--seeds", "2", *more, "--home", home)
        assert done.returncode == 2, done.stderr
        assert "cannot be started: Resource temporarily unavailable (there may be" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    record_property("happened", "one line, exit code 2; the run can be resumed")


STARTS = session.start  # before a nursery takes its place


def test_a_run_that_is_removed_before_it_begins(shared: Computed, tmp_path: Path) -> None:
    home = Home(shared.copy(tmp_path))
    run = Run(home, shared.run)
    trash.delete(run)
    with pytest.raises(BadInput, match="was removed meanwhile"):
        STARTS(run, Resources("cpu"))
    with pytest.raises(BadInput, match="is gone already"):
        trash.delete(run)


def test_a_run_is_not_removed_while_it_is_written(
    shared: Computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(shared.copy(tmp_path))
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    with (
        home.plans(),
        pytest.raises(BadInput, match=r"plans\.lock is held"),
    ):  # as `runs.create` does
        trash.delete(Run(home, shared.run))
    assert Run(home, shared.run).folder.exists()


def test_an_event_whose_key_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event = {"v": 1, "seq": 0, "t": 1.0, "stage": "", "attempt": 0, "kind": "end", "data": {}}
    keys = [["a"], {"a": 1}, 7, None, "a" * 64]
    path.write_text("".join(json.dumps(event | {"data": {"key": key}}) + "\n" for key in keys))
    tail = EventTail(path)
    assert [one["data"]["key"] for one in tail.read()] == ["a" * 64]
    assert tail.skipped == 4
