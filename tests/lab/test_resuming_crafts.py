"""Crafting killed at random steps and gone on from checkpoints leaves the same poison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.lab.stages import RUN
from engine.spec.planned import Stage
from tests.helpers import Run, run_plan, small_experiment
from tests.lab.mortal import Mortal, contents, through_deaths

SHARE = 0.05
HEADS: dict[str, dict[str, Any]] = {
    # Of so many rows the worst poison is met at step 4: behind a death, not before all of them.
    "bilevel": {"name": "bilevel-head", "share": 0.2, "steps": 6, "lr": 0.1},
    "reachable": {"name": "gradient-canceling", "steps": 6, "target_steps": 5},
    "whole model": {"name": "gradient-canceling", "steps": 3, "target_steps": 3, "scope": "all"},
    "gradpc": {"name": "gradient-canceling", "steps": 3, "target": "gradpc", "radius": 0.1},
}
MATCHING = {
    "name": "gradient-matching", "share": SHARE, "targets": 1, "restarts": 3, "steps": 5,
    "epsilon": 0.2, "lr": 0.05, "batch_size": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def heads(workshop: Path) -> Run:
    attacks = [{"share": SHARE, "label": label} | told for label, told in HEADS.items()]
    return crafted(workshop, attacks, {"weight_decay": 0.01, "lr": 0.02})


@pytest.fixture(scope="module")
def matching(workshop: Path) -> Run:
    return crafted(workshop, [MATCHING], {"augment": "crop-flip"})


def crafted(workshop: Path, attacks: list[dict[str, Any]], train: dict[str, Any]) -> Run:
    raw = {
        "data": {"name": "mnist5k", "limit_train": 200, "limit_test": 60},
        "model": {"name": "linear"},
        "train": {"epochs": 4, "batch_size": 32, "lr": 0.05} | train,
        "attacks": attacks,
        "methods": [{"name": "none"}],
        "audits": [{"name": "accuracy"}],
    }
    return run_plan(small_experiment(**raw), workshop)


def check(run: Run, craft: Stage, tmp_path: Path) -> list[tuple[str, int]]:
    """Crafts through deaths; returns where it went on from."""

    def go(ctx: Mortal) -> tuple[dict[str, bytes], float]:
        ctx.stage, ctx.kept = craft, {}
        ctx.folder = tmp_path / "result"
        ctx.folder.mkdir(exist_ok=True)
        inputs = tmp_path / "inputs"
        ctx.file = lambda role, name: inputs / str(ctx.key(role)) / name  # type: ignore[method-assign]
        tee = RUN["craft"](craft.config, ctx)
        return contents(ctx.folder), tee

    (tmp_path / "inputs").symlink_to(run.root)
    (found, tee), resumed = through_deaths(go, tmp_path / "rough", seed=None, most=4)
    undisturbed = contents(run.root / craft.key)
    undisturbed.pop("done.json")
    assert found == undisturbed
    assert tee == run.tee[craft.key]
    return resumed


@pytest.mark.parametrize("number", range(len(HEADS)), ids=list(HEADS))
def test_attacks_on_heads(heads: Run, number: int, tmp_path: Path) -> None:
    resumed = check(heads, heads.stages("craft")[number], tmp_path)
    loops = {"bilevel": {"ascent"}, "gradpc": {"gradpc", "cancel"}}
    assert {loop for loop, _ in resumed} == loops.get(list(HEADS)[number], {"ascent", "cancel"})


def test_gradient_matching(matching: Run, tmp_path: Path) -> None:
    """Within restarts and between them."""
    resumed = check(matching, matching.stages("craft")[0], tmp_path)
    assert [step for _, step in resumed] == [3, 6, 9, 12]
