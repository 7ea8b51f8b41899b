"""One table feeds keys, footer, palette and help: here it is compared with all of them."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from console.actions import ACTIONS, MODES, actions_of, as_markdown, bindings, find
from console.app import ConsoleApp
from console.screens import CLASSES
from console.screens.help import help_text


@pytest.mark.parametrize("mode", MODES)
def test_every_action_of_a_screen_is_a_method_with_a_key(mode: str) -> None:
    screen = getattr(import_module(f"console.screens.{mode}"), CLASSES[mode])
    for action in ACTIONS:
        if mode in action.screens:
            assert hasattr(screen, f"action_{action.id.partition('(')[0]}"), action.id
            assert action.keys, action.id


def test_every_action_of_the_app_is_a_method() -> None:
    for action in ACTIONS:
        if not action.screens:
            assert hasattr(ConsoleApp, f"action_{action.id.partition('(')[0]}"), action.id


@pytest.mark.parametrize("mode", MODES)
def test_no_key_does_two_things_on_one_screen(mode: str) -> None:
    counts = Counter(key for a in ACTIONS if mode in a.screens for key in a.keys)
    assert [key for key, count in counts.items() if count > 1] == []


def test_no_function_keys_and_no_chord_is_the_only_way() -> None:
    for action in ACTIONS:
        assert not any(re.fullmatch(r"f\d+", key) for key in action.keys), action.id
        if action.keys and action.keys != ("ctrl+z",):  # the terminal's own, on every keyboard
            assert any("+" not in key or key == "+" for key in action.keys), action.id


@pytest.mark.parametrize("mode", MODES)
def test_help_tells_every_action(mode: str) -> None:
    told = help_text(mode, "", read_only=False).plain
    for action in actions_of(mode):
        assert action.help in told, action.id


def test_read_only_leaves_out_what_changes_something() -> None:
    for mode in MODES:
        assert not any(action.changes for action in actions_of(mode, read_only=True))
    told = help_text("runs", "", read_only=True).plain
    assert "Remove a run" not in told


def test_bindings_come_from_the_table() -> None:
    keys = {binding.key for binding in bindings("runs")}
    assert {"enter", "/", "K", "R", "d", "space"} <= keys
    assert {"1", "2", "3", "4", "5", "6", "?", ":", "q"} <= {b.key for b in bindings()}
    stop = find("stop")
    assert stop is not None and stop.changes


def test_the_documentation_is_made_from_the_table() -> None:
    file = Path(__file__).parents[2] / "docs" / "console-keys.md"
    assert file.read_text(encoding="utf-8") == as_markdown(), "python -m console.actions writes it"
