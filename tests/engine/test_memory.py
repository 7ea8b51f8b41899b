"""A stage that runs out of memory: once more where there is more room, in a new process, unchanged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from harness import TINY, exits, finish, start, strict_json, until_gone

# A method that runs out of memory `times` times; meanwhile the other GPU becomes free.
GREEDY = """
import json, os
from pathlib import Path
from typing import ClassVar, Literal

from engine.spec.component import Card, Method


class Greedy(Method):
    name: Literal["greedy"] = "greedy"
    times: int = 1
    reads: ClassVar = frozenset({"retain"})
    card: ClassVar = Card(title="Greedy", summary="-", reference="-", needs="-", cost="-",
                          deviations="-")

    def begin(self, task):
        import torch

        folder = Path(os.environ["GREEDY"])
        log = folder / f"greedy{self.times}"
        with log.open("a") as file:
            file.write(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}\\n")
        (folder / "devices.json").write_text(json.dumps({"devices": [
            {"uuid": "GPU-a", "kind": "cpu", "free": 12 << 30},
            {"uuid": "GPU-b", "kind": "cpu", "free": 16 << 30},
        ]}))
        if len(log.read_text().splitlines()) <= self.times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def step(self, task):
        task.retain.batch(8)
"""


def install(folder: Path) -> None:
    """As pip would: a module, and the metadata that names its entry point."""
    (folder / "greedy.py").write_text(GREEDY)
    info = folder / "greedy-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[chelate.methods]\ngreedy = greedy:Greedy\n")


def run(tmp_path: Path, preset: str) -> subprocess.CompletedProcess[str]:
    install(tmp_path)
    devices = [
        {"uuid": "GPU-a", "kind": "cpu", "free": 12 << 30},
        {"uuid": "GPU-b", "kind": "cpu", "free": 8 << 30},
    ]
    (tmp_path / "devices.json").write_text(json.dumps({"devices": devices}))
    path = tmp_path / "preset.toml"
    path.write_text(preset)
    return finish(
        start(
            "run", path, "--home", tmp_path / "home", "--json", "--set", "compute.workers=1",
            PYTHONPATH=str(tmp_path), GREEDY=str(tmp_path), CHELATE_LOCKS=str(tmp_path),
            CHELATE_FAKE_DEVICES=str(tmp_path / "devices.json"),
        )
    )  # fmt: skip


@pytest.mark.fault(
    "a device runs out of memory",
    seen="warning: out of memory on <device>; once more where there is more room; then: failed",
    happened="one more try, in a new process where there is more room, unchanged",
)
def test_out_of_memory_is_tried_once_more_where_there_is_more_room(tmp_path: Path) -> None:
    preset = TINY.split("[[methods]]")[0].replace("[0, 1]", "[0]").replace("[0.25, 0.5]", "[0.25]")
    preset = preset.replace(', { name = "gaussian" }]', "]")  # the audit, which imports SciPy
    for times in (1, 2):
        preset += f'[[methods]]\nname = "greedy"\nlabel = "x{times}"\ntimes = {times}\n'
    done = run(tmp_path, preset)
    until_gone(tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("out of memory on cpu:0; once more where there is more room") == 1
    assert "greedy[x2] 0.25 s0: OutOfMemoryError: CUDA out of memory" in done.stderr
    rows = strict_json(done.stdout)["rows"]
    assert {row["variant"]: row["values"] == [None] for row in rows} == {"x1": False, "x2": True}
    once, twice = (
        [line.split() for line in (tmp_path / f"greedy{n}").read_text().splitlines()]
        for n in (1, 2)
    )
    assert len(once) == len(twice) == 2
    assert [device for _, device in once] == ["GPU-a", "GPU-b"]
    assert len({pid for pid, _ in once}) == len({pid for pid, _ in twice}) == 2
    causes = [end.get("cause") for end in exits(tmp_path / "home") if end["outcome"] == "failed"]
    assert causes == ["oom"] * 3
