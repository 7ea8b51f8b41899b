"""Tests that fork hundreds of times, in a process that holds nothing but them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "CHELATE_TEST_SMALL"


def in_a_small_process(test: Callable[..., None]) -> Callable[..., None]:
    """The test by a pytest of its own: a fork copies the tables of all pages, and what the tests
    before this one have loaded (torch, for example) makes each of them ten times as dear."""

    @functools.wraps(test)
    def apart(**fixtures: Any) -> None:
        if MARK in os.environ:
            test(**fixtures)
            return
        words = ["-p", "no:cacheprovider", "--basetemp", str(fixtures["tmp_path"] / "apart")]
        words += [f"{Path(test.__code__.co_filename)}::{test.__name__}"]
        ours = os.environ | {MARK: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, "-m", "pytest", *words]
        done = subprocess.run(command, env=ours, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout

    return apart
