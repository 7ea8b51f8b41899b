"""The method of docs/example-method, installed as a stranger's package is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.lab.methods.gd import GD
from tests.cli.harness import TINY, chelate
from tests.helpers import LocalContext
from tests.lab.methods.tasks import ended, toy
from tests.lab.toys import same, weights

EXAMPLE = Path(__file__).parents[3] / "docs" / "example-method"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, its entry point declared in a .dist-info as pip does."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("installed")
    words = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder)]
    words = [sys.executable, "-m", "pip", "install", "--quiet", *words, str(EXAMPLE)]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_short() -> None:
    assert len((EXAMPLE / "shrink_perturb.py").read_text().splitlines()) <= 40


def test_it_is_one_of_the_methods(installed: Path, tmp_path: Path) -> None:
    path = str(installed)
    assert "Ash & Adams" in chelate("methods", "shrink-perturb", PYTHONPATH=path).stdout
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(TINY + '[[methods]]\nname = "shrink-perturb"\nkeep = 1.5\n')
    refused = chelate("plan", str(wrong), PYTHONPATH=path)
    assert refused.returncode == 2
    assert "methods[4].keep = 1.5: should be less than or equal to 1" in refused.stderr


def test_it_runs_from_a_preset_and_is_judged(installed: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    others = TINY.index('[[methods]]\nname = "retrain-fresh"')
    preset.write_text(TINY[:others] + '[[methods]]\nname = "shrink-perturb"\n')
    words = ("--json", "--set", "compute.workers=1")
    done = chelate("run", preset, "--home", tmp_path / "home", *words, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    rows = [r for r in json.loads(done.stdout)["rows"] if r["method"] == "shrink-perturb"]
    rows = [row for row in rows if row["metric"] == "mean_score"]
    assert {row["budget"] for row in rows} == {0.25, 0.5}
    assert all(row["n"] == 2 and row["verdict"] for row in rows)


def test_keeping_everything_is_descent(
    installed: Path, ctx: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    from shrink_perturb import ShrinkPerturb  # type: ignore[import-not-found]

    plain = ended(GD(lr=0.05, batch_size=8), toy(), ctx)
    kept = ended(ShrinkPerturb(lr=0.05, batch_size=8, keep=1.0), toy(), ctx)
    shrunk = ended(ShrinkPerturb(lr=0.05, batch_size=8, keep=0.9), toy(), ctx)
    assert same(weights(plain.model), weights(kept.model))
    assert not same(weights(plain.model), weights(shrunk.model))
