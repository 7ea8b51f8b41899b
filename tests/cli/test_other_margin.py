"""Another margin on the command line: another run, of the same measurements, that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Computed, called, new_kinds, objects, run_json, strict_json

WIDE = "verdicts.gaussian.mean_score=100"
LINE = "margin of gaussian.mean_score: ±100 (shipped: ±0.15)"
BEFORE = {"margin": 0.15, "shipped": 0.15}
AFTER = {"margin": 100.0, "shipped": 0.15}


@pytest.fixture(scope="module")
def wide(shared: Computed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with the shared run and the same by a margin that everything lies within."""
    home = shared.copy(tmp_path_factory.mktemp("wide"))
    return home, str(run_json(shared.preset, home, "--set", WIDE, command=called)["run"])


def test_it_is_another_run_that_computes_nothing(shared: Computed, tmp_path: Path) -> None:
    home, before = shared.copy(tmp_path), objects(shared.home)
    attempts = sorted(home.glob("runs/*/attempts/*"))
    document = run_json(shared.preset, home, "--set", WIDE, command=called)
    assert document["run"] != shared.run and document["status"] == "done"
    assert not new_kinds(home, before) and sorted(home.glob("runs/*/attempts/*")) == attempts
    assert document["margins"]["gaussian"] == {"mean_score": AFTER}
    assert shared.document["margins"]["gaussian"] == {"mean_score": BEFORE}
    pairs = list(zip(document["rows"], shared.document["rows"], strict=True))
    assert all(one["values"] == other["values"] for one, other in pairs)
    words = [(one["verdict"], other["verdict"]) for one, other in pairs if one["primary"]]
    assert any(one != other for one, other in words)
    again = called("run", shared.preset, "--home", home, "--set", WIDE)
    assert LINE in again.stdout and "(all from the store)" in again.stdout
    assert len(list(home.glob("runs/*/run.json"))) == 2


@pytest.mark.parametrize("same", ["verdicts.gaussian.mean_score=0.15", "verdicts={}"])
def test_the_shipped_margin_makes_no_other_run(shared: Computed, tmp_path: Path, same: str) -> None:
    home = shared.copy(tmp_path)
    document = run_json(shared.preset, home, "--set", same, command=called)
    assert document == shared.document | {"home": str(home)}


def test_it_is_told_wherever_the_run_is(shared: Computed, wide: tuple[Path, str]) -> None:
    home, run = wide
    where = ("--home", home)
    for words in (("compare", run), ("compare", run, "--md"), ("compare", run, "--latex")):
        assert called(*words, *where).stdout.count(LINE) == 1, words
        assert "margin of" not in called(words[0], shared.run, *words[2:], *where).stdout
    document = strict_json(called("compare", run, *where, "--json").stdout)
    assert document["margins"] == {
        "accuracy": {"test_accuracy": {"margin": 0.02, "shipped": 0.02}},
        "gaussian": {"mean_score": AFTER},
    }
    plan = ("plan", shared.preset, "--set", WIDE, *where)
    assert LINE in called(*plan).stdout
    assert strict_json(called(*plan, "--json").stdout)["margins"]["gaussian"]["mean_score"] == AFTER
    assert "margin of" not in called("plan", shared.preset, *where).stdout


def test_the_report_names_it_and_explains_by_it(wide: tuple[Path, str], tmp_path: Path) -> None:
    home, run = wide
    assert called("report", run, "--home", home, "--out", tmp_path / "page").returncode == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert f"<p>{LINE}</p>" in page
    assert "set by the preset (shipped: ±0.15)" in " ".join(page.split())
    assert "gaussian.mean_score = 100.0" in page


def test_two_margins_are_not_compared(shared: Computed, wide: tuple[Path, str]) -> None:
    home, run = wide
    done = called("compare", shared.run, run, "--home", home)
    assert done.returncode == 2 and done.stdout == ""
    for word in (shared.run, run, "±0.15 (shipped)", "±100", "verdicts.gaussian.mean_score"):
        assert word in done.stderr


def test_a_preset_of_the_run_keeps_it(wide: tuple[Path, str], tmp_path: Path) -> None:
    home, run = wide
    saved = tmp_path / "saved.toml"
    assert called("presets", "save", run, saved, "--home", home).returncode == 0
    assert "[verdicts]\ngaussian.mean_score = 100.0\n" in saved.read_text()
    again = run_json(saved, home, command=called)["run"]
    assert again.rpartition("-")[2] == run.rpartition("-")[2]


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tiny: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for command in ("run", "plan"):
        wrong = ("--set", "verdicts.gausian.mean_score=1")
        done = called(command, tiny, "--home", home, *wrong)
        assert done.returncode == 2 and not home.exists()
        assert f"{tiny}: verdicts.gausian: unknown audit" in done.stderr
        assert "Did you mean 'gaussian'?" in done.stderr
