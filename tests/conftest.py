"""What all tests share: one nursery a pytest process, made when the first of them asks for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "nursery"))

from nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.end()


@pytest.fixture
def forked(nursery: Nursery) -> Iterator[Nursery]:
    """The nursery, by which all supervisors of the test are started that this process starts."""
    with nursery.starts_all():
        yield nursery
    nursery.clear()
