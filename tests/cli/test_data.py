"""What the data are: one line wherever a run is shown, all of it by `data PRESET|RUN`."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from harness import DATA, TINY, Computed, artifact, on_folder, save_images, strict_json
from PIL import Image
from typer.testing import CliRunner

from console.cli import app
from console.reporting import _data, _data_lines
from engine.jobs import runs
from engine.jobs.home import Home
from engine.lab.data.mnist5k import Mnist5k
from engine.spec.component import DataInfo
from engine.spec.planned import REPORTS
from engine.spec.presets import load

PLANNED = (
    "data: 300 rows and 100 test rows; images of 28×28, 1 channel; 10 classes: 0 '0', 1 '1', 2 '2', "
    "3 '3', 4 '4', 5 '5', 6 '6', 7 '7', 8 '8', 9 '9'"
)
READ = f"{PLANNED}; no test row is also in train"
SENTENCES = 'data = { name = "sentences", limit_train = 40, limit_test = 20, vocabulary = 300 }'

TABLE = """
seeds = [0]
budgets = [0.2]
data = {{ name = "csv-table", path = "{path}" }}
model = {{ name = "linear" }}
train = {{ epochs = 2, batch_size = 8 }}
attacks = [{{ name = "gaussian", share = 0.2 }}]
methods = [{{ name = "none" }}, {{ name = "retrain" }}]
audits = [{{ name = "accuracy" }}]
compute = {{ workers = 1 }}
"""


def invoke(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("data")]


def data_of(*words: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = strict_json(invoke(*words, "--json").stdout)["data"]
    return found


# --- the line ------------------------------------------------------------------------------------


def test_a_plan_tells_what_is_known_before_the_rows_are_read(tiny: Path, tmp_path: Path) -> None:
    words = ("plan", tiny, "--home", tmp_path / "home")
    assert lines_of(invoke(*words).stdout)[:1] == [PLANNED]
    told = strict_json(invoke(*words, "--json").stdout)
    (one,) = told["data"]
    assert (one["line"], one["read"], one["settings"]) == (PLANNED, False, [])
    assert one["report"]["train"] == {"rows": 300, "per_class": [30] * 10}
    assert one["stage"] in {stage["key"] for stage in told["stages"]} and REPORTS not in told


def test_what_was_read_before_is_told_by_a_plan_too(shared: Computed) -> None:
    words = ("plan", shared.preset, "--home", shared.home)
    assert READ in lines_of(invoke(*words).stdout)
    (one,) = data_of(*words)
    assert one["read"] and one["report"]["overlap"] == 0


def test_run_compare_and_watch_tell_the_data_stages_counts(shared: Computed) -> None:
    home = ("--home", shared.home)
    (one,) = shared.document["data"]
    assert one["line"] == READ and one["run"] == shared.run
    assert data_of("compare", shared.run, *home) == [one]
    for words in (("compare", shared.run), ("watch", shared.run)):
        assert lines_of(invoke(*words, *home).stdout) == [READ], words
    again = invoke("run", shared.preset, *home).stdout  # all of it from the store
    assert lines_of(again) == [READ]
    assert lines_of(invoke("compare", shared.run, shared.run, *home).stdout) == [READ]


def test_a_grid_over_data_has_a_line_for_each_that_differs(tmp_path: Path) -> None:
    text = f"{TINY}\n[grid]\n"
    tables = tmp_path / "grid.toml"
    tables.write_text(text + '"data.size" = [14, 28]\n"train.epochs" = [1, 2]\n')
    found = lines_of(invoke("plan", tables, "--home", tmp_path / "home").stdout)[:2]
    assert [line.partition(": ")[0] for line in found] == [
        f"data of data.size={size},train.epochs=1, data.size={size},train.epochs=2"
        for size in (14, 28)
    ]
    assert "14×14" in found[0] and "28×28" in found[1]
    tables.write_text(text + '"train.epochs" = [1, 2]\n')
    assert lines_of(invoke("plan", tables, "--home", tmp_path / "home").stdout)[:1] == [PLANNED]
    (one,) = data_of("plan", tables, "--home", tmp_path / "home")
    assert one["settings"] == ["train.epochs=1", "train.epochs=2"]


def test_imported_runs_repeat_it(shared: Computed, tmp_path: Path) -> None:
    packed, home = tmp_path / "run.tgz", ("--home", tmp_path / "other")
    invoke("export", shared.run, packed, "--home", shared.home)
    invoke("import", packed, *home)
    run = f"{shared.run}.imported"
    assert READ in lines_of(invoke("compare", run, *home).stdout)
    text = invoke("data", run, *home).stdout
    assert "the data stage, which read every row" in text
    assert "row 0" not in text, "an excerpt has no pixels"
    told = invoke("data", run, *home, "--out", tmp_path / "x.png", code=2).stderr
    assert "not in the store" in told


def aged(home: Path, run: str, report: dict[str, Any] | None, *, stage: bool = True) -> str:
    """Make a run one of before reports were told in planning; the data stage's key."""
    folder = home / "runs" / run
    plan = json.loads((folder / "plan.json").read_bytes())
    assert plan.pop(REPORTS)
    (folder / "plan.json").write_text(json.dumps(plan))
    key = str(next(s["key"] for s in plan["stages"] if s["kind"] == "data"))
    path, record = artifact(home, key, "data.json"), artifact(home, key, "DONE.json")
    facts = json.loads(path.read_bytes())
    del facts["report"]
    content = json.dumps(facts | ({} if report is None else {"report": report})).encode()
    path.write_bytes(content)
    done = json.loads(record.read_bytes())
    done["files"]["data.json"]["sha256"] = hashlib.sha256(content).hexdigest()
    done["files"]["data.json"]["size"] = len(content)
    record.write_text(json.dumps(done))
    if not stage:
        path.unlink()
    return key


