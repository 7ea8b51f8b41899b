"""Real retrainings, which hold no poison, are seldom called residue."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import retrainings

SEEDS, GROUP = 20, 5

pytestmark = pytest.mark.slow


def test_retrain_fresh_is_residue_once_in_twenty_at_most(tmp_path: Path) -> None:
    rows = retrainings.measure(tmp_path, SEEDS)
    alone = retrainings.verdicts(rows, [[seed] for seed in range(SEEDS)])
    groups = [list(range(at, at + GROUP)) for at in range(0, SEEDS, GROUP)]
    together = retrainings.verdicts(rows, groups)
    assert alone.keys() == {"gaussian", "badnets"}
    for attack, told in alone.items():
        assert sum(told.values()) == SEEDS
        assert told["residue"] <= 1
        assert together[attack]["residue"] == 0
        assert together[attack]["removed"] >= len(groups) - 1
