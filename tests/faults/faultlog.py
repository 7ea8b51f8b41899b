"""A pytest plugin: what tests marked `fault` were about and said, as JSON in $CHELATE_FAULTS.

Also which faults there are, from the tests' text alone.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
_told: list[dict[str, Any]] = []


def kinds() -> dict[str, list[str]]:
    """Fault → the tests marked with it, as file::test."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.fault" not in text:
            continue
        for node in ast.parse(text).body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    where = f"{path.relative_to(TESTS.parent)}::{node.name}"
                    found.setdefault(ast.literal_eval(mark.args[0]), []).append(where)
    return found


def pytest_itemcollected(item: pytest.Item) -> None:
    for mark in item.iter_markers("fault"):
        told = {"kind": mark.args[0], **mark.kwargs, "test": item.nodeid.partition("[")[0]}
        item.user_properties.append(("fault", told))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    told = dict(report.user_properties)
    over = report.when == "call" or (report.when == "setup" and not report.passed)
    if "fault" in told and over:
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        outcome = {"outcome": report.outcome, "reason": reason.removeprefix("Skipped: ")}
        happened = {"happened": told["happened"]} if "happened" in told else {}
        _told.append({"happened": "", **told["fault"], **happened, **outcome})


def pytest_sessionfinish() -> None:
    target = os.environ.get("CHELATE_FAULTS")
    if target and "PYTEST_XDIST_WORKER" not in os.environ:
        Path(target).write_text(json.dumps(_told))