def test_runs_of_before_tell_what_they_know(shared: Computed, tmp_path: Path) -> None:
    home = shared.copy(tmp_path)
    counts = {"rows": 300, "per_class": [30] * 10, "duplicates": 2, "conflicting": 1}
    old = {"train": counts, "test": counts | {"rows": 100}, "overlap": 3, "overlap_conflicting": 0}
    aged(home, shared.run, old)
    where = ("--home", home)
    told = f"{PLANNED}; 4 duplicates (2 in train, 2 in test); 3 test rows are also in train"
    assert lines_of(invoke("compare", shared.run, *where).stdout) == [told]
    text = invoke("data", shared.run, *where).stdout
    assert "3 of 100 test rows are in train" in text, "a warning that it did not keep"
    before = (home / "runs" / shared.run / "run.json").read_bytes()
    assert lines_of(invoke("run", shared.preset, *where).stdout) == [told]
    assert (home / "runs" / shared.run / "run.json").read_bytes() == before, "the same run"
    assert runs.find(Home(home), shared.run).plan.reports, "which now knows what planning knew"


@pytest.mark.parametrize("stage", [True, False])
def test_runs_of_before_there_were_reports(shared: Computed, tmp_path: Path, stage: bool) -> None:
    home = shared.copy(tmp_path)
    aged(home, shared.run, None, stage=stage)
    (line,) = lines_of(invoke("compare", shared.run, "--home", home).stdout)
    classes = PLANNED[PLANNED.index("10 classes") :]
    assert line == f"data: {'images of 28×28, 1 channel; ' * stage}{classes}"
    assert ("is not done" in invoke("data", shared.run, "--home", home).stdout) != stage


def test_strangers_words_are_harmless(shared: Computed, tmp_path: Path) -> None:
    home = shared.copy(tmp_path)
    odd = ["<b>x</b>\x1b[2J", "[red]", "\u202eevil", *"3456789"]
    aged(home, shared.run, {"classes": odd, "read": ["<i>\x1b[31m [bold]"]})
    where = ("--home", home)
    run = runs.find(Home(home), shared.run)
    html = "".join([*_data_lines(run), _data(run)])
    told = [invoke(*words, shared.run, *where).stdout
            for words in (("compare",), ("data",), ("compare", "--json"))]  # fmt: skip
    for text in (*told, html):
        assert not {"\x1b", "\u202e"} & set(text)
        assert "[red]" in text
    assert "<b>" not in html and "<i>" not in html and "&lt;b&gt;x" in html


