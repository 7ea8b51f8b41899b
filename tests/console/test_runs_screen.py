"""Runs: list, filter, sort, marks, stop, resume, delete, undo."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from homes import WrittenRun, running_run
from staged import staged
from test_app import opened, text_of, until

from console.screens.choose import Ask
from console.screens.confirm import Confirm
from console.screens.runs import RunsScreen, short_duration
from engine.jobs.home import Home, write_json
from engine.jobs.imports import import_run
from engine.jobs.lease import Identity, process_identity


def home_of_three(folder: Path) -> None:
    for number, (name, state) in enumerate((("alpha", "done"), ("beta", "failed"), ("gamma", ""))):
        run = WrittenRun(folder, name, created=1.0 + number, title=f"About {name}")
        if state:
            run.session()
            run.ended(state)


def test_list_filter_sort_and_marks(tmp_path: Path) -> None:
    home_of_three(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, RunsScreen)
            await until(pilot, lambda: len(screen.table.rows) == 3)
            assert [row.key for row in screen.table.rows] == ["gamma", "beta", "alpha"]
            assert "About gamma" in text_of(app)
            await pilot.press("s")
            assert [row.key for row in screen.table.rows] == ["beta", "gamma", "alpha"]
            await pilot.press("g", "space")
            assert app.marked == {"beta"}
            await pilot.press("/", *"alp")
            await until(pilot, lambda: [r.key for r in screen.table.rows] == ["alpha"])
            await pilot.press("enter")
            assert screen.focused is screen.table
            await pilot.press("/", "escape")
            await until(pilot, lambda: len(screen.table.rows) == 3)

    asyncio.run(drive())


def test_names_with_markup_and_escapes_are_text(tmp_path: Path) -> None:
    WrittenRun(tmp_path, "rude", title="[red]\x1b[31mhello\x1b]52;c;aGk=\x07[/red] [link=x]")

    async def drive() -> None:
        async with opened(tmp_path, (140, 40)) as (app, pilot):
            await until(pilot, lambda: "hello" in text_of(app))
            assert "[red]hello[/red]" in text_of(app)
            assert "\x1b" not in text_of(app)
            await pilot.press("enter")
            await until(pilot, lambda: app.current_mode == "live")

    asyncio.run(drive())


def test_delete_asks_and_can_be_undone(tmp_path: Path) -> None:
    home_of_three(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            table = app.screen.table  # type: ignore[attr-defined]
            await until(pilot, lambda: len(table.rows) == 3)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("enter")  # enter is not yes
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            assert (tmp_path / "runs" / "gamma").exists()
            await pilot.press("d", "y")
            await until(pilot, lambda: len(table.rows) == 2)
            assert not (tmp_path / "runs" / "gamma").exists()
            await pilot.press("u")
            await until(pilot, lambda: len(table.rows) == 3)
            assert (tmp_path / "runs" / "gamma" / "plan.json").exists()

    asyncio.run(drive())


def test_a_running_run_is_not_deleted(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            await pilot.press("d", "y")
            await until(pilot, lambda: "stop it first" in text_of(app))
            assert run.folder.exists()

    asyncio.run(drive())
    run.release()


def test_stop_asks_and_signals_the_supervisor(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    wait = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); "
        "print(1, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        here = process_identity()
        identity = Identity(here.host, here.boot_id, process.pid, int(stat[19]))
        write_json(run.folder / "supervisor.json", {"v": 1, **identity._asdict()})

        async def drive() -> None:
            async with opened(tmp_path) as (app, pilot):
                await pilot.press("K")
                await until(pilot, lambda: isinstance(app.screen, Confirm))
                assert "2/13 stages" in text_of(app)
                assert process.poll() is None
                await pilot.press("y")
                await until(pilot, lambda: process.poll() is not None)

        asyncio.run(drive())
        assert process.returncode == 7
    run.release()


def test_pause_and_retry_reach_the_run(tmp_path: Path) -> None:
    """Of a run that is going on they are orders, for its supervisor to see."""
    run = running_run(tmp_path)
    identity = {"v": 1, **process_identity()._asdict()}
    write_json(run.folder / "supervisor.json", identity)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40)) as (app, pilot):
            await pilot.press("r")
            await until(pilot, lambda: "no stage of it has failed" in text_of(app))
            exit_ = {"stage": run.key("gd"), "attempt": 1, "outcome": "failed", "reason": "x"}
            folder = run.folder / "attempts" / f"{run.key('gd')[:16]}.1"
            write_json(folder / "exit.json", exit_)
            await pilot.press("r")
            await until(pilot, (run.folder / "retry").exists)
            await until(pilot, lambda: "1 failed stage to be computed again" in text_of(app))
            await pilot.press("P")
            await until(pilot, (run.folder / "paused").exists)
            await until(pilot, lambda: "pausing: what is under way ends first" in text_of(app))
            await pilot.press("R")
            await until(pilot, lambda: not (run.folder / "paused").exists())
            await until(pilot, lambda: "pausing: what is" not in text_of(app))
            await pilot.press("P")
            await until(pilot, (run.folder / "paused").exists)
            run.release()
            await until(pilot, lambda: "‖ paused" in text_of(app))

    asyncio.run(drive())


def test_a_run_that_does_not_run_cannot_be_paused(tmp_path: Path) -> None:
    home_of_three(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            await pilot.press("P")
            await until(pilot, lambda: "is not running" in text_of(app))

    asyncio.run(drive())
    assert not list(tmp_path.glob("runs/*/paused"))


def test_export_asks_where_and_an_import_is_marked(tmp_path: Path) -> None:
    here = staged(tmp_path / "here")
    file = tmp_path / "run.tar.gz"

    async def export() -> None:
        async with opened(here.home.root) as (app, pilot):
            table = app.screen.table  # type: ignore[attr-defined]
            await until(pilot, lambda: len(table.rows) == 1)
            await pilot.press("e")
            await until(pilot, lambda: isinstance(app.screen, Ask))
            app.screen.query_one("#answer").value = str(file)  # type: ignore[attr-defined]
            await pilot.press("enter")
            await until(pilot, file.exists)

    asyncio.run(export())
    run = import_run(Home(tmp_path / "there"), file)

    async def look() -> None:
        async with opened(tmp_path / "there", (140, 40)) as (app, pilot):
            await until(pilot, lambda: run.id in text_of(app))
            assert "imported from" in text_of(app)
            await pilot.press("R")
            await until(pilot, lambda: "nothing to resume" in text_of(app))
            await pilot.press("3")
            await until(pilot, lambda: "ngd" in text_of(app))

    asyncio.run(look())


def test_resume_says_why_it_cannot(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, "toy")
    run.session()
    run.ended("stopped")

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            await pilot.press("R")
            await until(pilot, lambda: "experiment.toml" in text_of(app))

    asyncio.run(drive())


def test_an_empty_home_says_what_to_do(tmp_path: Path) -> None:
    Home(tmp_path).create()

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            await until(pilot, lambda: "chelate run quickstart" in text_of(app))
            await pilot.press("enter", "d", "K", "R", "space", "c", "u")
            await pilot.pause(0.1)

    asyncio.run(drive())


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.6, "5 s"), (192, "3m12s"), (7500, "2h05m"), (273600, "3d04h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
    assert len(text) <= 7
