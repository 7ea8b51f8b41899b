"""The app as a whole, by Pilot: modes, sizes, memory, palette, help, jump, themes, read-only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from homes import WrittenRun, running_run
from textual.pilot import Pilot

from console import state, themes
from console.actions import MODES
from console.app import ConsoleApp
from console.crash import NAME as CRASH
from console.screens.base import ConsoleScreen
from console.screens.help import HelpScreen
from console.screens.jump import JumpScreen
from engine.jobs.home import Home

SIZES = ((80, 24), (140, 40), (200, 60))


@asynccontextmanager
async def opened(
    home: Path, size: tuple[int, int] = (80, 24), **options: Any
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """The app, once its list of runs is complete."""
    app = ConsoleApp(Home(home), **options)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: not app.snapshot.loading)
        yield app, pilot


async def until(pilot: Pilot[None], true: Callable[[], object], seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if true():
            await pilot.pause()
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never became true; on the screen:\n{text_of(pilot.app)}")


def text_of(app: Any) -> str:
    """What is on the screen, as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@pytest.mark.parametrize("size", SIZES)
def test_every_mode_opens_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, size) as (app, pilot):
            for number, mode in enumerate(MODES, start=1):
                await pilot.press(str(number))
                await until(pilot, lambda mode=mode: app.current_mode == mode)
                assert isinstance(app.screen, ConsoleScreen)
                assert mode == app.screen.MODE
                await until(pilot, lambda mode=mode: MODES[mode] in text_of(app).split("\n")[0])

    asyncio.run(drive())
    run.release()


def test_a_resize_storm_raises_nothing(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, run=run.id) as (app, pilot):
            for mode in ("2", "1", "5", "6"):
                await pilot.press(mode)
                for size in ((40, 10), (250, 80), (79, 23), (20, 5), (110, 24), (141, 31)):
                    await pilot.resize_terminal(*size)
            await pilot.resize_terminal(40, 10)
            await until(pilot, lambda: "needs" in text_of(app))
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "needs" not in text_of(app))

    asyncio.run(drive())
    run.release()


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def first() -> None:
        async with opened(tmp_path, (140, 40)) as (app, pilot):
            await pilot.press("enter")
            await until(pilot, lambda: "gd" in text_of(app))
            await pilot.press("y", "+", "s", "T", "q")

    async def second() -> None:
        async with opened(tmp_path, (140, 40)) as (app, pilot):
            assert app.current_mode == "live"
            await until(pilot, lambda: "gd" in text_of(app))
            chart = app.screen.query_one("#curve")
            assert chart.logy and chart.window is not None  # type: ignore[attr-defined]
            assert chart.smoothing == 0.6  # type: ignore[attr-defined]
            assert app.theme == themes.LIGHT
            assert app.open_id == run.id

    state.save(tmp_path, {"theme": themes.DARK})
    asyncio.run(first())
    asyncio.run(second())
    run.release()


def test_memory_from_another_world_does_no_harm(tmp_path: Path) -> None:
    WrittenRun(tmp_path, "toy")
    told = {
        "v": 1,
        "mode": "hologram",
        "theme": 7,
        "run": "../../etc",
        "screens": {
            "runs": {"table": {"sort": 3, "cursor": []}, "filter": 9},
            "live": [],
            "logs": {"source": 99},
        },
    }
    (tmp_path / state.NAME).write_text(json.dumps(told))

    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):
            assert app.current_mode == "runs"
            for key in "26":
                await pilot.press(key)
                await pilot.pause(0.1)

    asyncio.run(drive())


def test_help_palette_and_jump(tmp_path: Path) -> None:
    WrittenRun(tmp_path, "toy")

    async def drive() -> None:
        async with opened(tmp_path, (100, 40)) as (app, pilot):
            await pilot.press("?")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            assert "Keys of this screen" in text_of(app)
            await pilot.press("escape", ":")
            await until(pilot, lambda: "Search" in text_of(app))
            await pilot.press(*"queue", "enter")
            await until(pilot, lambda: app.current_mode == "queue")
            await pilot.press("2", "f")
            await until(pilot, lambda: isinstance(app.screen, JumpScreen))
            letter = next(k for k, pane in app.screen.targets.items() if pane.id == "curve")
            await pilot.press(letter)
            await until(pilot, lambda: app.focused is not None and app.focused.id == "curve")

    asyncio.run(drive())


