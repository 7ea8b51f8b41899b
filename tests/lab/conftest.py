"""Fixtures of the lab's tests: one thread, one small run for all, and toys without any files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import LocalContext, Run, run_plan, small_experiment


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `run_plan` in which all tests share what is already computed."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(scope="session")
def small_run(workshop: Path) -> Run:
    """One seed of every method on 400 digits, of which 36 are poisoned."""
    methods = [{"name": name} for name in ("none", "retrain", "retrain-fresh", "gd", "ngd")]
    for method in methods[3:]:
        method["batch_size"] = 32
    return run_plan(small_experiment(methods=methods), workshop)


@pytest.fixture
def ctx(tmp_path: Path) -> LocalContext:
    return LocalContext(tmp_path / "stage")
