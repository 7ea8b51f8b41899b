"""The other commands: lists, cards, plans, comparisons."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import Result
from harness import COMMAND, Computed, chelate, strict_json
from typer.testing import CliRunner

from console.cli import app
from engine.spec import presets
from engine.spec.registry import registered

COMMANDS = {
    "run", "plan", "watch", "compare", "runs", "presets", "methods", "attacks", "audits",
    "explain", "doctor",
}  # fmt: skip


def invoke(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def test_help_names_every_command() -> None:
    text = invoke("--help").stdout
    for name in COMMANDS:
        assert f" {name} " in text
    for name in sorted(COMMANDS - {"runs", "presets"}):
        assert "Usage:" in invoke(name, "--help").stdout
    for group, words in (("runs", ("list", "show")),
                         ("presets", ("list", "show", "validate", "schema"))):  # fmt: skip
        text = invoke(group, "--help").stdout
        assert all(f" {word} " in text for word in words)


def test_the_installed_command_answers() -> None:
    assert Path(COMMAND).is_file()
    done = chelate("--help")
    assert done.returncode == 0
    assert "poison" in done.stdout


def test_an_unknown_command_or_option_is_refused() -> None:
    for words in (["frobnicate"], ["run"], ["run", "quickstart", "--sets", "a=1"]):
        assert CliRunner().invoke(app, words).exit_code == 2


# --- presets -------------------------------------------------------------------------------------


def test_presets_are_listed_and_shown() -> None:
    listed = {
        told["name"]: told for told in strict_json(invoke("presets", "list", "--json").stdout)
    }
    assert set(listed) == set(presets.shipped())
    text = invoke("presets", "list").stdout
    for name, told in listed.items():
        assert name in text
        assert told["title"] in text
        shown = invoke("presets", "show", name).stdout
        assert shown.rstrip() == Path(told["path"]).read_text().rstrip()
        tomllib.loads(shown)


def test_the_quickstart_and_a_file_of_ones_own_validate(tiny: Path) -> None:
    assert "valid" in invoke("presets", "validate", "quickstart").stdout
    text = invoke("presets", "validate", tiny, "--set", "seeds=[0]").stdout
    assert str(tiny) in text
    assert "stages" in text


def test_the_schema_is_one_json_document() -> None:
    schema = strict_json(invoke("presets", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"data", "model", "train", "attacks", "methods", "audits", "seeds", "budgets"} <= set(
        schema["properties"]
    )


# --- cards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["method", "attack", "audit", "model", "data"])
def test_cards(kind: str) -> None:
    command = kind if kind == "data" else f"{kind}s"
    listed = invoke(command).stdout
    told = {card["name"]: card for card in strict_json(invoke(command, "--json").stdout)}
    assert set(told) == set(registered(kind))
    for name, cls in registered(kind).items():
        assert name in listed
        card = invoke(command, name).stdout
        assert cls.card.title in card
        assert cls.card.reference in card
        assert all(key in card for key in cls.model_fields if key != "name")
        assert strict_json(invoke(command, name, "--json").stdout) == told[name]


def test_metrics_and_verdicts_are_explained() -> None:
    for name, audit in registered("audit").items():
        assert audit.primary in invoke("explain", name).stdout  # type: ignore[attr-defined]
        for metric in audit.metrics:  # type: ignore[attr-defined]
            assert metric in invoke("explain", metric).stdout
    everything = invoke("explain", "verdict").stdout  # as the end of a run advises
    for verdict in ("residue", "removed", "inconclusive", "wrecked", "n/a", "reference"):
        page = invoke("explain", verdict).stdout
        assert verdict in page
        assert page.strip() in everything


def test_the_doctor_finds_this_machine_fit(tmp_path: Path) -> None:
    text = invoke("doctor", "--home", tmp_path / "home").stdout
    for word in ("torch", "cpu", "gpu", "home", "ready"):
        assert word in text
    assert "not ready" not in text


# --- plans ---------------------------------------------------------------------------------------


def test_a_plan_says_what_there_is_to_do(shared: Computed, tmp_path: Path) -> None:
    home = tmp_path / "home"
    fresh = strict_json(invoke("plan", shared.preset, "--home", home, "--json").stdout)
    assert not home.exists()
    assert len(fresh["stages"]) == 37
    assert not any(stage["cached"] for stage in fresh["stages"])
    assert fresh["tee_todo"] == fresh["tee"] > 0

    known = strict_json(invoke("plan", shared.preset, "--home", shared.home, "--json").stdout)
    assert all(stage["cached"] for stage in known["stages"])
    assert known["tee_todo"] == 0
    more = invoke("plan", shared.preset, "--home", shared.home, "--json", "--seeds", "0,1,2").stdout
    assert 0 < strict_json(more)["tee_todo"] < strict_json(more)["tee"]

    (guess,) = fresh["estimates"]
    assert guess["bytes"] == sum(guess["memory"].values()) > 4 * guess["parameters"]
    assert guess["seconds"] > 0 == known["estimates"][0]["seconds"]
    assert "a worker for" in invoke("plan", shared.preset, "--home", home).stdout

    text = invoke("plan", shared.preset, "--home", shared.home).stdout
    for kind in ("data", "split", "select", "craft", "train", "unlearn", "audit"):
        assert kind in text


def test_a_plan_says_what_verdicts_to_expect(shared: Computed, tmp_path: Path) -> None:
    """Of two seeds that no word but residue can come out; of more, how often each does."""
    home = ("--home", tmp_path / "home")
    text = invoke("plan", shared.preset, *home).stdout
    assert "gaussian by gaussian: 2 seeds, 4 rows tested" in text
    assert "every other verdict needs 3" in text
    assert "assumed: effect of none 0.6 (4 margins)" in text
    for truth in ("nothing left", "half left", "all left"):
        assert truth in text
    power = text[text.index("Verdicts to expect") :]
    assert max(map(len, power.splitlines())) <= 80

    told = strict_json(invoke("plan", shared.preset, *home, "--json").stdout)["power"]
    assert [one["families"][0]["audit"] for one in told] == ["accuracy", "gaussian"]
    for one in told:
        for truth in one["truths"].values():
            assert abs(sum(truth["words"].values()) - 1) < 1e-9
            assert truth["words"]["removed"] == 0
    more = invoke("plan", shared.preset, *home, "--seeds", "0,1,2,3,4,5,6,7", "--json").stdout
    scored = strict_json(more)["power"][1]
    assert scored["seeds"] == 8
    assert scored["truths"]["half left"]["words"]["residue"] > 0


def test_a_plan_takes_its_spreads_from_like_runs(tiny: Path, tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    seeds = ("--seeds", "0,1,2", "--set", "budgets=[0.5]")
    run = strict_json(invoke("run", tiny, *home, *seeds, "--json").stdout)["run"]
    told = strict_json(invoke("plan", tiny, *home, "--json").stdout)["power"]
    for one in told:
        assert one["stored"]["effect"]["runs"] == [run]
        assert one["stored"]["effect"]["seeds"] == 3
        assert not one["assumed"]
    text = invoke("plan", tiny, *home).stdout
    assert f"from 3 seeds of {run}:" in text
    assert "assumed: effect" not in text
    other = invoke("plan", tiny, *home, "--set", "model.width=17").stdout
    assert run not in other


def test_a_plan_without_retraining_says_what_that_costs(tiny: Path, tmp_path: Path) -> None:
    words = ("--set", "methods=[{name='none'}]", "--home", tmp_path / "home")
    assert "no `retrain`" in invoke("plan", tiny, *words).stdout


# --- runs and comparisons ------------------------------------------------------------------------


def test_runs_are_listed_and_shown(shared: Computed) -> None:
    home = ("--home", shared.home)
    listed = strict_json(invoke("runs", "list", "--json", *home).stdout)
    assert [(told["run"], told["state"]) for told in listed["runs"]] == [(shared.run, "done")]
    assert shared.run in invoke("runs", "list", *home).stdout
    assert shared.run in invoke("runs", "show", shared.run, *home).stdout
    told = strict_json(invoke("runs", "show", "tiny", "--json", *home).stdout)  # its start will do
    assert (told["run"], told["state"], told["failed"]) == (shared.run, "done", [])
    assert told["stages"]["audit"] == {"all": 20, "missing": 0}


def test_no_runs_is_no_fault(tmp_path: Path) -> None:
    assert "No runs" in invoke("runs", "list", "--home", tmp_path / "home").stdout
    told = strict_json(invoke("runs", "list", "--home", tmp_path / "home", "--json").stdout)
    assert told["runs"] == []
    assert not (tmp_path / "home").exists()


def test_compare_gives_the_rows_of_the_run(shared: Computed) -> None:
    told = strict_json(invoke("compare", "tiny", "--json", "--home", shared.home).stdout)
    assert told == shared.document


def test_a_run_compared_with_itself_says_the_same(shared: Computed) -> None:
    words = ("compare", shared.run, shared.run, "--json", "--home", shared.home)
    told = strict_json(invoke(*words).stdout)
    assert told["rows"] == shared.document["rows"]
    assert told["run"] == [shared.run, shared.run]


def test_csv_has_every_row(shared: Computed) -> None:
    text = invoke("compare", shared.run, "--csv", "--home", shared.home).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(shared.document["rows"])
    for found, row in zip(rows, shared.document["rows"], strict=True):
        assert found["method"] == row["method"]
        assert found["metric"] == row["metric"]
        assert found["mean"] == ("" if row["mean"] is None else repr(row["mean"]))


@pytest.mark.parametrize("form", ["--md", "--latex", None])
def test_tables_have_every_judged_model(shared: Computed, form: str | None) -> None:
    words = ["compare", shared.run, "--home", str(shared.home)]
    text = invoke(*words, *([form] if form else [])).stdout
    for row in shared.document["rows"]:
        if row["metric"] == "mean_score":
            assert row["method"] in text
            assert row["verdict"] in text
    assert ("tabular" in text) == (form == "--latex")
    assert ("|" in text) or form != "--md"


def test_watching_a_finished_run_shows_its_table(shared: Computed) -> None:
    text = invoke("watch", "tiny", "--home", shared.home).stdout
    assert "retrain-fresh" in text
    assert f"run {shared.run}: done" in text


def test_looking_changes_nothing(shared: Computed) -> None:
    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in shared.home.rglob("*") if p.is_file()}

    before = state()
    home = ("--home", shared.home)
    for words in (["runs", "list"], ["runs", "show", "tiny"], ["compare", "tiny"], ["watch", "tiny"],
                  ["plan", str(shared.preset)]):  # fmt: skip
        invoke(*words, *home)
    assert state() == before


def test_a_file_of_the_future_or_of_garbage_spoils_one_run_only(
    shared: Computed, tmp_path: Path
) -> None:
    home = shared.copy(tmp_path)
    for name, content in (("odd", "[1, 2]"), ("torn", '{"v": 1, "ti'), ("empty", "{}")):
        folder = home / "runs" / name
        folder.mkdir()
        (folder / "run.json").write_text(content)
    told = strict_json(invoke("runs", "list", "--json", "--home", home).stdout)
    assert {run["run"] for run in told["runs"]} == {shared.run, "odd", "torn", "empty"}
    invoke("runs", "list", "--home", home)
    assert json.loads(json.dumps(told))
    for name in ("odd", "torn", "empty"):
        for words in (["runs", "show", name], ["compare", name], ["watch", name]):
            result = CliRunner().invoke(app, [*words, "--home", str(home)])
            assert result.exit_code == 2, result.output
            assert name in result.stderr
