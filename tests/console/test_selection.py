"""Compare, Details, Logs and Queue are about the runs that their headings and lines name."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path

import pytest
from homes import WrittenRun
from test_app import opened, text_of, until
from textual.pilot import Pilot

from console import state
from console.actions import MODES
from console.app import ConsoleApp
from console.screens.compare import CompareScreen
from console.screens.logs import LogsScreen
from console.screens.queue import BREAK, QueueScreen
from console.selection import Selection, named

NAMES = ("toy-0a41b6c2d3", "toy-0a41b6ffff", "other-1234567890")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three runs; the attack in every line of a run's results is called as the run is."""
    for number, name in enumerate(NAMES):
        run = WrittenRun(tmp_path, name, created=1e9 + number)
        told = json.loads((run.folder / "plan.json").read_text())
        for cell in told["cells"]:
            cell["attack"] = name
        (run.folder / "plan.json").write_text(json.dumps(told))
        run.session()
        run.begin("none")
        run.output(run.key("none"), f"printed by {name}")
        run.end("none")
        run.ended("stopped")
    return tmp_path


class Person:
    """Presses keys, and knows what should be shown: the marked runs, else the open one."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[None], open_id: str) -> None:
        self.app, self.pilot, self.open_id = app, pilot, open_id
        self.marks: set[str] = set()

    @property
    def wanted(self) -> set[str]:
        return self.marks or {self.open_id}

    async def go(self, mode: str) -> None:
        await self.pilot.press(str(list(MODES).index(mode) + 1))
        await until(self.pilot, lambda: self.app.current_mode == mode)

    async def on_run(self, name: str, key: str) -> None:
        await self.go("runs")
        table = self.app.screen.query_one("#runs")
        await until(self.pilot, lambda: len(table.rows) == len(NAMES))
        table.move_to(name)
        await self.pilot.press(key)

    async def do(self, what: str, name: str) -> None:
        if what == "open":
            await self.on_run(name, "enter")
            self.open_id = name
        elif what == "mark":
            await self.on_run(name, "space")
            self.marks ^= {name}
        elif what == "unmark":
            await self.go("compare" if len(name) % 2 else "runs")
            await self.pilot.press("U")
            self.marks.clear()
        elif what == "details":
            await self.go("compare")
            await self.pilot.press("j", "enter", "tab")
        else:
            await self.go(what)

    async def check(self) -> None:
        """What every screen says after what was done."""
        screen = self.app.screen
        if isinstance(screen, CompareScreen):
            await until(self.pilot, lambda: {r.id for r in screen.found} == self.wanted)
            await until(self.pilot, lambda: screen.comparison.lines)
            assert {line.attack for line in screen.comparison.lines} == self.wanted
            shown = "\n".join(text_of(self.app).splitlines()[1:4])
            for run_id in NAMES:
                assert (run_id in shown) == (run_id in self.wanted), shown
            assert ("U drops" in shown) == bool(self.marks)
            assert not screen.drilled or screen.details.line.attack in self.wanted
        elif self.app.current_mode == "live":
            await until(self.pilot, lambda: self.open_id in text_of(self.app).splitlines()[1])
        elif isinstance(screen, QueueScreen):
            await until(self.pilot, lambda: self.open_id in text_of(self.app).splitlines()[1])
            await until(self.pilot, lambda: screen.table.rows)
            for row in screen.table.rows:
                assert row.key.partition(BREAK)[0] == self.open_id
                assert row.cell("run").text == self.open_id
        elif isinstance(screen, LogsScreen):
            await until(self.pilot, lambda: self.open_id in text_of(self.app).splitlines()[1])
            await until(self.pilot, lambda: screen._path is not None)
            assert self.open_id in str(screen._path)


@pytest.mark.parametrize("seed", range(2))
def test_heading_and_figures_agree_whatever_is_pressed(home: Path, seed: int) -> None:
    chance = random.Random(seed)
    kinds = ("open", "mark", "mark", "details", "compare", "compare", "unmark", "queue", "logs")

    async def session(first: str | None) -> str:
        async with opened(home, (80, 24), run=first) as (app, pilot):
            person = Person(app, pilot, first or app.open_id or "")
            if first is None:
                assert not app.marked
            for _ in range(9):
                await person.do(chance.choice(kinds), chance.choice(NAMES))
                await person.check()
            await person.go("compare")
            await person.check()
            await pilot.press("q")
            return person.open_id

    last = asyncio.run(session(NAMES[0]))
    assert state.load(home)["run"] == last
    assert asyncio.run(session(None))


def test_details_close_when_other_runs_are_shown(home: Path) -> None:
    async def drive() -> None:
        async with opened(home, (80, 24), run=NAMES[0]) as (app, pilot):
            person = Person(app, pilot, NAMES[0])
            await person.do("details", "")
            screen = app.screen
            assert isinstance(screen, CompareScreen)
            await until(pilot, lambda: screen.comparison.lines)
            await pilot.press("j", "enter")
            await until(pilot, lambda: screen.drilled)
            assert NAMES[0] in text_of(app).splitlines()[1]
            await person.do("open", NAMES[1])
            await person.go("compare")
            await until(pilot, lambda: not screen.drilled)
            await person.check()

    asyncio.run(drive())


def test_a_choice_remembered_by_an_earlier_version_is_ignored(home: Path) -> None:
    told = {
        "mode": "compare",
        "run": NAMES[1],
        "screens": {"compare": {"runs": [NAMES[0], NAMES[2]]}},
    }
    state.save(home, told)

    async def drive() -> None:
        async with opened(home) as (app, pilot):
            await Person(app, pilot, NAMES[1]).check()
            await until(pilot, lambda: "screens" in state.load(home))
            app._save(now=True)
            assert "runs" not in state.load(home)["screens"]["compare"]

    asyncio.run(drive())


def test_a_marked_run_that_is_deleted_is_no_longer_marked(home: Path) -> None:
    async def drive() -> None:
        async with opened(home, run=NAMES[0]) as (app, pilot):
            person = Person(app, pilot, NAMES[0])
            for name in NAMES[1:]:
                await person.do("mark", name)
            await person.go("compare")
            await person.check()
            shutil.rmtree(home / "runs" / NAMES[1])
            app.reader.refresh()
            person.marks = {NAMES[2]}
            await until(pilot, lambda: app.marked == person.marks)
            await person.check()
            shutil.rmtree(home / "runs" / NAMES[2])
            app.reader.refresh()
            person.marks = set()
            await until(pilot, lambda: app.marked == set())
            await person.check()

    asyncio.run(drive())


def test_the_run_just_opened_is_shown_before_it_is_read(home: Path) -> None:
    """A plan of ten thousand stages takes a second to read."""

    async def drive() -> None:
        async with opened(home, run=NAMES[0]) as (app, pilot):
            await until(pilot, lambda: "train" in text_of(app) or app.snapshot.open)
            app.reader.open = lambda run_id: None  # type: ignore[method-assign]  # never gets there
            app.open_run(NAMES[2])
            await until(pilot, lambda: NAMES[2] in text_of(app))
            assert NAMES[0] not in text_of(app)
            assert app.snapshot.open is not None and not app.snapshot.open.stages

    asyncio.run(drive())


def test_ids_are_shortened_to_what_tells_them_apart() -> None:
    assert named(NAMES, 80) == ", ".join(NAMES)
    short = named(NAMES, 42).split(", ")
    assert len(set(short)) == 3 and all(len(one) <= 14 for one in short)
    many = [f"quickstart-{number:010x}" for number in range(40)]
    assert named(many, 60).endswith("more") and len(named(many, 60)) <= 60
    assert Selection(tuple(many), True).heading(80).startswith("40 marked runs (U drops): ")
    assert len(Selection(tuple(many), True).heading(80)) <= 80
    assert Selection(NAMES[:1], True).heading(80) == f"1 marked run (U drops): {NAMES[0]}"
