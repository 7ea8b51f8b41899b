"""Fixtures of the fault tests: one undisturbed run a session, a trial a test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from harness import hashes, session_folder
from nursery import Nursery
from trials import LONG, PRESETS, SMALL, Trial, create


@pytest.fixture(scope="session")
def undisturbed(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Preset → what the store holds after a run that nobody disturbed."""
    known: dict[str, dict[str, dict[str, str]]] = {}
    base = session_folder(tmp_path_factory) / f"undisturbed-{os.getpid()}"

    def of(name: str) -> dict[str, dict[str, str]]:
        if name not in known:
            trial = Trial(nursery, create(base / name, PRESETS[name], name), {})
            trial.start()
            assert trial.await_end() == "done", trial.said()
            known[name] = hashes(trial.home)
        return known[name]

    return of


@pytest.fixture
def trial(nursery: Nursery, undisturbed: Any, tmp_path: Path) -> Iterator[Trial]:
    """A small grid, not started yet."""
    yield Trial(nursery, create(tmp_path / "home", SMALL, "small"), undisturbed("small"))
    nursery.clear()


@pytest.fixture
def long_trial(nursery: Nursery, undisturbed: Any, tmp_path: Path) -> Iterator[Trial]:
    """A training of a second, with checkpoints."""
    made = Trial(nursery, create(tmp_path / "home", LONG, "long"), undisturbed("long"))
    made.options["checkpoints"] = True
    yield made
    nursery.clear()
