"""Comparison rows: recovery, gaps, merging of runs, honest blanks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.results.compare import Row, compare
from engine.results.explain import PAGES, explain
from engine.results.tables import summary
from engine.results.tidy import Measurement, tidy
from engine.spec.component import Metric
from engine.spec.errors import BadInput

KEYS = [
    *("setting", "attack", "method", "variant", "budget", "audit", "metric", "primary", "n"),
    *("seeds", "values", "mean", "lo", "hi", "retrain_mean", "gap", "gap_lo", "gap_hi"),
    *("recovery", "recovery_lo", "recovery_hi", "rate_lo", "rate_hi", "over_corrected"),
    *("verdict", "qualifier", "reason", "p", "p_holm", "equivalence_p", "test", "p_test"),
    *("p_hommel", "equivalence_test", "p_relative", "p_reinforced", "p_wrecked"),
    *("seeds_to_settle", "loss", "loss_lo", "loss_hi", "margin"),
    *("tee", "seconds", "search_tee", "search_seconds"),
]


@dataclass(frozen=True)
class Audit:
    metrics: dict[str, Metric]
    primary: str


AUDITS = {
    "backdoor": Audit(
        {
            "asr": Metric(
                "attack success rate", "up", 0.05, blind_spots="other triggers.", share_of="rows"
            ),
            "tpr_at_1pct_fpr": Metric("true positives", "up", share_of="tail"),
            "asr_p": Metric("a p-value", averaged=False),
        },
        "asr",
    ),
    "accuracy": Audit({"test_accuracy": Metric("test accuracy", "down", 0.02)}, "test_accuracy"),
}


def measure(method: str, seed: int, value: float | None, **changes: Any) -> Measurement:
    role = method if method in ("none", "retrain", "retrain-fresh") else "unlearn"
    plain = Measurement(
        run="a",
        setting="digits",
        attack="badnets",
        method=method,
        variant="",
        budget=None,
        seed=seed,
        audit="backdoor",
        metric="asr",
        value=value,
        role=role,
        tee=2.0,
        seconds=1.0,
        status="ok",
        reason="",
    )
    return replace(plain, **changes)


def study(**values: list[float]) -> list[Measurement]:
    """asr by method and seed, with equal accuracy everywhere."""
    return [
        m
        for method, each in values.items()
        for seed, value in enumerate(each)
        for m in (
            measure(method, seed, value),
            measure(method, seed, 0.9, audit="accuracy", metric="test_accuracy"),
        )
    ]


USUAL = study(none=[0.9, 0.94, 0.92], retrain=[0.1, 0.12, 0.14], ga=[0.5, 0.55, 0.51])


def pick(rows: Iterable[Row], method: str, metric: str = "asr") -> Row:
    return next(row for row in rows if row["method"] == method and row["metric"] == metric)


def test_rows_have_exactly_their_keys_in_a_fixed_order() -> None:
    rows = compare(USUAL, AUDITS)
    assert all(list(row) == KEYS for row in rows)
    assert [(row["method"], row["metric"]) for row in rows] == [
        (method, metric)
        for method in ("none", "retrain", "ga")
        for metric in ("test_accuracy", "asr")
    ]


def test_recovery_is_zero_without_and_one_with_retraining() -> None:
    rows = compare(USUAL, AUDITS)
    assert pick(rows, "none")["recovery"] == 0.0
    assert str(pick(rows, "none")["recovery"]) == "0.0"
    assert pick(rows, "retrain")["recovery"] == 1.0
    assert pick(rows, "ga")["recovery"] == pytest.approx(0.5)
    assert pick(rows, "ga", "test_accuracy")["recovery"] is None


def test_recovery_has_fiellers_interval() -> None:
    from engine.results.statistics import t_test

    row = pick(compare(USUAL, AUDITS), "ga")
    assert row["recovery_lo"] < row["recovery"] < row["recovery_hi"]
    none, retrain, ga = ([0.9, 0.94, 0.92], [0.1, 0.12, 0.14], [0.5, 0.55, 0.51])
    for ratio in (row["recovery_lo"], row["recovery_hi"]):
        left = [a - b - ratio * (a - c) for a, b, c in zip(none, ga, retrain, strict=True)]
        assert t_test(left) == pytest.approx(0.05)
    for method, ratio in (("none", 0.0), ("retrain", 1.0)):
        row = pick(compare(USUAL, AUDITS), method)
        assert (row["recovery_lo"], row["recovery_hi"]) == pytest.approx((ratio, ratio), abs=1e-12)
    blank = pick(compare(study(none=[0.9], retrain=[0.1], ga=[0.5]), AUDITS), "ga")
    assert (blank["recovery_lo"], blank["recovery_hi"]) == (None, None)


def test_rates_of_counted_rows_have_an_interval_of_their_own() -> None:
    from scipy.stats import binomtest

    counted = [
        measure("ga", seed, value, metric=metric)
        for seed, rate in enumerate((0.5, 0.55))
        for metric, value in (("asr", rate), ("count", 20.0), ("tpr_at_1pct_fpr", 0.05))
    ]
    rows = compare(counted, AUDITS)
    wilson = binomtest(21, 40).proportion_ci(0.95, "wilson")
    exact = binomtest(2, 40).proportion_ci(0.95, "exact")
    for metric, told in (("asr", wilson), ("tpr_at_1pct_fpr", exact)):
        row = pick(rows, "ga", metric)
        assert (row["rate_lo"], row["rate_hi"]) == pytest.approx((told.low, told.high))
    assert pick(rows, "ga", "count")["rate_lo"] is None
    odd = [*counted, measure("ga", 2, 0.51, metric="asr"), measure("ga", 2, 20.0, metric="count")]
    assert pick(compare(odd, AUDITS), "ga")["rate_lo"] is None  # 10.2 of 20 rows is no count
    assert pick(compare(USUAL, AUDITS), "ga")["rate_lo"] is None  # nothing was counted


def test_a_method_that_failed_on_a_seed_is_never_removed() -> None:
    clean = study(none=[0.9] * 3, retrain=[0.1, 0.11, 0.12], ga=[0.1, 0.11, 0.12])
    clean += [
        measure(method, seed, 900.0, metric="count")
        for method in ("retrain", "ga")
        for seed in range(3)
    ]
    assert pick(compare(clean, AUDITS), "ga")["verdict"] == "removed"
    for status, word in (("failed", "inconclusive"), ("missing", "removed")):
        lost = measure("ga", 3, None, status=status, reason="diverged")
        row = pick(compare([*clean, lost], AUDITS), "ga")
        assert row["verdict"] == word
        assert "1 of 4 seeds" in row["reason"]
    blank = [*clean, measure("ga", 3, None), measure("ga", 3, 0.0, metric="count")]
    assert pick(compare(blank, AUDITS), "ga")["verdict"] == "inconclusive"


def test_gap_is_paired_and_undefined_for_the_reference() -> None:
    rows = compare([*USUAL, measure("ga", 9, 0.0)], AUDITS)
    ga, retrain = pick(rows, "ga"), pick(rows, "retrain")
    assert ga["n"] == 4
    assert ga["gap"] == pytest.approx(0.4)
    assert ga["gap_lo"] < 0.4 < ga["gap_hi"]
    assert ga["retrain_mean"] == pytest.approx(0.12)
    assert (retrain["gap"], retrain["gap_lo"], retrain["gap_hi"]) == (None, None, None)
    assert retrain["verdict"] == "reference"


def test_recovery_within_noise_is_blank() -> None:
    rows = compare(study(none=[0.1, 0.3, 0.2], retrain=[0.2, 0.1, 0.3], ga=[0.1] * 3), AUDITS)
    assert [pick(rows, method)["recovery"] for method in ("none", "retrain", "ga")] == [None] * 3


def test_a_single_seed_shows_no_effect_to_recover_from() -> None:
    far = compare(study(none=[0.9], retrain=[0.1], ga=[0.5]), AUDITS)
    assert pick(far, "ga")["recovery"] is None
    assert pick(far, "ga")["lo"] is None
    assert "only 1 seed" in pick(far, "ga")["reason"]


def test_the_loss_of_accuracy_is_corrected_over_all_models_of_an_attack() -> None:
    """Also over a model that an audit has no value of."""
    from engine.results.statistics import hommel, t_above

    accuracies = {
        "none": [0.94, 0.95, 0.93], "retrain": [0.94, 0.945, 0.95],
        "ga": [0.90, 0.91, 0.90], "ssd": [0.91, 0.93, 0.90],
    }  # fmt: skip
    table = [
        measure(method, seed, value, audit="accuracy", metric="test_accuracy")
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    rates = {"none": [0.9, 0.94, 0.92], "retrain": [0.1, 0.12, 0.14], "ga": [0.5, 0.55, 0.51]}
    table += [
        measure(method, seed, value)
        for method, values in rates.items()
        for seed, value in enumerate(values)
    ]
    lost = [
        [a - b for a, b in zip(accuracies["retrain"], accuracies[method], strict=True)]
        for method in ("ga", "ssd")
    ]
    wanted = hommel([t_above(losses, 0.02 + 1e-9, 0.0) for losses in lost])
    for audit in ("backdoor", "accuracy"):
        [row] = [
            r for r in compare(table, AUDITS)
            if (r["method"], r["audit"], r["primary"]) == ("ga", audit, True)
        ]  # fmt: skip
        assert row["p_wrecked"] == pytest.approx(wanted[0])
        assert row["loss"] == pytest.approx(sum(lost[0]) / 3)


def test_the_margin_of_accuracy_is_the_loss_that_wrecks() -> None:
    table = [
        measure(method, seed, value, audit="accuracy", metric="test_accuracy")
        for method, values in (("retrain", [0.94, 0.945, 0.95]), ("ga", [0.88, 0.89, 0.89]))
        for seed, value in enumerate(values)
    ]
    wide = AUDITS | {"accuracy": Audit({"test_accuracy": Metric("", "down", 0.1)}, "test_accuracy")}
    for audits, word in ((AUDITS, "wrecked"), (wide, "inconclusive")):
        assert pick(compare(table, audits), "ga", "test_accuracy")["verdict"] == word


def test_p_values_are_never_averaged() -> None:
    rows = compare([*USUAL, *(measure("ga", s, 0.5, metric="asr_p") for s in range(3))], AUDITS)
    row = pick(rows, "ga", "asr_p")
    assert row["values"] == [0.5] * 3
    assert row["n"] == 3
    assert all(row[key] is None for key in ("mean", "lo", "hi", "gap", "recovery", "verdict"))


def test_rows_without_numbers() -> None:
    lost = [
        measure("ssd", 0, None, status="n/a", reason="needs 3 TEE"),
        measure("scrub", 0, None, status="failed", reason="out of memory"),
        measure("cf", 0, None, status="missing", reason="not run"),
        measure("salun", 0, 0.1),
        measure("salun", 1, 0.1, metric="asr_p"),
        measure("salun", 2, None, status="failed", reason="out of memory"),
        measure("salun", 1, float("nan")),
    ]
    rows = compare([*USUAL, *lost], AUDITS)
    assert pick(rows, "ssd")["reason"] == "needs 3 TEE"
    assert pick(rows, "scrub")["reason"] == "failed: out of memory"
    assert pick(rows, "cf")["reason"] == "missing: not run"
    assert {pick(rows, m)["verdict"] for m in ("ssd", "scrub", "cf")} == {"n/a"}
    assert pick(rows, "ssd")["values"] == [None]
    assert pick(rows, "ssd")["tee"] is None
    salun = pick(rows, "salun")
    assert salun["values"] == [0.1, None, None]
    assert "2 of 3 seeds without a value (failed: out of memory)" in salun["reason"]
    json.dumps(rows, allow_nan=False)


def test_wrecked_reads_the_accuracy_of_the_same_model() -> None:
    weak = [m if m.method != "ga" or m.metric == "asr" else replace(m, value=0.5) for m in USUAL]
    rows = compare(weak, AUDITS)
    assert pick(rows, "ga")["verdict"] == "wrecked"
    assert pick(rows, "none")["verdict"] == "residue"


def test_runs_are_united_by_seed() -> None:
    other = [replace(m, run="b", seed=m.seed + 2, seconds=9.0) for m in USUAL if m.seed > 0]
    twin = [replace(m, run="c") for m in USUAL]
    older = [replace(m, run="d", value=None, status="missing") for m in USUAL]
    # Seed 3 is new; seed 4 too: both are copies of other seeds' values.
    rows = compare([*USUAL, *other, *twin, *older], AUDITS)
    assert pick(rows, "ga")["seeds"] == [0, 1, 2, 3, 4]
    assert pick(rows, "ga")["n"] == 5
    assert compare([*USUAL, *twin, *older], AUDITS) == compare(USUAL, AUDITS)


def test_conflicting_runs_are_refused_by_name() -> None:
    odd = replace(pick_measurement("ga", 1), run="b", value=0.123)
    with pytest.raises(BadInput, match=r"runs a and b: two values of asr for .*ga.*seed 1"):
        compare([*USUAL, odd], AUDITS)
    with pytest.raises(BadInput, match="two retrainings"):
        compare([*USUAL, measure("retrain", 0, 0.1, variant="other")], AUDITS)


def pick_measurement(method: str, seed: int) -> Measurement:
    return next(m for m in USUAL if (m.method, m.seed, m.metric) == (method, seed, "asr"))


def test_unknown_audits_get_rows_but_no_verdict() -> None:
    rows = compare([measure("ga", 0, 1.0, audit="theirs", metric="x")], AUDITS)
    assert [(row["metric"], row["verdict"], row["mean"]) for row in rows] == [("x", None, 1.0)]


numbers = st.one_of(st.none(), st.floats(-5, 5), st.just(float("nan")), st.just(float("inf")))
tables = st.lists(
    st.builds(
        measure,
        method=st.sampled_from(["none", "retrain", "retrain-fresh", "ga", "ssd"]),
        seed=st.integers(0, 3),
        value=numbers,
        metric=st.sampled_from(["asr", "asr_p"]),
        status=st.sampled_from(["ok", "ok", "ok", "n/a", "failed", "diverged"]),
    ),
    max_size=20,
    unique_by=lambda m: (m.method, m.seed, m.metric),
)


@settings(max_examples=80, deadline=None)
@given(tables, st.integers(0, 5))
def test_any_table_gives_strict_json_in_any_order(table: list[Measurement], shuffle: int) -> None:
    rows = compare(table, AUDITS)
    json.dumps(rows, allow_nan=False)
    mixed = list(table)
    random.Random(shuffle).shuffle(mixed)
    assert compare(mixed, AUDITS) == rows


# --- tidy and explain ----------------------------------------------------------------------------


class Reader:
    def outcome(self, key: str) -> tuple[Any, str]:
        return {"good": ("ok", "")}.get(key, ("n/a", "needs 3 TEE"))

    def measurements(self, key: str) -> dict[str, float | None]:
        return {"asr": 0.25, "asr_p": float("nan")}

    def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
        return float(len(keys)), 0.5

    def told(self, key: str, name: str) -> dict[str, Any] | None:
        return None


def test_a_method_that_diverged_at_one_seed_is_not_removed() -> None:
    values = {"none": [0.9] * 3, "retrain": [0.0, 0.001, 0.002], "ga": [0.0, 0.002, 0.001]}
    whole = compare(study(**values), AUDITS)
    assert pick(whole, "ga")["verdict"] == "removed"
    lost = measure("ga", 3, None, status="failed", reason="diverged at step 9: the loss is nan")
    row = pick(compare([*study(**values), lost], AUDITS), "ga")
    assert row["verdict"] == "inconclusive"
    assert "1 of 4 seeds gave no value" in row["reason"] and "diverged at step 9" in row["reason"]


def diverged(method: str, seed: int, step: int, **changes: Any) -> Measurement:
    lost = {"status": "diverged", "diverged": f"step {step}", "reason": "the loss is nan"}
    return measure(method, seed, None, **lost | changes)


CLEAN: dict[str, list[float]] = {
    "none": [0.9, 0.91, 0.92, 0.93, 0.94], "retrain": [0.0, 0.001, 0.002, 0.001, 0.0],
    "ga": [0.0, 0.002, 0.001], "gd": [0.9, 0.91, 0.92],
}  # fmt: skip


def test_seeds_that_diverged_come_first_and_the_others_are_never_removed() -> None:
    whole = study(**CLEAN)
    assert pick(compare(whole, AUDITS), "ga")["verdict"] == "removed"
    lost = [diverged("ga", 3, 120), diverged("gd", 3, 120), diverged("gd", 4, 7)]
    rows = compare([*whole, measure("ga", 4, 0.001), *lost], AUDITS)
    ga, gd = pick(rows, "ga"), pick(rows, "gd")
    assert ga["verdict"] == "inconclusive" and gd["verdict"] == "residue"
    assert ga["reason"].startswith("1 of 5 seeds diverged (seed 3, step 120); gap +0.000; within ±")
    assert gd["reason"].startswith("2 of 5 seeds diverged (seed 3, step 120; seed 4, step 7); gap")
    assert "without a value" not in ga["reason"] + gd["reason"], "it was said already"
    assert ga["diverged"] == [None, None, None, "step 120", None] and ga["n"] == 4
    assert "diverged" not in pick(rows, "none")
    json.dumps(rows, allow_nan=False)
    other = compare(
        [*whole, diverged("ga", 3, 120), measure("ga", 4, None, status="failed")], AUDITS
    )
    assert "; 1 of 5 seeds without a value (failed: )" in pick(other, "ga")["reason"]


def test_where_all_seeds_diverged_nothing_is_judged() -> None:
    lost = [diverged("ssd", seed, 10 + seed) for seed in range(2)]
    row = pick(compare([*study(**CLEAN), *lost], AUDITS), "ssd")
    assert (row["verdict"], row["reason"]) == ("n/a", "diverged (seed 0, step 10; seed 1, step 11)")
    (line,) = (line for line in summary([row | {"primary": True}]))
    assert line.word == "n/a: diverged"
    many = [diverged("ssd", seed, 1) for seed in range(30)]
    row = pick(compare([*study(**CLEAN), *many], AUDITS), "ssd")
    assert row["reason"].endswith("seed 7, step 1; 22 more)")
    mixed = [diverged("ssd", 0, 1), measure("ssd", 1, None, status="n/a", reason="needs 3 TEE")]
    row = pick(compare([*study(**CLEAN), *mixed], AUDITS), "ssd")
    assert row["verdict"] == "n/a"
    assert row["reason"] == "1 of 2 seeds diverged (seed 0, step 1); needs 3 TEE"


def test_a_reference_that_diverged_is_told_by_the_rows_that_lack_it() -> None:
    whole = study(**CLEAN | {"none": [0.9, 0.91, 0.92], "retrain": [0.0, 0.001]})
    rows = compare([*whole, diverged("retrain", 2, 9)], AUDITS)
    assert pick(rows, "retrain")["verdict"] == "reference"
    assert pick(rows, "retrain")["reason"].startswith("1 of 3 seeds diverged (seed 2, step 9); ")
    assert "; retraining diverged (seed 2, step 9): no gap there" in pick(rows, "ga")["reason"]
    rows = compare([*study(ga=[0.1, 0.2]), diverged("retrain", 0, 9), diverged("retrain", 1, 3)],
                   AUDITS)  # fmt: skip
    assert pick(rows, "ga")["verdict"] == "inconclusive"
    assert "retraining diverged (seed 0, step 9; seed 1, step 3)" in pick(rows, "ga")["reason"]


def test_tidy_gives_a_line_for_every_number_and_every_blank() -> None:
    cell = {
        "setting": "digits",
        "attack": "badnets",
        "method": "ga",
        "variant": "",
        "budget": 0.04,
        "seed": 3,
        "audit": "backdoor",
        "role": "unlearn",
        "cost_keys": ("x", "y"),
    }
    cells = [SimpleNamespace(key=key, unit=0, **cell) for key in ("good", "bad")]
    table = tidy("run", cells, Reader(), AUDITS)  # type: ignore[arg-type]
    assert [(m.metric, m.value, m.status) for m in table] == [
        ("asr", 0.25, "ok"),
        ("asr_p", None, "ok"),
        ("asr", None, "n/a"),
    ]
    assert {(m.run, m.budget, m.tee) for m in table} == {("run", 0.04, 2.0)}


def test_explain_knows_words_audits_and_metrics() -> None:
    for name in (*PAGES, "backdoor", "asr", "backdoor.asr_p"):
        page = explain(name, AUDITS)
        assert page.endswith("\n")
        assert max(map(len, page.splitlines())) <= 80
    assert "other triggers" in explain("asr", AUDITS)
    with pytest.raises(BadInput, match="Did you mean 'recovery'"):
        explain("recovary", AUDITS)
