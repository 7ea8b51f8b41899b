"""What the data are, on Live and on a page of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from homes import WrittenRun, running_run
from test_app import SIZES, opened, text_of, until

from console.screens.choose import Page
from console.screens.live_view import data_line
from console.viewmodel import OpenRun, RunRow

REPORT: dict[str, Any] = {
    "kind": "table",
    "classes": ["no", "[red]"],
    "train": {"rows": 4000, "per_class": [3000, 1000]},
    "test": {"rows": 1000},
    "columns": [{"name": f"a quite long name {n}", "kind": "categorical", "values": ["a", "b"]}
                for n in range(6)],
    "overlap": 0,
}  # fmt: skip


def with_data(run: WrittenRun, report: dict[str, Any]) -> None:
    """What planning knew of its data."""
    (data,) = (stage["key"] for stage in run.plan["stages"] if stage["kind"] == "data")
    told = run.plan | {"reports": {data: report}}
    (run.folder / "plan.json").write_text(json.dumps(told))


@pytest.mark.parametrize("size", SIZES)
def test_live_tells_the_data_and_d_tells_them_in_full(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    run = running_run(tmp_path)
    with_data(run, REPORT)

    async def drive() -> None:
        async with opened(tmp_path, size, run=run.id) as (app, pilot):
            await until(pilot, lambda: "data: 4,000 rows and 1,000 test rows" in text_of(app))
            assert "6 columns" in text_of(app), "whole or in short: it fits"
            await pilot.press("D")
            await until(pilot, lambda: isinstance(app.screen, Page))
            await until(pilot, lambda: "planning alone" in text_of(app))
            told = app.screen.text  # type: ignore[attr-defined]
            assert "0  no       3,000" in told and "1  '[red]'  1,000" in told
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, Page))

    asyncio.run(drive())
    run.release()


def test_the_line_is_as_long_as_there_is_room_for() -> None:
    row = RunRow("r", "r", state="done")
    one, two = ("data: all of it, at length", "data: short"), ("data: another", "data: b")
    assert data_line(OpenRun(row), 80) == ""
    assert data_line(OpenRun(row, data=(one,)), 80) == one[0]
    assert data_line(OpenRun(row, data=(one,)), 20) == one[1]
    assert data_line(OpenRun(row, data=(one, two)), 25) == "data: short; 1 more: D"
    assert data_line(OpenRun(row, data=(("data: 字字字字", "data: 8"),)), 12) == "data: 8"
