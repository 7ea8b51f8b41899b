"""`chelate run`: what it prints, what it computes, and what it does not compute again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import (
    NGD,
    TINY,
    Computed,
    called,
    chelate,
    exits,
    hashes,
    new_kinds,
    objects,
    run_json,
    strict_json,
    unhealthy,
)

KEYS = {
    "attack", "method", "variant", "budget", "audit", "metric", "primary", "n", "seeds", "values",
    "mean", "lo", "hi", "retrain_mean", "gap", "gap_lo", "gap_hi", "recovery", "verdict", "tee",
    "seconds",
}  # fmt: skip
GAUSSIAN = {
    "mean_score", "std_score", "z", "tpr_at_1pct_fpr", "p_two_sided", "ks_p", "min_detectable",
}  # fmt: skip
VERDICTS = {"residue", "removed", "inconclusive", "wrecked", "not-applicable", "reference"}
ROLES = ["none", "retrain", "retrain-fresh", "gd"]

# Put on PYTHONPATH, Python runs this before anything else.
NO_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} is blocked by a test")

sys.meta_path.insert(0, Blocker())
"""


def rows_of(shared: Computed) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = shared.document["rows"]
    return rows


# --- the document --------------------------------------------------------------------------------


def test_the_document_says_what_was_run_and_where(shared: Computed) -> None:
    keys = {"run", "status", "home", "rows", "tuning", "data", "machines", "warnings", "margins"}
    assert set(shared.document) == keys
    assert shared.document["status"] == "done"
    assert shared.document["home"] == str(shared.home)
    assert (shared.home / "runs" / shared.run).is_dir()


def test_every_row_has_every_key(shared: Computed) -> None:
    rows = rows_of(shared)
    assert all(set(row) >= KEYS for row in rows)
    models = {(row["method"], row["budget"]) for row in rows}
    assert models == {("none", None), ("retrain", None), ("retrain-fresh", None),
                      ("gd", 0.25), ("gd", 0.5)}  # fmt: skip
    for method, budget in models:
        found = {r["metric"] for r in rows
                 if (r["method"], r["budget"], r["audit"]) == (method, budget, "gaussian")}  # fmt: skip
        assert found >= GAUSSIAN
    for row in rows:
        assert row["seeds"] == [0, 1]
        assert len(row["values"]) == 2
        assert row["n"] == sum(value is not None for value in row["values"])


def test_rows_are_sorted(shared: Computed) -> None:
    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return (
            row["attack"], ROLES.index(row["method"]), row["variant"], row["budget"] or 0,
            row["audit"], not row["primary"], row["metric"],
        )  # fmt: skip

    places = [place(row) for row in rows_of(shared)]
    assert places == sorted(places)
    assert len(set(places)) == len(places)


def test_only_primary_rows_are_judged(shared: Computed) -> None:
    primary = {("gaussian", "mean_score"), ("accuracy", "test")}
    for row in rows_of(shared):
        assert row["primary"] == ((row["audit"], row["metric"]) in primary) or (
            row["audit"] == "accuracy"  # its primary metric is its own business
        )
        assert (row["verdict"] is not None) == row["primary"]
        if row["verdict"] is not None:
            assert row["verdict"] in VERDICTS
            assert (row["verdict"] == "reference") == (row["method"] == "retrain")
    judged = [r for r in rows_of(shared) if r["metric"] == "mean_score"]
    assert len(judged) == 5
    assert all(row["primary"] for row in judged)


def test_p_values_are_not_averaged(shared: Computed) -> None:
    for row in rows_of(shared):
        if row["metric"] in ("p_two_sided", "ks_p"):
            assert all(0 <= value <= 1 for value in row["values"])
            for key in ("mean", "lo", "hi", "retrain_mean", "gap", "gap_lo", "gap_hi", "recovery"):
                assert row[key] is None, key


def test_numbers_fit_together(shared: Computed) -> None:
    rows = {(r["method"], r["budget"], r["metric"]): r for r in rows_of(shared)}
    poison = 14  # .05 of 270
    for (method, budget, metric), row in rows.items():
        if metric == "mean_score":
            z = rows[method, budget, "z"]["values"]
            assert z == pytest.approx([poison**0.5 * v for v in row["values"]], rel=1e-6)
            assert row["mean"] == pytest.approx(sum(row["values"]) / 2)
            assert row["lo"] < row["mean"] < row["hi"]
        if row["gap"] is not None:
            assert row["gap"] == pytest.approx(row["mean"] - row["retrain_mean"])
    assert rows["gd", 0.5, "mean_score"]["tee"] <= 1.0  # .5 of two epochs
    assert rows["gd", 0.25, "mean_score"]["tee"] <= 0.5
    assert rows["none", None, "mean_score"]["tee"] == 0
    assert rows["retrain", None, "mean_score"]["tee"] == pytest.approx(2 * (1 - 14 / 270))


