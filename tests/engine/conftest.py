"""Fixtures of the tests of supervisor and workers; the tools are those of tests/cli."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from detached import LONG
from harness import TINY, Computed, called, computed, processes, session_folder
from nursery import Nursery


@pytest.fixture(scope="session")
def shared(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Computed:
    with nursery.starts_all():
        return computed(session_folder(tmp_path_factory), command=called)


@pytest.fixture(scope="session")
def undisturbed(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """A long training that nobody disturbed."""
    with nursery.starts_all():
        return computed(session_folder(tmp_path_factory), "long", LONG, command=called)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A preset file of the test's own."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(autouse=True)
def _no_process_survives(tmp_path: Path) -> object:
    """Whatever a test did to them, it leaves no supervisor or worker behind."""
    yield
    for process in processes(tmp_path):
        process.kill()
