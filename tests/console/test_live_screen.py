"""Live, Queue and Logs on a run that is written while they look."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from homes import WrittenRun, running_run
from staged import judged_by, staged
from test_app import SIZES, opened, text_of, until

from console.screens import live_view
from console.screens.live import LiveScreen
from console.screens.logs import LogsScreen
from console.screens.warned import WarningLine
from console.viewmodel import Look


@pytest.mark.parametrize("size", SIZES)
def test_curves_histogram_and_log_of_a_run_under_way(tmp_path: Path, size: tuple[int, int]) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, size, run=run.id) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, LiveScreen)
            await until(pilot, lambda: screen.curve.series)
            await until(pilot, lambda: any("gd s0" in s.name for s in screen.curve.series))
            assert any("retrain" in s.name and s.kind == "band" for s in screen.curve.series)
            for _ in range(4):
                await pilot.press("tab")
                await pilot.pause(0.05)
            if size[0] < 110:  # one pane at a time: on to the histogram
                while not screen.query_one("#look").has_focus:
                    await pilot.press("tab")
            await until(pilot, lambda: "N(0,1)" in text_of(app) and "KS p" in text_of(app))
            assert "mean +0.300" in text_of(app).replace("\n", " ")
            run.probe(run.key("gd"), 40, 0.1)
            await until(pilot, lambda: "mean +0.100" in text_of(app))
            await pilot.press("[")
            await until(pilot, lambda: "mean +0.300" in text_of(app))

    asyncio.run(drive())
    run.release()


def test_pause_stops_painting_and_pin_adds_a_curve(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, LiveScreen)
            await until(pilot, lambda: any("gd s0" in s.name for s in screen.curve.series))
            await pilot.press("b", "g", "space", "G", "k")
            await until(pilot, lambda: [s.name for s in screen.curve.series if s.kind == "line"]
                        == ["gd s0", "train s0"])  # fmt: skip
            await pilot.press("p")
            assert "paused" in text_of(app)
            before = [len(s.array("x")) for s in screen.curve.series]
            run.curve(run.key("gd"), 90)
            await pilot.pause(0.5)
            assert [len(s.array("x")) for s in screen.curve.series] == before
            await pilot.press("p")
            await until(pilot, lambda: len(screen.curve.series[0].array("x")) == 140)

    asyncio.run(drive())
    run.release()


def test_the_cursor_follows_what_runs_until_somebody_moves_it(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, LiveScreen)
            gd = "/toy/gd//0"
            await until(pilot, lambda: screen.tracks.cursor_key == gd)
            run.end("gd")
            key = run.begin("none", 1)
            await until(pilot, lambda: screen.tracks.cursor_key == key)
            await pilot.press("g")
            await until(pilot, lambda: screen.tracks.cursor_row == 0)
            await pilot.pause(0.4)
            assert screen.tracks.cursor_row == 0
            assert "F follows" in text_of(app)
            await pilot.press("F")
            await until(pilot, lambda: screen.tracks.cursor_key == key)

    asyncio.run(drive())
    run.release()


def test_a_stage_that_diverged_says_so_with_its_step(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    why = "diverged at step 7: the loss is nan"

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, LiveScreen)
            await until(pilot, lambda: screen.tracks.cursor_key == "/toy/gd//0")
            run.end("gd", outcome="diverged", reason=why)
            await until(pilot, lambda: "1 diverged" in text_of(app))
            await until(pilot, lambda: "diverged at step 7" in " ".join(text_of(app).split()))
            told = app.snapshot.open
            assert told is not None
            (track,) = (t for t in told.tracks if t.id == "/toy/gd//0")
            assert track.state == "diverged"
            assert any(entry.level == "error" and why in entry.text for entry in told.log)

    asyncio.run(drive())
    run.release()


def test_a_stored_stage_that_diverged_is_known_without_events(tmp_path: Path) -> None:
    there = staged(tmp_path)
    for path in there.home.store.glob("objects/*/*/DONE.json"):
        told = json.loads(path.read_text())
        if told["kind"] == "train" and told["title"].startswith("retrain"):
            lost = {"na": "diverged at step 9: the loss is nan", "diverged": 9}
            path.write_text(json.dumps(told | lost))

    async def drive() -> None:
        async with opened(there.home.root, run=there.run.id) as (app, pilot):
            await until(pilot, lambda: app.snapshot.open is not None and app.snapshot.open.stages)
            states = {s.title: s.state for s in app.snapshot.open.stages}
            assert {state for title, state in states.items() if title.startswith("retrain")} == {
                "diverged"
            }

    asyncio.run(drive())


def test_zoom_log_axes_and_other_metrics(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    for step in range(30):
        run.attempt(run.key("gd"), "metric", name="accuracy", step=step, value=step / 30)

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, LiveScreen)
            await until(pilot, lambda: any("gd s0" in s.name for s in screen.curve.series))
            for key in ("x", "y", "+", "+", "H", "L", "-", "0", "s", "s", "z", "z", "b"):
                await pilot.press(key)
            await until(pilot, lambda: screen._snapshot.open is not None
                        and "accuracy" in screen._snapshot.open.metrics)  # fmt: skip
            while screen._metric != "accuracy":
                await pilot.press("m")
            await until(pilot, lambda: any(len(s.array("x")) == 30 for s in screen.curve.series))

    asyncio.run(drive())
    run.release()


def test_a_run_deleted_while_it_is_open(tmp_path: Path) -> None:
    run = running_run(tmp_path)

    async def drive() -> None:
        async with opened(tmp_path, run=run.id) as (app, pilot):
            await until(pilot, lambda: "gd" in text_of(app))
            run.folder.rename(tmp_path / "away")
            await until(pilot, lambda: "deleted" in text_of(app))
            for key in "1562":
                await pilot.press(key)
                await pilot.pause(0.1)

    asyncio.run(drive())
    run.release()


def test_a_run_of_a_newer_version_is_open_without_a_traceback(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, "newer", facts={"v": 99, "chelate": "9.0"}, planned=False)
    (run.folder / "plan.json").write_text('{"v": 9, "levels": []}')

    async def drive() -> None:
        async with opened(tmp_path, run=run.id) as (app, pilot):
            await until(pilot, lambda: "plan" in text_of(app) and "another version" in text_of(app))

    asyncio.run(drive())


def test_logs_show_output_events_and_what_was_searched(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    run.output(run.key("gd"), "\n".join(f"line {n}" for n in range(200)) + "\n\x1b[2Jlast\n")

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            await pilot.press("6")
            screen = app.screen
            assert isinstance(screen, LogsScreen)
            await until(pilot, lambda: len(screen.table.rows) == 6)
            await pilot.press("j", "j", "j")
            await until(pilot, lambda: "last" in text_of(app))
            assert "unlearn toy/gd" in str(screen.table.rows[3].cells["name"])
            await pilot.press("/", *"line 42", "enter")
            await until(pilot, lambda: screen.text.hit == 42)
            await pilot.press("N")
            assert "line 42" in text_of(app)
            await pilot.press("o")
            await until(pilot, lambda: "metric" in text_of(app))

    asyncio.run(drive())
    run.release()


def test_the_queue_shows_what_runs_and_what_waits(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    other = running_run(tmp_path, "other")

    async def drive() -> None:
        async with opened(tmp_path, (140, 40), run=run.id) as (app, pilot):
            await pilot.press("5")
            await until(pilot, lambda: "waiting" in text_of(app) and "cpu:0" in text_of(app))
            table = app.screen.query_one("#queue")
            await until(
                pilot, lambda: {r.cell("run").text for r in table.rows} == {"toy-1", "other"}
            )
            await pilot.press("/", *"audit", "enter")
            await until(pilot, lambda: "unlearn toy/gd s1" not in text_of(app))

    asyncio.run(drive())
    run.release()
    other.release()


def test_the_queue_names_the_run_of_every_line_and_why_slots_are_idle(tmp_path: Path) -> None:
    """Runs of one preset differ at the end of their names, which must not be cut off."""
    first = running_run(tmp_path, "paper-indiscriminate-cifar10-71ce614653")
    other = WrittenRun(tmp_path, "paper-indiscriminate-cifar10-71ce619999")
    other.supervise()
    other.session()

    async def drive() -> None:
        async with opened(tmp_path, (80, 24), run=first.id) as (app, pilot):
            await pilot.press("5")
            await until(pilot, lambda: "starting workers" in text_of(app))
            rows = app.screen.query_one("#queue").rows
            assert [row.key.partition("\t")[0] for row in rows[:2]] == [first.id, other.id]
            lines = text_of(app).splitlines()
            assert any("619999" in x and "starting workers" in x for x in lines), text_of(app)
            assert sum("614653" in line for line in lines) > 5
            await pilot.press("j", "enter")
            await until(pilot, lambda: app.current_mode == "live" and other.id in text_of(app))
            await until(pilot, lambda: "running: starting workers" in text_of(app))

    asyncio.run(drive())
    first.release()
    other.release()


def test_a_histogram_keeps_its_own_numbers() -> None:
    look = Look(5, tuple(np.arange(-8.0, 8.5, 0.5)), (0.0,) * 15 + (50.0, 40.0) + (0.0,) * 15,
                90, 0.22, 1.1, 0.5)  # fmt: skip
    bars = live_view.look_series(look)[0]
    edges, heights = bars.array("x"), bars.array("y")
    assert len(edges) == len(heights) + 1
    assert edges[0] <= -4 and edges[-1] >= 4
    assert (heights * np.diff(edges)).sum() == pytest.approx(1.0)
    assert "90" in live_view.look_text(look, 0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_what_stages_warn_of_is_one_line_with_the_newest(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    run = running_run(tmp_path)
    text = "[red]50 of 90[/blue] test rows are in train"

    async def drive() -> None:
        async with opened(tmp_path, size, run=run.id) as (app, pilot):
            line = app.screen.query_one(WarningLine)
            await until(pilot, lambda: "2/13" in text_of(app))
            assert not line.display, "it takes no room while there is nothing to say"
            for _ in range(2):
                run.attempt(run.key("gd"), "warning", text=text)
            await until(pilot, lambda: f"1 warning: {text}" in text_of(app))
            for seed in (0, 1):  # over before anybody reads what it said, and failed
                run.begin("retrain", seed, attempt=2)
                run.attempt(run.key("retrain", seed), "warning", 2, text="the loss jumped")
                run.end("retrain", seed, outcome="failed")
            await until(pilot, lambda: "2 warnings" in text_of(app))
            assert "newest: the loss jumped (×2 stages)" in text_of(app)
            log = [entry.text for entry in app.snapshot.open.log if entry.level == "warning"]
            assert sum("the loss jumped" in one for one in log) == 2, "each stage's own line"
            assert sum(text in one for one in log) == 1
            await pilot.press("w")
            await until(pilot, lambda: "What stages warned of" in text_of(app))
            assert text in text_of(app)

    asyncio.run(drive())
    run.release()


def test_what_stored_stages_warned_of_is_read_from_their_records(tmp_path: Path) -> None:
    there = staged(tmp_path)
    for path in there.home.store.glob("objects/*/*/DONE.json"):
        told = json.loads(path.read_text())
        if told["kind"] == "train":
            path.write_text(json.dumps(told | {"warnings": ["\x1b[31mthe loss jumped"]}))
    trains = sum(stage.kind == "train" for stage in there.run.plan.stages.values())

    async def drive() -> None:
        async with opened(there.home.root, run=there.run.id) as (app, pilot):
            await until(pilot, lambda: f"the loss jumped (×{trains} stages)" in text_of(app))

    asyncio.run(drive())


@pytest.mark.parametrize("size", SIZES)
def test_margins_of_its_own_have_a_line(tmp_path: Path, size: tuple[int, int]) -> None:
    there = staged(tmp_path)
    other = judged_by(there, {"attack-success": {"asr": 0.03}})
    line = "margin of attack-success.asr: ±0.03 (shipped: ±0.05)"

    async def drive(run: str, shown: bool) -> None:
        async with opened(there.home.root, size, run=run) as (app, pilot):
            await until(pilot, lambda: app.screen.query("#live-margins") and run in text_of(app))
            await until(pilot, lambda: "retrain" in text_of(app))
            assert app.screen.query_one("#live-margins").display is shown
            assert (line in text_of(app)) is shown

    asyncio.run(drive(other.id, True))
    asyncio.run(drive(there.run.id, False))
