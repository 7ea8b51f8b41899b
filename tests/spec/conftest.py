"""Fixtures of the tests of engine/spec."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from small import RAW


@pytest.fixture
def raw() -> dict[str, Any]:
    """A small preset as data, the test's own to change."""
    return copy.deepcopy(RAW)
