"""These tests need the cluster of cluster.py: `.ci/run` starts it; elsewhere they are skipped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cli")]

import cluster  # noqa: E402
import harness  # noqa: E402

harness.PATIENCE = 300.0  # a whole quickstart, on whatever machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = cluster.missing()
    for item in items:
        if missing and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def _nothing_survives(tmp_path: Path) -> Iterator[None]:
    yield
    cluster.cancel_all()
    for process in harness.processes(tmp_path):
        process.kill()
