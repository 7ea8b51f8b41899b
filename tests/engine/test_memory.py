"""A stage that runs out of memory: once more where there is more room, in a new process, unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import TINY, called, exits, strict_json
from nursery import Nursery

# `gd` runs out of memory as often as its step says; meanwhile the other GPU becomes free.
GREEDY = """
import json, os
from pathlib import Path

from engine.lab import stages

real, folder = stages.RUN["unlearn"], Path(__file__).parent


def greedy(config, context):
    import torch

    times = round(100 * config["method"]["lr"])
    log = folder / f"greedy{times}"
    with log.open("a") as file:
        file.write(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}\\n")
    (folder / "devices.json").write_text(json.dumps({"devices": [
        {"uuid": "GPU-a", "kind": "cpu", "free": 12 << 30},
        {"uuid": "GPU-b", "kind": "cpu", "free": 16 << 30},
    ]}))
    if len(log.read_text().splitlines()) <= times:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return real(config, context)


stages.RUN["unlearn"] = greedy
"""


@pytest.mark.fault(
    "a device runs out of memory",
    seen="warning: out of memory on <device>; once more where there is more room; then: failed",
    happened="one more try, in a new process where there is more room, unchanged",
)
def test_out_of_memory_is_tried_once_more_where_there_is_more_room(
    tmp_path: Path, forked: Nursery
) -> None:
    text = TINY.split("[[methods]]")[0].replace("[0, 1]", "[0]").replace("[0.25, 0.5]", "[0.25]")
    for times in (1, 2):
        text += f'[[methods]]\nname = "gd"\nlabel = "x{times}"\nlr = 0.0{times}\n'
    preset, script = tmp_path / "preset.toml", tmp_path / "greedy.py"
    preset.write_text(text)
    script.write_text(GREEDY)
    devices = [
        {"uuid": "GPU-a", "kind": "cpu", "free": 12 << 30},
        {"uuid": "GPU-b", "kind": "cpu", "free": 8 << 30},
    ]
    fake = tmp_path / "devices.json"
    fake.write_text(json.dumps({"devices": devices}))
    with forked.starts_all(script=str(script)):
        done = called(
            "run", preset, "--home", tmp_path / "home", "--json", "--set", "compute.workers=1",
            CHELATE_LOCKS=str(tmp_path), CHELATE_FAKE_DEVICES=str(fake),
        )  # fmt: skip
    forked.until_gone()
    assert done.returncode == 3
    assert done.stderr.count("out of memory on cpu:0; once more where there is more room") == 1
    assert "gd[x2] 0.25 s0: OutOfMemoryError: CUDA out of memory" in done.stderr
    rows = strict_json(done.stdout)["rows"]
    assert {row["variant"]: row["values"] == [None] for row in rows if row["method"] == "gd"} == {
        "x1": False,
        "x2": True,
    }
    once, twice = (
        [line.split() for line in (tmp_path / f"greedy{n}").read_text().splitlines()]
        for n in (1, 2)
    )
    assert len(once) == len(twice) == 2
    assert [device for _, device in once] == ["GPU-a", "GPU-b"]
    assert len({pid for pid, _ in once}) == len({pid for pid, _ in twice}) == 2
    causes = [end.get("cause") for end in exits(tmp_path / "home") if end["outcome"] == "failed"]
    assert causes == ["oom"] * 3
