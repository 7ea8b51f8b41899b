"""Writes the table of docs/reliability.md from a run of the fault tests.

python docs/make_reliability.py            (CHELATE_TEST_SLURM=1 for those on Slurm, too)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by docs/make_reliability.py -->", "<!-- end -->"
sys.path.insert(0, str(ROOT / "tests" / "faults"))

from faultlog import kinds  # noqa: E402


def main() -> int:
    files = sorted({where.partition("::")[0] for tests in kinds().values() for where in tests})
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "faults.json"
        paths = os.pathsep.join([str(ROOT / "tests" / "faults"), str(ROOT)])
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "faultlog", "-n", "0", *files,
             "-m", "fault and not slow"],
            cwd=ROOT, env=os.environ | {"CHELATE_FAULTS": str(target), "PYTHONPATH": paths},
        ).returncode  # fmt: skip
        told = json.loads(target.read_text())
    if code:
        return code
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(told)}{END}{after}")
    return 0


def table(told: list[dict[str, Any]]) -> str:
    """One row a fault, in the order of the tests."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for one in told:
        by_kind.setdefault(one["kind"], []).append(one)
    lines = ["| fault | what happened | what the user sees | tests |", "|---|---|---|---|"]
    for kind in sorted(by_kind, key=str.casefold):
        ones = by_kind[kind]
        happened = "; ".join(dict.fromkeys(one["happened"] for one in ones if one["happened"]))
        skipped = [one for one in ones if one["outcome"] == "skipped"]
        if skipped:
            happened = f"not tried when this table was made ({skipped[0]['reason']})"
        where = ", ".join(dict.fromkeys(one["test"].removeprefix("tests/") for one in ones))
        count = f"{len(ones) - len(skipped)} passed: "
        seen = ones[0]["seen"].replace("|", "\\|")
        lines.append(f"| {kind} | {happened} | {seen} | {count}`{where}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
