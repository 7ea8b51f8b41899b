"""The headless twins of the console: plots, the report, saved presets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from harness import Computed, called, run_json
from typer.testing import CliRunner

from console.cli import app
from engine.spec import presets


def invoke(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("kind", "told"),
    [("loss", "gd"), ("z", "n = "), ("budget", "retrain")],
)
def test_a_plot_as_text_fits_and_names_what_it_shows(
    kind: str, told: str, shared: Computed
) -> None:
    text = invoke("plot", kind, shared.run, "--home", shared.home).stdout
    assert told in text
    assert "nan" not in text.lower()
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("kind", ["loss", "z", "budget"])
def test_a_figure_is_the_same_twice_and_has_labelled_axes(
    kind: str, shared: Computed, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    invoke("plot", kind, shared.run, "--home", shared.home, "--out", one)
    invoke("plot", kind, shared.run, "--home", shared.home, "--out", two)
    assert one.read_bytes() == two.read_bytes()
    assert ElementTree.fromstring(one.read_text()).tag.endswith("svg")


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_for_paper(ending: str, magic: bytes, shared: Computed, tmp_path: Path) -> None:
    path = tmp_path / f"figure.{ending}"
    invoke("plot", "budget", shared.run, "--home", shared.home, "--out", path)
    assert path.read_bytes().startswith(magic)


def test_what_cannot_be_plotted(shared: Computed, tmp_path: Path) -> None:
    where = ("--home", str(shared.home))
    assert "loss, z, budget" in invoke("plot", "zz", shared.run, *where, code=2).stderr
    assert (
        "figure.xyz"
        in invoke("plot", "z", shared.run, *where, "--out", tmp_path / "figure.xyz", code=2).stderr
    )
    assert not list(tmp_path.glob("figure.*"))


def test_the_report_is_one_page_that_needs_nothing_else(shared: Computed, tmp_path: Path) -> None:
    out = tmp_path / "page"
    invoke("report", shared.run, "--home", shared.home, "--out", out)
    page = (out / "report.html").read_text()
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert page.count("<svg") >= 3
    assert not re.search(r"<script|<link|<iframe|@import|url\(\s*['\"]?https?:|src\s*=", page)
    for row in shared.document["rows"]:
        assert row["method"] in page
    assert "residue" in page and "noise_std" in page
    line, plain = str(shared.document["data"][0]["line"]), page.replace("&#x27;", "'")
    assert f"<p>{line}</p>" in plain, "what the data are"
    assert "<h2>Data</h2>" in page and "    9  '9'      30    10" in plain, "and in full"
    invoke("report", shared.run, "--home", shared.home, "--out", out)  # its own: renewed
    (out / "report.html").write_text("mine")
    told = invoke("report", shared.run, "--home", shared.home, "--out", out, code=2).stderr
    assert "--force" in told


def test_the_report_escapes_what_strangers_wrote(shared: Computed, tmp_path: Path) -> None:
    home = shared.copy(tmp_path)
    run = next((home / "runs").iterdir())
    facts = run / "run.json"
    odd = "<img onerror=alert(1)>\\u001b[31m"
    facts.write_text(facts.read_text().replace('"title": "tiny"', f'"title": "{odd}"'))
    invoke("report", shared.run, "--home", home, "--out", tmp_path / "page")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "<img" not in page
    assert "\x1b" not in page


def test_a_saved_preset_gives_the_same_run(shared: Computed, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    invoke("presets", "save", shared.run, path, "--home", shared.home)
    home = shared.copy(tmp_path)
    again = run_json(path, home, command=called)
    assert again["rows"] == shared.document["rows"]


def test_saving_applies_overrides_and_loses_nothing_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    words = ("presets", "save", "quickstart", path, "--set", "train.epochs=7", "--seeds", "3")
    invoke(*words)
    saved = presets.load(str(path))
    assert (saved.train.epochs, saved.seeds) == (7, (3,))
    assert "--force" in invoke(*words, code=2).stderr
    invoke(*words, "--force")
    path.write_text("# mine\n" + path.read_text().split("\n", 1)[1])
    before = path.read_text()
    invoke(*words, "--force", code=2)
    assert path.read_text() == before
    assert tomllib.loads(before)["seeds"] == [3]


@pytest.mark.parametrize(
    "override",
    [
        "compute.device='gpu'", "data={name='csv-table',path='/none'}", "grid.'train.lr'=['fast']",
        "train.from='~nosuchuser/x'", "attacks.0.share=0.00001", "train.from='/none'",
        "grid.'nothing.x'=[1]", "compute.workers=10000000", "seeds=[]",
    ],
)  # fmt: skip
def test_saving_refuses_what_validating_refuses(tmp_path: Path, override: str) -> None:
    path = tmp_path / "mine.toml"
    runner, both = CliRunner(), ["--set", override]
    told = runner.invoke(app, ["presets", "validate", "quickstart", *both])
    saved = runner.invoke(app, ["presets", "save", "quickstart", str(path), *both])
    assert told.exit_code == saved.exit_code == 2
    assert saved.stderr == told.stderr
    assert not path.exists()
