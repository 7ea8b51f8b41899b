"""What other people on the server see of a run, and what is kept of its environment: nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import Nursery
from trials import SMALL, Trial, create

SECRET = "hunter2-and-nobody-else-knows"


@pytest.fixture
def careless(nursery: Nursery, tmp_path: Path) -> Iterator[Trial]:
    """A run of somebody whose umask allows everything, with a secret in the environment."""
    before = os.umask(0)
    try:
        trial = Trial(nursery, create(tmp_path / "deep" / "home", SMALL, "small"), {})
        trial.start(env={"WANDB_API_KEY": SECRET, "SECRET": SECRET}, umask=0)
        assert trial.await_end() == "done", trial.said()
    finally:
        os.umask(before)
    yield trial
    nursery.clear()


def test_folders_are_their_owners_and_secrets_stay_in_the_environment(careless: Trial) -> None:
    folders = [careless.home, *(p for p in careless.home.rglob("*") if p.is_dir())]
    assert len(folders) > 30
    open_ = {str(p): oct(stat.S_IMODE(p.stat().st_mode)) for p in folders}
    assert set(open_.values()) == {"0o700"}, [p for p, mode in open_.items() if mode != "0o700"]
    files = [path for path in careless.home.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
