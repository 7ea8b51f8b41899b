"""docs/reliability.md lists the faults that are tested, all of them and no others."""

from __future__ import annotations

from pathlib import Path

from faultlog import kinds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def test_the_table_lists_the_faults_that_are_tested() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    listed = {row[0].removeprefix("| "): row for row in rows if len(row) == 4}
    listed.pop("fault")
    tested = kinds()
    assert listed.keys() == tested.keys(), "run docs/make_reliability.py"
    assert len(tested) >= 20
    for kind, tests in tested.items():
        for where in tests:
            assert where.removeprefix("tests/") in listed[kind][3]
