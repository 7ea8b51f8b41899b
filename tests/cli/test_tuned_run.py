"""A tuned run by the command line: computed once, told in full, planned with its cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import (
    DATA,
    Computed,
    called,
    computed,
    new_kinds,
    objects,
    run_json,
    session_folder,
    strict_json,
)
from nursery import Nursery

TUNED = f"""
title = "tuned"
seeds = [0, 1]
budgets = [0.25, 0.5]
{DATA}
model = {{ name = "mlp", width = 16 }}
train = {{ epochs = 2 }}
attacks = [{{ name = "gaussian" }}]
audits = [{{ name = "accuracy" }}, {{ name = "gaussian" }}]

[tune]
grids.gd.lr = [0.1, 1e300]

[[methods]]
name = "none"
[[methods]]
name = "retrain"
[[methods]]
name = "gd"
[[methods]]
name = "ssd"
"""


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Computed:
    with nursery.starts_all():
        return computed(session_folder(tmp_path_factory), "tuned", TUNED, command=called)


def test_a_tuned_run_tells_every_trial_and_names_what_was_chosen(tuned: Computed) -> None:
    tuning = tuned.document["tuning"]
    assert [(t["method"], t["config"]) for t in tuning] == [
        ("gd", {"lr": 0.01}), ("gd", {"lr": 0.1}), ("gd", {"lr": 1e300}),
        ("ssd", {"selection": 10.0}), ("ssd", {"selection": 3.0}), ("ssd", {"selection": 30.0}),
    ]  # fmt: skip
    assert [t["method"] for t in tuning if t["chosen"]] == ["gd", "ssd"]
    wild = tuning[2]
    assert wild["outcome"] == "failed" and "diverged" in wild["reason"] and not wild["chosen"]
    for trial in tuning:
        assert trial["tee"] > 0 and trial["seconds"] > 0
        if trial is not wild:
            assert 0 <= trial["forgetting"] <= 1 and 0 <= trial["validation_accuracy"] <= 1
    chosen = {t["method"]: t["config"] for t in tuning if t["chosen"]}
    for row in tuned.document["rows"]:
        if row["method"] in chosen:
            told = ",".join(f"{k}={v}" for k, v in chosen[row["method"]].items())
            assert row["variant"] == f"tuned {told}"
            own = sum(t["tee"] for t in tuning if t["method"] == row["method"])
            assert own < row["search_tee"] < own + 0.2, "and a look at the model before"
            assert row["tee"] <= 1.0 + 1e-9, "beside the method's own cost"
        else:
            assert row["search_tee"] is None and row["variant"] == ""
    assert tuned.document["status"] == "done", "a trial that diverges is no failure of the run"


@pytest.mark.usefixtures("forked")
def test_nothing_is_computed_twice(tuned: Computed, tmp_path: Path) -> None:
    home, before = tuned.copy(tmp_path), objects(tuned.home)
    assert run_json(tuned.preset, home, command=called) == tuned.document | {"home": str(home)}
    assert not new_kinds(home, before)
    # A smaller budget goes by the same choice; the search is not made again.
    more = tmp_path / "more.toml"
    more.write_text(TUNED.replace("[0.25, 0.5]", "[0.1, 0.25, 0.5]"))
    document = run_json(more, home, command=called)
    assert new_kinds(home, before) == {"unlearn": 4, "audit": 4}, "a step of gd does not fit"
    untimed = [{k: v for k, v in t.items() if k != "run"} for t in document["tuning"]]
    assert untimed == [{k: v for k, v in t.items() if k != "run"} for t in tuned.document["tuning"]]


def test_compare_and_report_have_the_trials(tuned: Computed, tmp_path: Path) -> None:
    where = ("--home", tuned.home)
    told = strict_json(called("compare", tuned.run, *where, "--json").stdout)
    assert told["tuning"] == tuned.document["tuning"]
    markdown = called("compare", tuned.run, *where, "--md").stdout
    for word in ("tuned lr=", "search TEE", "Tuning: 6 trials for 2 methods", "diverged", "chosen"):
        assert word in markdown
    text = called("compare", tuned.run, *where).stdout
    assert "Tuning: 6 trials" in text and "oracle" not in text
    done = called("report", tuned.run, *where, "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Choice of hyper-parameters" in page and "diverged" in page
    drawn = called("plot", "z", tuned.run, *where).stdout
    assert "gd tuned lr=" in drawn


def test_a_plan_shows_the_search_and_what_starts_anew(tuned: Computed, tmp_path: Path) -> None:
    home = tmp_path / "nothing"
    told = strict_json(called("plan", tuned.preset, "--home", home, "--json").stdout)
    assert told["starts_anew"] == ["ssd"]
    assert 6.0 < told["search_tee"] < 7.0, "six trials of one TEE, and looking at them"
    assert told["tee_todo"] == told["tee"] > told["search_tee"]
    text = called("plan", tuned.preset, "--home", home).stdout
    assert "Tuning: 2 searches, 6 settings" in text
    assert "starts anew for ssd" in text
    one = called("plan", tuned.preset, "--home", home, "--set", "budgets=[0.5]").stdout
    assert "anew" not in one


@pytest.mark.usefixtures("forked")
def test_an_oracle_is_labelled_and_not_judged(tuned: Computed, tmp_path: Path) -> None:
    home = tuned.copy(tmp_path)
    words = ("--set", "tune.objective='oracle'", "--set", "tune.methods=['gd']")
    document = run_json(tuned.preset, home, *words, command=called)
    rows = [r for r in document["rows"] if r["method"] == "gd" and r["primary"]]
    assert rows and all(r["variant"].startswith("oracle lr=") for r in rows)
    assert {r["verdict"] for r in rows} == {"oracle"}
    assert all("not judged" in r["reason"] for r in rows)
    text = called("compare", document["run"], "--home", home).stdout
    assert "an upper bound" in text


def test_methods_show_their_documented_grid() -> None:
    text = called("methods", "gd").stdout
    assert "documented grid" in text and "0.001, 0.003, 0.01, 0.03, 0.1" in text
    assert strict_json(called("methods", "gd", "--json").stdout)["search"]["lr"][0] == 0.001
    assert "documented grid" not in called("methods", "newton-head").stdout


def test_bad_tuning_is_refused_before_anything_is_written(tuned: Computed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = called("run", tuned.preset, "--home", home, "--set", "tune.grids.gd.lr=[0.1, -1]")
    assert done.returncode == 2 and not home.exists()
    assert f"{tuned.preset}: tune.grids.gd.lr = -1: should be greater than 0" in done.stderr