def test_a_report_that_no_view_could_show_is_as_good_as_none(
    shared: Computed, tmp_path: Path
) -> None:
    home = shared.copy(tmp_path)
    aged(home, shared.run, {"overlap": float("nan")})
    for words in (("compare",), ("data",), ("compare", "--json")):
        done = invoke(*words, shared.run, "--home", home)
        assert done.exit_code == 0 and "NaN" not in done.stdout


# --- data ----------------------------------------------------------------------------------------


def test_a_run_in_full(shared: Computed, tmp_path: Path) -> None:
    home, sheet = ("--home", shared.home), tmp_path / "sheet.png"
    text = invoke("data", shared.run, *home, "--out", sheet).stdout
    assert text.startswith(f"data mnist5k of run {shared.run}\n")
    for words in ("mnist5k, limit_test = 100, limit_train = 300", "300 rows and 100 test rows",
                  "no test row is also in train", "    9  '9'      30    10",
                  "the data stage, which read every row", ": 0 '0', row"):  # fmt: skip
        assert words in text, words
    with Image.open(sheet) as page:
        assert page.size == (3 * (84 + 4) + 4, 10 * (84 + 4) + 4), "30 pictures, three in a row"
    told = strict_json(invoke("data", shared.run, *home, "--json").stdout)
    assert told["run"] == shared.run and told["data"][0]["source"]["limit_train"] == 300
    assert told["data"][0]["report"]["train"]["per_class"] == [30] * 10
    # A preset's data that were read before are not read again.
    assert "which read every row" in invoke("data", shared.preset, *home).stdout


def test_images_of_a_preset(tmp_path: Path) -> None:
    preset = tmp_path / "images.toml"
    preset.write_text(on_folder(TINY, save_images(tmp_path / "images")))
    words = ("data", preset, "--home", tmp_path / "home")
    text = invoke(*words).stdout
    assert "reading every row now" in text and "0 cat" in text and "1 dog" in text
    assert "inputs      images of 8×8, 3 channels" in text
    assert "row 0: 0 cat, row 6: 1 dog" in text
    assert not (tmp_path / "home").exists()
    more = invoke(*words, "--set", "data.limit_train=4").stdout
    assert "rows        4 rows and 6 test rows" in more


def test_texts_of_a_preset(tmp_path: Path) -> None:
    preset = tmp_path / "texts.toml"
    preset.write_text(TINY.replace(DATA, SENTENCES))
    # Its model does not take texts: the data can be told all the same.
    text = invoke("data", preset, "--home", tmp_path / "home").stdout
    assert "rows        40 rows and 20 test rows" in text and "0  negative" in text
    assert "the first 5 rows as read" in text
    first = load(str(preset)).data.texts().train[0]  # type: ignore[attr-defined]
    assert first[:40] in text
    (one,) = data_of("data", preset)
    assert len(one["report"]["sample"]) == 5 and one["report"]["sample_names"] == ["label", "text"]
    out = invoke("data", preset, "--out", tmp_path / "x.png", code=2).stderr
    assert "the data are texts" in out and not (tmp_path / "x.png").exists()


def test_a_table_of_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ages = [str(n * 7 % 31 + 20) if n != 3 else "" for n in range(30)]
    rows = [f"{age};{'ab'[n % 2]};{'no' if n % 3 else 'yes'}" for n, age in enumerate(ages)]
    (tmp_path / "t.csv").write_text("\n".join(["age;work;ok", *rows]))
    preset = tmp_path / "table.toml"
    table = 'data = { name = "csv-table", path = "t.csv", impute = "mean" }'
    preset.write_text(TINY.replace(DATA, table))
    monkeypatch.chdir(tmp_path)
    text = invoke("data", "table.toml").stdout
    for words in ("source      csv-table, path = 't.csv', impute = 'mean'\n", "semicolons between",
                  "age     numeric      20 to ", "work    categorical  2: a, b",
                  "    0  no", "    1  yes", "the first 3 rows as read", "20   a     yes"):  # fmt: skip
        assert words in text, words
    (age,) = (line for line in text.splitlines() if line.startswith("age     numeric"))
    assert age.split()[-3:-1] == ["1", "mean"], "gaps, and what fills them"
    (one,) = strict_json(invoke("plan", "table.toml", "--home", "home", "--json").stdout)["data"]
    for words in ("; 2 columns: 1 numeric, 1 categorical (work 2 values); 2 classes: 0 no, 1 yes; ",
                  "; gaps: 1 in age (filled with mean ", "; read: data.path"):  # fmt: skip
        assert words in one["line"], words
    dropped = ("--set", "data.impute='refuse'", "--set", "data.missing='drop'")
    assert "dropped     1 with a gap" in invoke("data", "table.toml", *dropped).stdout


