"""The console on a pseudo-terminal: what Pilot, which goes round the driver, cannot see."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest
from homes import running_run
from terminal import Terminal, console

from console import state, suspension
from console.app import ConsoleApp
from engine.jobs.home import Home


def test_first_paint_is_quick_and_small_and_idle_costs_nothing(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    with Terminal(*console(tmp_path)) as terminal:
        terminal.until("toy-1")
        # The promise is 1 s (benchmarks/console); this only catches a heavy import.
        assert time.monotonic() - terminal.began < 8
        assert psutil.Process(terminal.pid).memory_info().rss < 110e6
        terminal.read(0.5)
        before = terminal.bytes
        terminal.read(1.0)
        assert terminal.bytes - before < 1024
        terminal.send("q")
        assert terminal.ended()
        assert os.waitstatus_to_exitcode(terminal.status) == 0
        assert "1 run going on" in terminal.raw.decode(errors="replace")
    run.release()


def test_a_closed_terminal_ends_it_and_only_it(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    with Terminal(*console(tmp_path)) as terminal:
        terminal.until("toy-1")
        terminal.send("2")
        terminal.until("gd")
        told = "it saves what it remembers every second"
        terminal.until_true(lambda: state.load(tmp_path).get("mode") == "live", told)
        os.kill(terminal.pid, signal.SIGHUP)
        assert terminal.ended(2.0)
    assert state.load(tmp_path)["mode"] == "live"
    with Terminal(*console(tmp_path)) as again:
        again.until("2 Live")
        again.until("gd")
    run.release()


def test_a_frozen_terminal_is_waited_for(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    with Terminal(*console(tmp_path, "--ascii")) as terminal:
        terminal.until("toy-1")
        terminal.send("2")
        terminal.until("gd")
        for step in range(51, 90):  # nobody reads the terminal meanwhile
            run.attempt(run.key("gd"), "metric", name="loss", step=step, value=1 / step)
            time.sleep(0.025)
        terminal.send("1")
        terminal.until("1 Runs")
        terminal.send("q")
        assert terminal.ended()
    run.release()


def test_sigterm_restores_the_terminal(tmp_path: Path) -> None:
    with Terminal(*console(tmp_path)) as terminal:
        terminal.until("chelate run quickstart")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.ended()
        assert b"\x1b[?1049l" in terminal.raw


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_ctrl_z_steps_aside_and_fg_comes_back(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    shell = shutil.which("bash") or ""
    words = shlex.join([sys.executable, *console(tmp_path)])
    options = ("--norc", "--noprofile", "-i")
    with Terminal(*options, program=shell, env={"PS1": "READY> ", "HISTFILE": ""}) as terminal:
        terminal.until("READY>")
        as_found = termios.tcgetattr(terminal.fd)[3]
        terminal.send(f"clear; {words}\n")
        terminal.until("toy-1")
        # On a list; then while something is typed, which must not reach the shell.
        for keys in ("", "/t"):
            terminal.send(keys)
            terminal.read(0.5)
            assert not termios.tcgetattr(terminal.fd)[3] & (termios.ECHO | termios.ICANON)
            terminal.raw = b""
            terminal.send("\x1a")
            terminal.until_true(lambda: b"READY>" in terminal.raw, "prompt of the shell")
            assert termios.tcgetattr(terminal.fd)[3] == as_found, "echo and lines are back"
            for left in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1003l", b"\x1b[?2004l"):
                assert left in terminal.raw
            terminal.send("echo $((6 * 7))\n")
            asked = "what the shell was asked"
            terminal.until_true(lambda: "\n42 " in terminal.text, asked, 10)
            terminal.screen.reset()
            terminal.send("fg\n")
            terminal.until("toy-1")
            terminal.until("1 Runs")
            assert not termios.tcgetattr(terminal.fd)[3] & (termios.ECHO | termios.ICANON)
        terminal.send("\x1b")
        terminal.read(0.3)
        terminal.send("2")
        terminal.until("2 Live")  # and the keys are read again, by one reader
        terminal.raw = b""
        terminal.send("q")
        terminal.until_true(lambda: b"READY>" in terminal.raw, "prompt of the shell")
        assert termios.tcgetattr(terminal.fd)[3] == as_found
    run.release()


def test_where_no_shell_waits_ctrl_z_says_so(tmp_path: Path) -> None:
    """Nobody could bring it back: `ssh -t host chelate`, a tmux window of its own."""
    with Terminal(*console(tmp_path)) as terminal:
        terminal.until("chelate run quickstart")
        terminal.send("\x1a")
        terminal.until("No shell waits")
        terminal.send("2")
        terminal.until("2 Live")


def test_a_stop_from_outside_leaves_one_reader_of_the_keys(tmp_path: Path) -> None:
    with Terminal(*console(tmp_path)) as terminal:
        terminal.until("chelate run quickstart")
        as_run = termios.tcgetattr(terminal.fd)
        threads = psutil.Process(terminal.pid).num_threads()
        os.kill(terminal.pid, signal.SIGSTOP)
        os.waitpid(terminal.pid, os.WUNTRACED)
        terminal.screen.reset()
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.until("chelate run quickstart")
        assert termios.tcgetattr(terminal.fd) == as_run
        assert psutil.Process(terminal.pid).num_threads() <= threads
        terminal.send("q")
        assert terminal.ended()
        assert termios.tcgetattr(terminal.fd)[3] & termios.ECHO


def test_ctrl_z_does_nothing_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from textual.drivers.web_driver import WebDriver

    stopped: list[object] = []
    monkeypatch.setattr(os, "killpg", lambda *words: stopped.append(words))
    monkeypatch.setattr(suspension, "shell_waits", lambda: True)
    driver = WebDriver.__new__(WebDriver)
    app = ConsoleApp(Home(tmp_path))
    suspension.suspend(app, driver)
    suspension.heed_stops(app, driver)
    assert not stopped


def test_a_crash_says_one_line_and_where_the_report_is(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from console.app import ConsoleApp; "
        "from engine.jobs.home import Home; app = ConsoleApp(Home(Path(sys.argv[1]))); "
        "ConsoleApp.action_jump = lambda self: 1 / 0; app.run()"
    )
    with Terminal("-c", code, str(tmp_path)) as terminal:
        terminal.until("chelate run quickstart")
        terminal.send("f")
        assert terminal.ended()
        said = terminal.raw.decode(errors="replace")
        assert "\x1b[?1049l" in said
        assert "Traceback" not in said.rpartition("\x1b[?1049l")[2]
        assert "console-crash.txt" in said
    assert "ZeroDivisionError" in (tmp_path / "console-crash.txt").read_text()


@pytest.mark.parametrize("term", ["screen-256color", "xterm", "linux"])
def test_poorer_terminals(tmp_path: Path, term: str) -> None:
    run = running_run(tmp_path)
    with Terminal(*console(tmp_path), term=term) as terminal:
        terminal.until("toy-1")
        terminal.send("2")
        terminal.until("gd")
        assert (b"[38;2;" in terminal.raw) is False
        terminal.send("q")
        assert terminal.ended()
    run.release()


def test_attach_opens_a_run_live_and_bad_words_are_told(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    with Terminal("-m", "chelate", "attach", "toy", "--home", str(tmp_path)) as terminal:
        terminal.until("2 Live")
        terminal.until("gd")
        terminal.send("q")
        assert terminal.ended()
    with Terminal(*console(tmp_path, "--theme", "mauve")) as terminal:
        terminal.until("choose from dark")
        assert terminal.ended()
        assert os.waitstatus_to_exitcode(terminal.status) == 2
    run.release()


def test_the_console_cannot_import_torch(tmp_path: Path) -> None:
    """All screens, with torch made unimportable, and none of the slow ones at the start."""
    code = (
        "import sys, json\nsys.modules['torch'] = None\n"
        "import console.opening, console.app, console.screens.runs\n"
        "import console.screens.live, console.watching.feed\n"
        "print(json.dumps(sorted(sys.modules)))\n"
        "for n in 'queue logs new compare help jump palette confirm acting'.split():\n"
        "    __import__('console.screens.' + n)\n"
    )
    import subprocess
    import sys

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(told.stdout.splitlines()[0]))
    assert not {"pydantic", "scipy", "matplotlib", "safetensors"} & loaded
