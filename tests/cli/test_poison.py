"""Poison as an artifact: what leaves comes back the same, and a stranger's folder is looked through."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from harness import DATA, TINY, Computed, called, run_json
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from console.cli import app
from console.pictures import STRIP, picture
from console.poisons import Made
from engine.spec.poisons import MANIFEST, TENSORS, raw_space, read_poison
from engine.spec.presets import load
from tests.helpers import run_plan

ATTACK = 'attacks = [{ name = "gaussian" }]'


def invoke(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def exported(shared: Computed, tmp_path: Path) -> Path:
    """Both seeds' poisons, in one folder."""
    invoke("poison", "export", shared.run, tmp_path / "out", "--home", shared.home)
    return tmp_path / "out"


def imported(path: Path) -> str:
    preset = TINY.replace(ATTACK, f'attacks = [{{ name = "imported", path = "{path}" }}]')
    assert preset != TINY
    return preset


@pytest.mark.usefixtures("forked")
def test_what_was_exported_gives_the_same_results(
    shared: Computed, exported: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "again.toml"
    preset.write_text(imported(exported))
    rows = run_json(preset, tmp_path / "home", command=called)["rows"]
    assert {row["attack"] for row in rows} == {"imported"}
    strip = {"attack": None, "seconds": None}
    assert [row | strip for row in rows] == [row | strip for row in shared.document["rows"]]


def test_an_export_is_what_is_in_the_store(shared: Computed, exported: Path) -> None:
    names = sorted(path.name for path in exported.iterdir())
    assert names == ["gaussian-s0-t0", "gaussian-s1-t0"]
    found = read_poison(exported / names[0])
    assert found.gives == {"noise"} and found.manifest["made"]["seed"] == 0
    assert found.manifest["bounds"] == {"epsilon": None, "unit_box": False}
    told = json.loads(
        invoke("poison", "export", shared.run, exported / "more", "--seed", "1", "--home",
               shared.home, "--json").stdout
    )["poisons"]  # fmt: skip
    assert [one["rows"] for one in told] == [len(read_poison(exported / names[1]).rows)]
    again = invoke("poison", "export", shared.run, exported, "--home", shared.home, code=2)
    assert "exists already" in again.stderr


def test_a_poison_can_be_looked_at(shared: Computed, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    words = ("poison", "show", shared.run, "--home", shared.home, "--rows", "3")
    text = invoke(*words, "--out", out).stdout
    assert "base, poison, difference" in text and text.count("row ") == 3
    with Image.open(out) as sheet:
        width, height = sheet.size
    assert width == height == 3 * (28 * 3 + 4) + 4, "three rows of three pictures"
    assert "exists; --force replaces it" in invoke(*words, "--out", out, code=2).stderr
    assert ".png" in invoke(*words, "--out", tmp_path / "sheet.pkl", code=2).stderr
    assert "gaussian seed 0" in invoke(*words, "--seed", "7", code=2).stderr


def only(attack: str, audits: str = '{ name = "accuracy" }') -> str:
    """One seed of the tiny preset with another attack and other audits."""
    both = '{ name = "accuracy" }, { name = "gaussian" }'
    text = TINY.replace("[0, 1]", "[0]").replace(ATTACK, f"attacks = [{attack}]")
    assert both in text
    return text.replace(both, audits)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_added_rows_leave_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison that is added: shown beside the rows it started from, exported, imported."""
    preset, home, out = tmp_path / "added.toml", tmp_path / "home", tmp_path / "out"
    preset.write_text(only('{ name = "appended-label-flip" }'))
    made = run_json(preset, home, command=called)
    show = ("poison", "show", made["run"], "--home", home, "--rows", "2")
    text = invoke(*show).stdout
    assert "row 300, as" in text and "base, poison, difference" in text
    told = json.loads(
        invoke("poison", "export", made["run"], out, "--home", home, "--json").stdout
    )["poisons"][0]  # fmt: skip
    assert told["added"] and told["largest_change"] == 0 and told["unit_box"]
    folder = Path(told["folder"])
    assert read_poison(folder).rows == list(range(300, 300 + told["rows"]))

    preset.write_text(only(f'{{ name = "imported", path = "{folder}" }}'))
    again = run_plan(load(str(preset)), tmp_path / "here")
    accuracy = {
        cell.method: again.metrics(method=cell.method, budget=cell.budget)["test_accuracy"]
        for cell in again.plan.cells
        if cell.budget in (None, 0.25)
    }
    assert len(accuracy) == 4
    for row in made["rows"]:
        if row["metric"] == "test_accuracy" and row["budget"] in (None, 0.25):
            assert row["mean"] == accuracy[row["method"]], row["method"]
    monkeypatch.setattr(Made, "starts", lambda _: None)  # as it is for a poison that was imported
    assert "what the added rows were is not known" in invoke(*show).stdout


def test_a_tables_row_is_a_strip_in_its_own_units() -> None:
    row = np.linspace(0, 1, 13, dtype=np.float32)
    assert np.array_equal(raw_space(row), row)
    assert np.array_equal(
        raw_space(np.array([0, 51, 255], dtype=np.uint8)), np.float32([0, 0.2, 1])
    )
    strip = picture(row.reshape(13, 1, 1))
    assert strip.shape == (STRIP, 13, 3) and np.allclose(strip[2, :, 1], row)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_tables_poison_is_a_strip_within_its_bound(tmp_path: Path) -> None:
    preset, home, sheet = tmp_path / "table.toml", tmp_path / "home", tmp_path / "sheet.png"
    attack = '{ name = "gradient-matching", epsilon = 0.125, share = 0.05, targets = 1, steps = 8 }'
    text = only(attack).replace(DATA, 'data = { name = "bundled-table", table = "wine" }')
    assert DATA not in text
    preset.write_text(text)
    run = run_json(preset, home, command=called)["run"]
    shown = invoke("poison", "show", run, "--home", home, "--rows", "2", "--out", sheet).stdout
    assert "full: 0.125" in shown
    with Image.open(sheet) as page:
        # A target and two rows, of three strips: 13 columns, 4 high, 7 times as large.
        assert page.size == (3 * (13 * 7 + 4) + 4, 3 * (4 * 7 + 4) + 4)
        assert len(np.unique(np.asarray(page))) > 10
    told = invoke("poison", "export", run, tmp_path / "out", "--home", home, "--json").stdout
    (one,) = json.loads(told)["poisons"]
    assert 0.1 < one["largest_change"] <= one["epsilon"] == 0.125


def test_other_data_are_refused_before_anything_runs(exported: Path, tmp_path: Path) -> None:
    preset = tmp_path / "other.toml"
    for old, new, told in (
        ("limit_train = 300", "limit_train = 400", "train"),
        ('name = "mnist5k", limit_train = 300', 'name = "mnist5k", limit_train = 290', "train"),
        ("seeds = [0, 1]", "seeds = [5]", "made for seeds [0, 1]"),
    ):
        preset.write_text(imported(exported).replace(old, new))
        assert told in invoke("plan", preset, "--home", tmp_path / "home", code=2).stderr
    preset.write_text(imported(tmp_path / "nowhere"))
    assert MANIFEST in invoke("plan", preset, "--home", tmp_path / "home", code=2).stderr


@pytest.mark.usefixtures("forked")
def test_rows_that_were_cut_off_for_validation_fail_with_a_reason(
    exported: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "cut.toml"
    text = imported(exported / "gaussian-s0-t0").replace("seeds = [0, 1]", "seeds = [1]")
    preset.write_text(text)
    result = invoke("run", preset, "--home", tmp_path / "home", "--json", code=3)
    assert "cut off for validation" in result.output


# --- strangers' folders --------------------------------------------------------------------------


def told(change: dict[str, Any]) -> Callable[[Path], None]:
    """Changes of the manifest, by dotted key."""

    def apply(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        for key, value in change.items():
            *path, last = key.split(".")
            place = manifest
            for word in path:
                place = place[word]
            place[last] = value
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return apply


def tensor(name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        arrays = load_file(folder / TENSORS)
        if change is None:
            del arrays[name]
        else:
            arrays[name] = np.ascontiguousarray(change(arrays.get(name, np.zeros(1))))
        save_file(arrays, folder / TENSORS)

    return apply


def link(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).rename(folder.parent / f"outside-{name}")
        (folder / name).symlink_to(folder.parent / f"outside-{name}")

    return apply


def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    array.flat[5] = value
    return array


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "no poison.json in it"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), "is not there"),
    "linked manifest": (link(MANIFEST), "is a link"),
    "linked tensors": (link(TENSORS), "is a link"),
    "no JSON": (lambda f: (f / MANIFEST).write_text("{"), "not JSON"),
    "deep JSON": (lambda f: (f / MANIFEST).write_text("[" * 100_000), "not JSON"),
    "a list": (lambda f: (f / MANIFEST).write_text("[]"), "v = 1"),
    "another version": (told({"v": 2}), "v = 1"),
    "a pickle": (lambda f: (f / TENSORS).write_bytes(b"\x80\x04K\x01."), "not a safetensors"),
    "cut short": (
        lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-9]),
        "not a safetensors",
    ),
    "infinite": (tensor("inputs", lambda a: spoilt(a, np.inf)), "inputs holds values"),
    "NaN noise": (tensor("noise", lambda a: spoilt(a, np.nan)), "noise holds values"),
    "bytes": (tensor("inputs", lambda a: a * 255), "raw space"),
    "doubles": (tensor("inputs", lambda a: a.astype(np.float64)), "inputs is float64"),
    "another shape": (tensor("inputs", lambda a: a[:, :, :5]), "inputs is float32"),
    "no labels": (tensor("labels", None), "no tensor 'labels'"),
    "no noise": (tensor("noise", None), "gives 'noise'"),
    "a strange tensor": (tensor("../x", lambda a: a), "unknown tensors"),
    "a label too large": (tensor("labels", lambda a: a + 10), "labels must lie"),
    "a negative row": (tensor("rows", lambda a: a - 10_000), "rows must ascend"),
    "a row twice": (tensor("rows", lambda a: a * 0), "rows must ascend"),
    "added rows": (tensor("rows", lambda a: a + 300), "be added as 300, 301"),
    "noise in added rows": (
        tensor("rows", lambda a: np.arange(300, 300 + len(a))),
        "added rows cannot give 'noise'",
    ),
    "no rows": (tensor("rows", lambda a: a[:0]), "at least one"),
    "a fact that is text": (told({"facts.noise_std": "0.3"}), "finite numbers"),
    "a target that is not": (told({"facts.target_row": 1e9}), "target_row"),
    "noise without a size": (told({"facts.noise_std": 0}), "noise_std"),
    "an unknown gift": (told({"gives": ["noise", "root"]}), "gives"),
    "a gift that is a list": (told({"gives": [["noise"]]}), "gives"),
    "a bound below zero": (told({"bounds.epsilon": -1}), "bounds"),
    "a box it is not in": (told({"bounds.unit_box": True}), "unit_box"),
    "no data": (told({"data": None}), "data must have"),
    "a shape of words": (told({"data.shape": ["a"]}), "data must have"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_strangers_folder_is_looked_through(exported: Path, tmp_path: Path, case: str) -> None:
    spoil, complaint = HOSTILE[case]
    folder = tmp_path / "strange"
    shutil.copytree(exported / "gaussian-s0-t0", folder)
    spoil(folder)
    preset = tmp_path / "strange.toml"
    preset.write_text(imported(folder).replace("seeds = [0, 1]", "seeds = [0]"))
    message = invoke("plan", preset, "--home", tmp_path / "home", code=2).stderr
    assert complaint in message and "Traceback" not in message
    assert len(message.splitlines()) == 1
