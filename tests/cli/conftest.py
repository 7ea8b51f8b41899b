"""Fixtures of the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import TINY, Computed, called, computed, session_folder
from nursery import Nursery


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests may land in, or come from, the caller's own folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CHELATE_HOME", raising=False)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Computed:
    with nursery.starts_all():
        return computed(session_folder(tmp_path_factory), command=called)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A preset file of the test's own."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
