"""The New screen under the fingers: compose, complain, estimate, save, launch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from host import Host, until
from staged import Staged, staged
from textual.pilot import Pilot
from textual.widgets import Input, Static

from console.actions import ACTIONS
from console.expecting import summary_line
from console.planning import prepare
from console.screens.base import ConsoleScreen
from console.screens.choose import Ask, Choose, Page
from console.screens.compare import CompareScreen
from console.screens.new import NewScreen, _key
from engine.jobs import runs
from engine.jobs.home import Home
from engine.results.expectations import expectations
from engine.results.tidy import registered_audits
from engine.spec.presets import load

SIZES = [(80, 24), (140, 40), (200, 60)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path / "home")


def state(screen: NewScreen) -> str:
    return str(screen.query_one("#new-state", Static).render())


async def opened(pilot: Pilot[Any], host: Host) -> NewScreen:
    screen = host.shown
    assert isinstance(screen, NewScreen)
    await until(pilot, lambda: screen.is_mounted and screen.query("#new-parts"), "mounted")
    host.tick()
    await until(pilot, lambda: "TEE" in state(screen), "planned")
    return screen


async def go(pilot: Pilot[Any], screen: NewScreen, part: str, key: str = "") -> None:
    screen.parts.focus()
    screen.parts.move_to(part)
    await until(pilot, lambda: _key(screen._section) == part, part)
    if key:
        screen.form.keys.focus()
        screen.form.keys.move_to(key)
        await pilot.pause()


async def typed(pilot: Pilot[Any], screen: NewScreen, text: str) -> None:
    """Enter, and `text` in place of what stands there."""
    await pilot.press("enter")
    box = screen.query_one("#new-input", Input)
    await until(pilot, lambda: box.has_focus, "editing")
    box.value = ""
    await pilot.press(*text)


@pytest.mark.parametrize("size", SIZES)
def test_it_opens_with_the_quickstart_and_its_cost(home: Home, size: tuple[int, int]) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=size) as pilot:
            screen = await opened(pilot, host)
            plan = prepare("quickstart", None, None, None).plan
            assert f"{len(plan.stages)} stages, 0 stored" in state(screen)
            assert f"{plan.tee:.4g} of {plan.tee:.4g} TEE" in state(screen)
            for widget in ("#new-parts", "#new-keys", "#new-about", "#new-state"):
                region = screen.query_one(widget).region
                assert region.width > 20
                assert region.bottom <= size[1] - 1

    asyncio.run(body())


@pytest.mark.parametrize("size", SIZES)
def test_it_says_what_verdicts_to_expect(home: Home, size: tuple[int, int]) -> None:
    """It follows the seeds as they are typed, and stays on the screen."""

    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=size) as pilot:
            screen = await opened(pilot, host)
            lines = state(screen).splitlines()
            assert len(lines) == 3
            assert lines[2].startswith("5 seeds: nothing left → removed ")
            assert "all left → residue 100 %; 80 % from " in lines[2][:79]
            assert screen.query_one("#new-state").region.bottom <= size[1] - 1
            assert screen.query_one("#new-state").region.height >= 3
            await go(pilot, screen, "general", "seeds")
            await typed(pilot, screen, "0,1")
            await until(pilot, lambda: "2 seeds: " in state(screen), "told while typing")
            assert "needs 3" in state(screen)
            await pilot.press("escape")
            await until(pilot, lambda: "5 seeds: " in state(screen), "as it was")
            for part in range(len(screen.draft.raw["audits"]) - 1, -1, -1):
                await go(pilot, screen, f"audits.{part}")
                if screen._section.name == "gaussian":
                    await pilot.press("d")
            await until(pilot, lambda: "(accuracy)" in state(screen), "another audit")

    asyncio.run(body())


def test_what_verdicts_to_expect_comes_from_like_runs(home: Home, tmp_path: Path) -> None:
    async def body() -> None:
        there = staged(tmp_path)
        host = Host(NewScreen(), there.home)
        async with host.run_test(size=(140, 40)) as pilot:
            screen = await opened(pilot, host)
            screen.start("staged")
            await until(pilot, lambda: "3 seeds: " in state(screen), "planned")
            assert screen.appraisal is not None
            assumed = summary_line(expectations(screen.appraisal.planned.plan, registered_audits()))
            assert screen.appraisal.power in state(screen)
            assert screen.appraisal.power != assumed

    asyncio.run(body())


@pytest.mark.parametrize("size", SIZES)
def test_typing_is_checked_at_once_in_the_command_lines_words(
    home: Home, size: tuple[int, int]
) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=size) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "attacks.0", "share")
            await typed(pilot, screen, "5")
            assert "attacks[0].share = 5: should be less than 1." in state(screen)
            await pilot.press("escape")
            assert "share = 5" not in state(screen)
            assert not screen.draft.changed
            await typed(pilot, screen, "5")
            await pilot.press("enter")
            assert screen.form.entries["share"].problem
            assert "✗" in state(screen)
            await pilot.press("L")
            assert "Cannot launch" in host.said[-1]
            await pilot.press("s")
            assert "Not valid yet" in host.said[-1]
            await pilot.press("u")
            assert screen.problems == []
            await until(pilot, lambda: "TEE" in state(screen), "planned again")

    asyncio.run(body())


def test_what_only_planning_finds_is_shown_at_its_key(home: Home) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "attacks.0", "share")
            await typed(pilot, screen, "0.0001")
            await until(pilot, lambda: "poisons none" in state(screen), "told while typing")
            await pilot.press("enter")
            await until(pilot, lambda: screen.problems, "told after it")
            assert "poisons none" in state(screen)

    asyncio.run(body())


def test_a_grid_is_typed_with_commas_and_a_choice_cycled(home: Home) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            before = state(screen)
            await go(pilot, screen, "methods.3", "lr")
            await typed(pilot, screen, "0.01, 0.1")
            await pilot.press("enter")
            assert screen.draft.raw["methods"][3]["grid"] == {"lr": [0.01, 0.1]}
            await until(pilot, lambda: "TEE" in state(screen), "planned")
            assert state(screen) != before
            await go(pilot, screen, "train", "schedule")
            await pilot.press("space")
            assert screen.draft.raw["train"]["schedule"] == "one-cycle"
            await pilot.press("x")
            assert "schedule" not in screen.draft.raw["train"]

    asyncio.run(body())


@pytest.mark.parametrize("size", SIZES)
def test_cards_stand_beside_the_list_and_what_does_not_fit_is_refused(
    home: Home, size: tuple[int, int]
) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=size) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "audits.0")
            await pilot.press("a")
            assert isinstance(host.screen, Choose)
            host.screen.query_one("#choices").move_to("attack-success")
            await pilot.pause()
            page = str(host.screen.query_one("#page-text", Static).render())
            assert "needs an attack that gives trigger" in page
            assert "primary metric: asr" in page
            await pilot.press("enter")
            assert isinstance(host.screen, Choose), "still there: it was refused"
            assert "trigger" in host.said[-1]
            await pilot.press("escape")
            await go(pilot, screen, "attacks.0")
            await pilot.press("a")
            host.screen.query_one("#choices").move_to("badnets")
            await pilot.press("enter")
            assert [a["name"] for a in screen.draft.raw["attacks"]] == ["gaussian", "badnets"]
            await pilot.press("d")
            assert [a["name"] for a in screen.draft.raw["attacks"]] == ["gaussian"]

    asyncio.run(body())


def test_the_model_is_chosen_not_added(home: Home) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "model")
            await pilot.press("a")
            host.screen.query_one("#choices").move_to("linear")
            await pilot.press("enter")
            assert screen.draft.raw["model"] == {"name": "linear"}
            assert screen.problems == []

    asyncio.run(body())


def test_a_saved_preset_runs_identically_and_is_never_overwritten(
    home: Home, tmp_path: Path
) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "train", "epochs")
            await typed(pilot, screen, "3")
            await pilot.press("enter", "v")
            assert isinstance(host.screen, Page)
            assert "+epochs = 3" in host.screen.text
            await pilot.press("escape", "s")
            assert isinstance(host.screen, Ask)
            box = host.screen.query_one(Input)
            assert box.value == str(tmp_path / "quickstart.toml")
            await pilot.press("enter")
            saved = tmp_path / "quickstart.toml"
            assert saved.is_file()
            assert load(str(saved)).train.epochs == 3
            here = prepare(str(saved), None, None, "cpu").plan
            await until(pilot, lambda: screen.appraisal is not None, "planned")
            assert list(here.stages) == list(screen.appraisal.planned.plan.stages)
            await pilot.press("s")
            assert host.screen.query_one(Input).value.endswith("quickstart-2.toml")
            host.screen.query_one(Input).value = str(saved)
            await pilot.press("enter")
            assert isinstance(host.screen, Ask), "an existing file is refused"

    asyncio.run(body())


def test_launch_makes_the_run_and_starts_its_supervisor(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr("engine.jobs.session.start", lambda run, *_: started.append(run.id) or None)

    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            await opened(pilot, host)
            await pilot.press("L")
            assert isinstance(host.screen, Page)
            await pilot.press("escape")
            assert not started
            await pilot.press("L", "enter")
            await until(pilot, lambda: host.watched, "launched")
            assert started == host.watched == [run.id for run in runs.every(home)]
            run = runs.find(home, started[0])
            assert run.experiment == load("quickstart").model_copy()

    asyncio.run(body())


def test_it_starts_from_a_run_and_counts_what_is_stored(tmp_path: Path) -> None:
    there: Staged = staged(tmp_path)

    async def body() -> None:
        host = Host(NewScreen(), there.home)
        async with host.run_test(size=(140, 40)) as pilot:
            screen = await opened(pilot, host)
            await pilot.press("o")
            assert isinstance(host.screen, Choose)
            host.screen.query_one("#choices").move_to(there.run.id)
            await pilot.press("enter")
            await until(pilot, lambda: "all in the store" in state(screen), "surveyed")
            assert screen.draft.name == "staged"

    asyncio.run(body())


def test_it_comes_back_as_it_was(home: Home) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "train", "epochs")
            await typed(pilot, screen, "7")
            await pilot.press("enter")
            told = screen.remember()
        again = NewScreen()
        again.restore({"raw": 3})
        again.restore({"raw": {"attacks": 3}, "before": {}})
        again.restore(told)
        host = Host(again, home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            assert screen.draft.raw["train"]["epochs"] == 7
            assert screen.draft.changed

    asyncio.run(body())


@pytest.mark.parametrize("screen", [NewScreen, CompareScreen])
def test_every_action_of_the_registry_is_there_and_helps(screen: type[ConsoleScreen]) -> None:
    own = [action for action in ACTIONS if screen.MODE in action.screens]
    assert own
    for action in own:
        assert hasattr(screen, f"action_{action.id.partition('(')[0]}"), action.id
        assert all(len(key) == 1 or key in ("enter", "tab", "escape", "space", "backspace")
                   for key in action.keys), action.id  # fmt: skip
    assert len(screen.HELP) > 100


def test_margins_are_edited_and_saved_like_any_key(home: Home, tmp_path: Path) -> None:
    async def body() -> None:
        host = Host(NewScreen(), home)
        async with host.run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, host)
            await go(pilot, screen, "verdicts", "gaussian.mean_score")
            await typed(pilot, screen, "0")
            await until(pilot, lambda: "greater than 0" in state(screen), "refused")
            screen.query_one("#new-input", Input).value = "0.2"
            await pilot.press("enter")
            line = "margin of gaussian.mean_score: ±0.2 (shipped: ±0.15)"
            await until(pilot, lambda: line in state(screen).replace("\n", " "), "told")
            await pilot.press("s")
            await pilot.press("enter")
            saved = tmp_path / "quickstart.toml"
            assert load(str(saved)).verdicts == {"gaussian": {"mean_score": 0.2}}
            screen.start(str(saved))
            assert screen.draft.raw["verdicts"] == {"gaussian": {"mean_score": 0.2}}

    asyncio.run(body())
