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
from harness import TINY, Computed, run_json
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from console.cli import app
from engine.spec.poisons import MANIFEST, TENSORS, read_poison

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


def test_what_was_exported_gives_the_same_results(
    shared: Computed, exported: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "again.toml"
    preset.write_text(imported(exported))
    rows = run_json(preset, tmp_path / "home")["rows"]
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
    assert "exists already" in invoke(*words, "--out", out, code=2).stderr
    assert ".png" in invoke(*words, "--out", tmp_path / "sheet.pkl", code=2).stderr
    assert "gaussian seed 0" in invoke(*words, "--seed", "7", code=2).stderr


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
    "added rows": (tensor("rows", lambda a: a + 300), "added rows"),
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
