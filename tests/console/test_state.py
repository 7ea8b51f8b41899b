from __future__ import annotations

from pathlib import Path

import pytest

from console import state


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert state.save(tmp_path, {"mode": "live", "screens": {"live": {"logy": True}}})
    assert state.load(tmp_path)["screens"] == {"live": {"logy": True}}
    assert [path.name for path in tmp_path.iterdir()] == [state.NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"v": 99, "mode": "live"}', "\x00", "[" * 5000])
def test_nonsense_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / state.NAME).write_text(text)
    assert state.load(tmp_path) == {}


def test_a_home_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    assert not state.save(tmp_path / "missing", {"mode": "runs"})
    assert not state.save(tmp_path, {"mode": object()})
    assert list(tmp_path.iterdir()) == []