def test_what_planning_reports_is_kept_beside_the_counts(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = Mnist5k.inspect

    def told(self: Mnist5k) -> DataInfo:
        info = inspect(self)
        info.report.update({"warnings": ["a digit is odd."], "dropped": {"empty": 2}})
        return info

    monkeypatch.setattr(Mnist5k, "inspect", told)
    text = invoke("data", tiny).stdout
    assert "- a digit is odd." in text and "dropped     2 empty" in text
    assert "duplicates  0 in train, 0 in test" in text


def test_a_shipped_name_or_a_file_comes_before_a_run(
    shared: Computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = ("--home", shared.home)
    assert strict_json(invoke("data", shared.run, *home, "--json").stdout)["run"] == shared.run
    (tmp_path / shared.run).write_text(shared.preset.read_text())
    assert "preset" in strict_json(invoke("data", shared.run, *home, "--json").stdout)
    assert "embedded in a package" in invoke("data", "mnist5k").stdout, "a card, as before"


def test_what_cannot_be_told(shared: Computed, tiny: Path, tmp_path: Path) -> None:
    home = ("--home", shared.home)
    (tmp_path / "there.png").touch()
    for words, told in (
        (("nosuch",), "is no run, preset, or data set"),
        (("nosuch.toml",), "does not exist"),
        ((shared.run, "--set", "data.size=8"), "is a run"),
        ((tiny, "--set", "data.size=1"), "data.size"),
        ((tiny, "--out", tmp_path / "x.jpg"), "must end in .png"),
        ((tiny, "--out", tmp_path / "there.png"), "exists; --force"),
        ((tiny, "--set", "data={name='csv-table',path='no.csv'}"), "no.csv"),
        (("mnist5k", "--out", tmp_path / "x.png"), "need a preset or a run"),
        (("--set", "a=1"), "need a preset or a run"),
    ):
        assert told in invoke("data", *words, *home, code=2).stderr, words


def test_no_row_of_the_data_travels_with_a_run(tmp_path: Path) -> None:
    """Archives and pages are passed on; the first rows are for who has the data."""
    rows = "".join(f"secret-{n % 3},{n % 7}.5,{n % 2}\n" for n in range(40))
    (tmp_path / "people.csv").write_text(f"who,x,y\n{rows}")
    preset = tmp_path / "people.toml"
    preset.write_text(TABLE.format(path=tmp_path / "people.csv"))
    home = ("--home", tmp_path / "home")
    told = strict_json(invoke("run", preset, *home, "--json").stdout)
    run = str(told["run"])
    assert "rows as read" in invoke("data", run, *home).stdout
    report = told["data"][0]["report"]
    assert report["sample"][0] == ["secret-0", "0.5", "0"]
    invoke("export", run, tmp_path / "run.tar.gz", *home)
    invoke("report", run, "--out", tmp_path / "page", *home)
    with tarfile.open(tmp_path / "run.tar.gz") as archive:
        names = [member.name for member in archive if member.isfile()]
        packed = b"\n".join(archive.extractfile(name).read() for name in names)  # type: ignore[union-attr]
    assert not any(name.endswith("sample.json") for name in names)
    assert b'"sample"' not in packed and b"sample_names" not in packed
    page = (tmp_path / "page" / "report.html").read_text()
    assert "rows as read" not in page
    plan = json.loads((tmp_path / "home" / "runs" / run / "plan.json").read_bytes())
    assert all("sample" not in one for one in plan[REPORTS].values())
    other = ("--home", tmp_path / "other")
    invoke("import", tmp_path / "run.tar.gz", *other)
    assert "rows as read" not in invoke("data", run, *other).stdout
