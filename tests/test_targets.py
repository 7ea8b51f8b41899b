"""Rows that pool several poisons a seed: nothing overwrites anything; rates have honest intervals."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.compare_model import Comparison, View, seed_table
from engine.results import statistics
from engine.results.compare import Row, compare
from engine.results.tables import summary, to_csv, to_latex, to_markdown
from engine.results.tidy import Measurement
from engine.spec.component import Metric

SEEDS, TARGETS = 3, 8


@dataclass(frozen=True)
class Audit:
    metrics: dict[str, Metric]
    primary: str


AUDITS = {
    "targeted": Audit(
        {
            "probability": Metric("p", "up", 0.05, blind_spots="…"),
            "success": Metric("0 or 1", "up", rate=True, beside=True),
            "correct": Metric("0 or 1", rate=True),
        },
        "probability",
    ),
}


def measure(method: str, seed: int, unit: int, metric: str, value: float) -> Measurement:
    role = method if method in ("none", "retrain") else "unlearn"
    budget = 0.1 if role == "unlearn" else None
    place = ("run", "", "matching", method, "", budget, seed, "targeted", metric, value)
    return Measurement(*place, role, 1.0, 1.0, "ok", "", unit=unit)


def rows(hits: int = 22) -> list[Row]:
    """`hits` of the 24 targets are hit without unlearning, none after retraining, all by `gd`."""
    return compare(_measured(hits), AUDITS)


def _measured(hits: int = 22) -> list[Measurement]:
    table = []
    for seed in range(SEEDS):
        for unit in range(TARGETS):
            number = seed * TARGETS + unit
            for method, hit in (("none", number < hits), ("retrain", False), ("gd", True)):
                chance = 0.9 - 0.01 * number if hit else 0.01 * (number % 3)
                table.append(measure(method, seed, unit, "success", float(hit)))
                table.append(measure(method, seed, unit, "correct", float(not hit)))
                table.append(measure(method, seed, unit, "probability", chance))
    return table


# Of the seeds' means 1, 1 and .75, and no shorter than Wilson's of 22 in 24; a rate ends at 1.
SEEDS_MEANS = statistics.t_interval([1.0, 1.0, 0.75])
INTERVAL = (min(SEEDS_MEANS.lo or 0.0, statistics.wilson(22, 24)[0]), 1.0)


def one(table: list[Row], method: str, metric: str) -> Row:
    (row,) = [row for row in table if (row["method"], row["metric"]) == (method, metric)]
    return row


def test_a_row_pools_targets_and_seeds() -> None:
    row = one(rows(), "none", "success")
    assert row["n"] == SEEDS * TARGETS == len(row["values"])
    assert list(zip(row["seeds"], row["units"], strict=True)) == [
        (seed, unit) for seed in range(SEEDS) for unit in range(TARGETS)
    ]
    assert row["values"] == [1.0] * 22 + [0.0] * 2
    assert row["mean"] == 22 / 24
    assert (row["lo"], row["hi"]) == INTERVAL


def test_the_verdict_is_about_the_primary_and_counts_seeds() -> None:
    table = rows()
    assert one(table, "none", "probability")["verdict"] == "residue"
    assert one(table, "none", "success")["verdict"] is None
    few = [measure("none", 0, unit, "probability", 0.5) for unit in (0, 1)]
    few += [measure("retrain", 0, unit, "probability", 0.1) for unit in (0, 1)]
    assert "only 1 seed" in one(compare(few, AUDITS), "none", "probability")["reason"]


def test_intervals_take_the_targets_of_a_seed_together() -> None:
    row = one(rows(), "gd", "probability")
    seeds = [row["values"][at : at + TARGETS] for at in range(0, SEEDS * TARGETS, TARGETS)]
    own = statistics.t_interval([statistics.mean(values) for values in seeds])
    assert (row["lo"], row["hi"]) == pytest.approx((own.lo, own.hi))
    assert row["n"] == SEEDS * TARGETS
    alone = one(compare([m for m in _measured() if m.seed == 0], AUDITS), "none", "success")
    assert (alone["mean"], alone["lo"], alone["hi"]) == (1.0, None, None)


def test_a_rate_that_agrees_in_every_seed_keeps_the_length_of_its_trials() -> None:
    row = one(rows(hits=0), "none", "success")
    assert (row["lo"], row["hi"]) == statistics.wilson(0, SEEDS * TARGETS)


def test_a_gap_between_rates_has_a_width_even_where_all_pairs_differ_alike() -> None:
    row = one(rows(), "gd", "success")
    assert row["mean"] == row["gap"] == 1.0
    assert row["gap_lo"] < 0.85 and row["gap_hi"] == 1.0


def test_tables_show_the_rate_with_its_interval() -> None:
    table = rows()
    lines = {line.method: line for line in summary(table)}
    lo, hi = INTERVAL
    assert lines["none"].rate == (22 / 24, lo, hi)
    told = f"{22 / 24:.2f} ({lo:.2f}, {hi:.2f})"
    assert told in lines["none"].cells()
    assert told in to_markdown(table)
    assert told in to_latex(table)
    back = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(back) == len(table)
    assert len(json.loads(back[0]["units"])) == SEEDS * TARGETS


def test_the_compare_screen_has_the_rate_only_where_there_is_one() -> None:
    screen = Comparison(rows())
    assert "rate" in [heading.key for heading in screen.headings(View())]
    told = f"0.92 ({INTERVAL[0]:.2f}, 1.00)"
    assert told in [cells.cells["rate"][0] for cells in screen.shown(View())[1:]]
    plain = Comparison([{k: v for k, v in row.items() if k != "beside"} for row in rows()])
    assert "rate" not in [heading.key for heading in plain.headings(View())]


def test_the_drill_down_has_a_column_for_every_target() -> None:
    head, *lines = seed_table([one(rows(), "none", "success")])
    assert head[3:] == [f"s{seed} t{unit}" for seed in range(SEEDS) for unit in range(TARGETS)]
    assert lines[0][3:] == ["1"] * 22 + ["0"] * 2


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
)
def test_the_interval_of_a_difference_of_rates(pairs: list[tuple[bool, bool]]) -> None:
    left, right = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    gap = statistics.success_difference(left, right)
    assert gap.lo is not None and gap.hi is not None
    assert -1 - 1e-12 <= gap.lo < gap.hi <= 1 + 1e-12
    assert gap.lo - 1e-12 <= gap.mean <= gap.hi + 1e-12
    back = statistics.success_difference(right, left)
    assert (back.lo, back.hi) == pytest.approx((-gap.hi, -gap.lo))


def test_newcombes_own_example() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    gap = statistics.success_difference([1.0] * 56 + [0.0] * 14, [1.0] * 48 + [0.0] * 32)
    assert (gap.mean, gap.lo, gap.hi) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