def test_read_only_has_no_way_to_change_anything(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, "toy")
    run.session()
    run.ended("stopped")

    async def drive() -> None:
        async with opened(tmp_path, read_only=True) as (app, pilot):
            await pilot.press("d", "K", "R", "u")
            await until(pilot, lambda: "read-only" in text_of(app))
            assert isinstance(app.screen, ConsoleScreen)  # nobody asked anything
            assert "read-only" in text_of(app)
            assert "delete" not in text_of(app).split("\n")[-1]
        assert not (tmp_path / "trash").exists()
        assert run.folder.exists()

    asyncio.run(drive())


def test_a_tick_without_a_screen_is_no_crash(tmp_path: Path) -> None:
    """Between two modes, and while the app closes, the stack of screens is empty."""

    async def drive() -> None:
        async with opened(tmp_path) as (app, _):
            pass
        assert not app.screen_stack
        app.tick()

    asyncio.run(drive())
    assert not list(tmp_path.glob("console-crash*"))


@pytest.mark.parametrize("theme", [*themes.NAMES.values()])
def test_every_theme_paints_every_screen(tmp_path: Path, theme: str) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), theme=theme, run=run.id) as (app, pilot):
            await until(pilot, lambda: "gd" in text_of(app))
            for key in "156":
                await pilot.press(key)
                await pilot.pause(0.05)

    asyncio.run(drive())
    run.release()


def test_ascii_means_ascii(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), ascii=True, run=run.id) as (app, pilot):
            await until(pilot, lambda: "gd" in text_of(app) and "N(0,1)" in text_of(app))
            for key in "215634":
                await pilot.press(key)
                await until(pilot, lambda key=key: f" {key} " in text_of(app).splitlines()[0])
                await until(pilot, lambda: text_of(app).isascii())
            await until(pilot, lambda: "TEE" in text_of(app))
            for keys in ("tab", "j", "enter", "9", "escape", "a", "escape", "o", "escape", "v"):
                await pilot.press(keys)
                await until(pilot, lambda: text_of(app).isascii())

    asyncio.run(drive())
    run.release()


def test_no_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            await until(pilot, lambda: "gd" in text_of(app))
            assert "running" in text_of(app)  # the word, not only a colour

    asyncio.run(drive())
    run.release()


@pytest.mark.parametrize(
    ("how", "size"), [("no colour", SIZES[0]), ("16 colours", SIZES[1]), ("ascii", SIZES[2])]
)
def test_new_says_what_is_wrong_without_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], how: str
) -> None:
    if how == "no colour":
        monkeypatch.setenv("NO_COLOR", "1")
    theme, plain = (themes.ANSI if how == "16 colours" else None), how == "ascii"

    async def drive() -> None:
        async with opened(tmp_path, size, theme=theme, ascii=plain) as (app, pilot):
            await pilot.press("4")
            await until(pilot, lambda: "TEE" in text_of(app))
            await pilot.press(*"jjj", "tab", "enter", "ctrl+u", "0")
            await until(pilot, lambda: "train.epochs = 0" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: f"{'x' if plain else '✗'} epochs" in text_of(app))
            await pilot.press("u")
            await until(pilot, lambda: "TEE" in text_of(app))

    asyncio.run(drive())


def test_a_crash_leaves_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def drive() -> None:
        async with opened(tmp_path) as (app, pilot):

            def fail() -> None:
                raise RuntimeError("on purpose")

            app.call_later(fail)
            await pilot.pause(0.2)

    with pytest.raises(RuntimeError, match="on purpose"):
        asyncio.run(drive())
    assert "on purpose" in (tmp_path / CRASH).read_text()


def test_the_end_of_a_run_is_told_and_rings_when_asked(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, bell=True) as (app, pilot):
            rung: list[int] = []
            app.bell = lambda: rung.append(1)  # type: ignore[method-assign]
            run.ended("done")
            run.release()
            await until(pilot, lambda: rung and "toy-1: done" in text_of(app))

    asyncio.run(drive())
