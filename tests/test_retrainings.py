"""Real retrainings, which hold no poison, are seldom called residue or wrecked."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import retrainings
from benchmarks.retrainings import Judged

SEEDS = range(100, 110)
ATTACKS = {"gaussian": "gaussian", "badnets": "attack-success"}  # and the audit made for each

pytestmark = pytest.mark.slow


def test_perfect_unlearners_are_seldom_wronged(tmp_path: Path) -> None:
    rows = retrainings.measure(tmp_path, "digits", SEEDS, attacks=list(ATTACKS))
    models = {row["method"]: row["values"] for row in rows if row["metric"] == "test_accuracy"}
    assert models.keys() == {"none", "retrain", *retrainings.PERFECT}
    assert len({tuple(values) for values in models.values()}) == 4  # no two are the same training
    for size in (3, 5):
        groups = retrainings.groups_of(SEEDS, size)
        words, wronged = retrainings.verdicts(rows, groups)
        assert wronged.keys() == ATTACKS.keys()
        assert sum(wronged.values()) <= 1
        for row, counted in words.items():
            assert counted.total() == len(groups), row
        if size == 5:
            for attack, audit in ATTACKS.items():
                for method in retrainings.PERFECT:
                    assert words[Judged(attack, audit, method)]["removed"] >= 1
