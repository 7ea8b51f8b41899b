"""`compare --rows` on a computed run, in its store and imported elsewhere."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from harness import Computed, artifact, called, strict_json
from safetensors import safe_open

from engine.jobs import runs
from engine.jobs.archive import export
from engine.jobs.home import Home
from engine.jobs.imports import import_run


def compare(home: Path, *words: str) -> str:
    done = called("compare", "tiny", "--rows", "--home", home, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_scored_row_is_in_the_csv_under_its_own_index(shared: Computed) -> None:
    told = list(csv.DictReader(io.StringIO(compare(shared.home, "--csv"))))
    run = runs.find(Home(shared.home), "tiny")
    cells = [cell for cell in run.plan.cells if cell.audit == "gaussian"]
    for cell in cells:
        craft = run.plan.stages[cell.key].inputs["craft"]
        with safe_open(artifact(shared.home, craft, "poison.safetensors"), "numpy") as file:
            rows = file.get_tensor("rows").tolist()
        mine = [
            int(row["row"]) for row in told
            if (row["method"], row["seed"]) == (cell.method, str(cell.seed))
            and row["budget"] == ("" if cell.budget is None else repr(cell.budget))
        ]  # fmt: skip
        assert mine == rows
    assert {row["outcome"] for row in told} == {"ok"}
    assert all((float(row["score_q"]) <= 0.1) == (row["detected"] == "true") for row in told)
    assert all(float(row["noise_rank_p"]) >= 0.01 for row in told)


def test_the_document_agrees_with_the_csv(shared: Computed) -> None:
    told = strict_json(compare(shared.home, "--json"))
    rows = list(csv.DictReader(io.StringIO(compare(shared.home, "--csv"))))
    assert told["fdr"] == 0.1 and told["run"] == shared.run
    assert len(told["rows"]) == len(rows) == sum(model["rows"] for model in told["models"])
    for model in told["models"]:
        mine = [
            row for row in told["rows"]
            if (row["method"], row["budget"]) == (model["method"], model["budget"])
        ]  # fmt: skip
        assert model["detected"] == sum(row["detected"] for row in mine)
        assert model["rank_z"] is not None and model["seeds"] == [0, 1]


def test_an_imported_run_says_the_same(shared: Computed, tmp_path: Path) -> None:
    export(runs.find(Home(shared.home), "tiny"), tmp_path / "run.tar.gz")
    import_run(Home(tmp_path / "there"), tmp_path / "run.tar.gz")
    here, there = (strict_json(compare(home, "--json"))
                   for home in (shared.home, tmp_path / "there"))  # fmt: skip
    assert (here["models"], here["rows"]) == (there["models"], there["rows"])


@pytest.mark.parametrize("form", ["--md", None])
def test_tables_name_every_model_and_the_rate(shared: Computed, form: str | None) -> None:
    text = compare(shared.home, *([form] if form else []))
    for method in ("none", "retrain", "retrain-fresh", "gd"):
        assert method in text
    assert "10 %" in text and "found again" in text


def test_a_terminal_of_80_columns_holds_the_table(
    shared: Computed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.row_detection.console", lambda: _narrow())
    text = compare(shared.home)
    assert max(map(len, text.splitlines())) <= 80
    assert "found again" in text and "…" not in text


def _narrow() -> object:
    from rich.console import Console

    return Console(width=80, highlight=False, no_color=True)


def test_latex_is_refused_and_two_forms_are(shared: Computed) -> None:
    for words, why in (
        (["--latex"], "--rows has no LaTeX"),
        (["--csv", "--json"], "choose one of"),
    ):
        done = called("compare", "tiny", "--rows", *words, "--home", shared.home)
        assert done.returncode == 2 and why in done.stderr