def test_what_was_computed_is_healthy_and_nothing_is_left_half_done(shared: Computed) -> None:
    assert len(objects(shared.home)) == 37
    assert not unhealthy(shared.home)
    assert list((shared.home / "store" / "work").iterdir()) == []
    assert {e["outcome"] for e in exits(shared.home)} == {"done"}


# --- the store -----------------------------------------------------------------------------------


def test_a_second_run_takes_everything_from_the_store_without_torch(
    shared: Computed, tmp_path: Path
) -> None:
    home = shared.copy(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    run = home / "runs" / shared.run
    watched = [run / name for name in ("events.jsonl", "supervisor.json", "supervisor.log",
                                       "workers.log", "session.json")]  # fmt: skip
    before = [path.read_bytes() for path in watched]
    stored = hashes(home)

    done = chelate("run", shared.preset, "--home", home, "--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert strict_json(done.stdout) == shared.document | {"home": str(home)}
    assert [path.read_bytes() for path in watched] == before  # no supervisor was started
    assert hashes(home) == stored

    done = chelate("run", shared.preset, "--home", home, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "all from the store" in done.stdout
    assert "residue" in done.stdout or "inconclusive" in done.stdout
    assert "no unlearning" in done.stdout


def test_the_blocker_of_that_test_does_block(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    done = chelate("doctor", "--home", tmp_path / "home", PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert "blocked by a test" in done.stdout


@pytest.mark.usefixtures("forked")
def test_one_more_method_and_one_more_seed_cost_no_more_than_themselves(
    shared: Computed, tmp_path: Path
) -> None:
    home, before = shared.copy(tmp_path), objects(shared.home)
    preset = tmp_path / "more.toml"
    preset.write_text(TINY + NGD)
    document = run_json(preset, home, command=called)
    assert new_kinds(home, before) == {"unlearn": 4, "audit": 8}
    others = [row for row in document["rows"] if row["method"] != "ngd"]
    assert len(others) == len(shared.document["rows"])
    values = [row["values"] for row in shared.document["rows"]]
    assert [row["values"] for row in others] == values

    before = objects(home)
    document = run_json(preset, home, "--seeds", "0,1,2", command=called)
    assert new_kinds(home, before) == {
        "split": 1, "select": 1, "craft": 1, "train": 3, "unlearn": 4, "audit": 14,
    }  # fmt: skip
    others = [row for row in document["rows"] if row["method"] != "ngd"]
    assert [row["values"][:2] for row in others] == values
    assert all(row["seeds"] == [0, 1, 2] for row in document["rows"])
    assert not unhealthy(home)


def test_another_home_and_another_place_give_the_same_bytes(
    shared: Computed, tmp_path: Path
) -> None:
    """Where one stands, what lies there, the form of output, other variables, other seeds beside,
    and that processes are started, not forked: all of no effect."""
    here = tmp_path / "elsewhere"
    for name in ("engine", "console"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    for name in ("torch", "numpy", "json", "random"):
        (here / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    preset = here / "other-name.toml"
    preset.write_text("# a comment\n" + TINY)
    home = tmp_path / "home"
    done = chelate(
        "run", "./other-name.toml", "--plain", "--seeds", "0", "--set", "compute.workers=1",
        "--device", "cpu", cwd=here, CHELATE_HOME=str(home), OMP_NUM_THREADS="2",
        PYTHONHASHSEED="7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "19/19" in done.stdout
    assert done.stdout.count("\x1b") == 0
    found = hashes(home)
    assert len(found) == 19 and found.items() <= hashes(shared.home).items()

    compared = strict_json(
        chelate("compare", "other-name", "--home", home, "--json", cwd=here).stdout
    )
    values = [row["values"][:1] for row in rows_of(shared)]
    assert [row["values"] for row in compared["rows"]] == values


@pytest.mark.usefixtures("forked")
def test_a_budget_too_small_for_a_step_is_no_failure(shared: Computed, tmp_path: Path) -> None:
    home = shared.copy(tmp_path)
    words = ("--set", "budgets=[0.01, 0.5]")
    document = run_json(shared.preset, home, *words, command=called)
    assert document["status"] == "done"
    small = [r for r in document["rows"] if r["budget"] == 0.01]
    assert {row["verdict"] for row in small} == {"not-applicable"}
    assert all("TEE" in row["reason"] for row in small)
    large = [r["values"] for r in document["rows"] if r["budget"] == 0.5]
    assert large == [r["values"] for r in rows_of(shared) if r["budget"] == 0.5]
    stored = hashes(home)
    assert (
        run_json(shared.preset, home, *words, command=called) == document
    )  # nothing is tried again
    assert hashes(home) == stored
