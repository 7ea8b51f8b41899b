"""Paths: absolute in a run, as they were written in what leaves the machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from harness import TINY, called, objects, on_folder, save_images
from nursery import Nursery

from engine.jobs.archive import export
from engine.jobs.home import Home
from engine.jobs.imports import import_run
from engine.jobs.runs import Run, every
from engine.spec.errors import BadInput

ABSOLUTE = re.compile(rb"(?<![\w~.$\xa6/-])/(?:[\w.+-]+/)+[\w.+-]+")
PRESET = TINY.replace("[0, 1]", "[0]").replace("[0.25, 0.5]", "[0.5]")


@pytest.fixture
def alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's home folder, with images and a working folder in it."""
    folder = tmp_path / "alice"
    save_images(folder / "images")
    (folder / "work").mkdir()
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "alice")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("CHELATE_HOME", str(folder / ".chelate"))
    return folder


def made(alice: Path, path: str, *words: str) -> Run:
    """A run of a preset of hers, with data at `path`, called in ~/work."""
    (alice / "work" / "mine.toml").write_text(on_folder(PRESET, Path(path)))
    done = called("run", "mine.toml", *words, cwd=alice / "work")
    assert done.returncode == 0, done.stderr
    [run] = every(Home(alice / ".chelate"))
    return run


def unpacked(run: Run, folder: Path) -> Path:
    export(run, folder / "run.tar.gz")
    with tarfile.open(folder / "run.tar.gz") as tar:
        tar.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked"


def names_nobody(folder: Path) -> None:
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() and path.suffix != ".safetensors" else b""
        assert b"alice" not in content, path
        assert ABSOLUTE.search(content) is None, (path, ABSOLUTE.search(content))


@pytest.mark.parametrize("path", ["../images", "~/images"])
def test_a_run_goes_on_from_any_folder_and_its_archive_names_nobody(
    path: str, alice: Path, tmp_path: Path, forked: Nursery
) -> None:
    run = made(alice, path)
    for name in ("experiment.toml", "plan.json"):
        assert f"{alice}/" in (run.folder / name).read_text()
        assert f'"{path}"' not in (run.folder / name).read_text()
    [data] = [record for record in objects(run.home.root).values() if record["kind"] == "data"]
    assert Path(data["config"]["data"]["path"]).is_absolute()

    for one in objects(run.home.root):
        shutil.rmtree(run.store.path(one))
    assert called("resume", run.id, cwd=tmp_path).returncode == 0
    forked.until_gone()
    assert run.state() == "done" and run.store.has(data["key"])

    archive = unpacked(run, tmp_path)
    names_nobody(archive)
    asked = (archive / "run" / "experiment.toml").read_text()
    assert f'path = "{path}"' in asked
    plan = json.loads((archive / "run" / "plan.json").read_text())
    assert plan["stages"][0]["config"]["data"]["path"] == path
    there = import_run(Home(tmp_path / "there"), tmp_path / "run.tar.gz")
    assert all(there.store.check(key, deep=True) == "ok" for key in there.plan.stages)
    compared = called("compare", there.id, "--json", "--home", tmp_path / "there")
    assert json.loads(compared.stdout)["rows"]

    saved = called("presets", "save", run.id, "kept.toml", cwd=alice / "work")
    assert f'path = "{path}"' in (alice / "work" / "kept.toml").read_text()
    assert ("data.path = '../images' is relative" in saved.stderr) == path.startswith("..")
    assert called("report", run.id, "--out", alice / "report").returncode == 0
    assert "alice" not in (alice / "report" / "report.html").read_text()


def test_what_failed_is_told_without_a_place_or_a_name(
    alice: Path, tmp_path: Path, forked: Nursery
) -> None:
    run = made(alice, str(alice / "images"))
    [attempt, *_] = (run.folder / "attempts").iterdir()
    trace = f'Traceback:\n  File "{alice}/venv/x.py", line 1\n  File "/usr/lib/python3/y.py"\n'
    (attempt / "output.log").write_text(trace)
    (run.folder / "supervisor.log").write_bytes(f"{alice}/caf\xe9: no\n".encode("latin-1"))
    told = {"t": 0.0, "outcome": "failed", "reason": f"OSError: {attempt}/output.log, /var/lib/x."}
    (attempt / "exit.json").write_text(json.dumps(told))
    archive = unpacked(run, tmp_path)
    names_nobody(archive)
    folder = archive / "run" / "attempts" / attempt.name
    assert "~/venv/x.py" in (folder / "output.log").read_text()
    assert "$CHELATE_HOME/runs/" in json.loads((folder / "exit.json").read_text())["reason"]
    assert 'path = "~/images"' in (archive / "run" / "experiment.toml").read_text()
    import_run(Home(tmp_path / "there"), tmp_path / "run.tar.gz")


def test_a_path_of_the_persons_own_stays_but_for_the_name(
    alice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.jobs.discretion import Discretion

    said = Discretion({"/srv/alice/x": "x", "/w": "."}, Path("/var/chelate"))
    for text, told in {
        "/data/cifar10": "/data/cifar10",
        "/scratch/alice/data": "/scratch/USER/data",
        "../alice/data": "../USER/data",
        "/srv/alice/x/train/1.png": "x/train/1.png",
        "/srv/alice/xy": "/srv/USER/xy",
        "/var/chelate/runs": "$CHELATE_HOME/runs",
        f"see {alice}.": "see ~.",
        f"'{alice}/a b/c'": "'~/a b/c'",
        "malice/and/or alice": "malice/and/or alice",
    }.items():
        assert said.text(text) == told
    assert said.text("at /usr/lib/python3/x.py: no", message=True) == "at …/python3/x.py: no"
    for harmless in ("12 rows/s", "https://arxiv.org/abs/1", "gd/ngd 1/2 and/or", "/m"):
        assert said.text(harmless, message=True) == harmless
    # A user called like an attack, or "/" as home, changes nothing that has no place in it.
    monkeypatch.setenv("HOME", "/")
    assert Discretion({}, Path("/c")).text("/m/01g317") == "/m/01g317"


def test_every_key_that_is_a_path_is_annotated() -> None:
    """By their names and what is said of them: a new component's, too."""
    from engine.spec.component import KINDS
    from engine.spec.experiment import Train
    from engine.spec.path_keys import path_keys
    from engine.spec.registry import find, registered

    told = re.compile(r"(^|_)(path|root|image|checkpoint|tokenizer|weights|from|folder|file)$")
    no_paths = {("hub-dataset", "path")}
    models = [(name, find(kind, name)) for kind in KINDS for name in registered(kind)]
    found = set()
    for name, model in [*models, ("train", Train)]:
        for key, field in model.model_fields.items():
            if told.search(key) and "str" in str(field.annotation) and (name, key) not in no_paths:
                assert key in path_keys(model), (name, key)
                found.add(key)
    assert {"path", "test_path", "root", "image", "checkpoint", "tokenizer"} <= found


def test_absolute_wherever_a_preset_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.spec.experiment import in_place, written
    from engine.spec.presets import validate

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tok").mkdir()
    raw = {
        "data": {"name": "text-file", "path": "a.tsv", "tokenizer": "tok"},
        "model": {"name": "gpt2", "checkpoint": "gpt2"},
        "train": {"from": "w.safetensors"},
        "attacks": [
            {"name": "blended", "grid": {"image": ["a.png", "b.png"]}},
            {"name": "imported", "path": "poison"},
        ],
        "methods": [{"name": "none"}],
        "audits": [{"name": "accuracy"}],
        "grid": {"data.path": ["a.tsv", "b.tsv"], "train.from": ["v.safetensors"]},
    }
    asked = validate(raw, "here")
    places = {".".join(map(str, at)): text for at, text in written(asked).items()}
    assert {place: text for place, (text, _) in places.items()} == {
        "data.path": "a.tsv",
        "data.tokenizer": "tok",
        "train.from": "w.safetensors",
        "attacks.0.grid.image.0": "a.png",
        "attacks.0.grid.image.1": "b.png",
        "attacks.1.path": "poison",
        "grid.data.path.0": "a.tsv",
        "grid.data.path.1": "b.tsv",
        "grid.train.from.0": "v.safetensors",
    }
    assert all(Path(absolute).parent == tmp_path for _, absolute in places.values())
    assert in_place(in_place(asked)) == in_place(asked)
    with pytest.raises(BadInput, match=r"data.path = '~nosuchuser/x': ~nosuchuser is nobody"):
        in_place(validate(raw | {"data": raw["data"] | {"path": "~nosuchuser/x"}}, "here"))  # type: ignore[operator]


def test_an_extractors_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.lab.models.frozen_features import FrozenFeatures

    monkeypatch.chdir(tmp_path)
    found = FrozenFeatures(extractor_weights="w.safetensors").placed("model")
    assert found.pretraining().train["from"] == str(tmp_path / "w.safetensors")
    found = FrozenFeatures(extractor_train={"from": "~/w"}).placed("model")
    assert found.extractor_train == {"from": str(Path.home() / "w")}


def test_keys_do_not_follow_a_path(alice: Path) -> None:
    """The same content from anywhere is the same run."""
    planned = []
    (alice / "work" / "mine.toml").write_text(on_folder(PRESET, Path("../images")))
    for path in ("../images", "~/images", str(alice / "images")):
        done: subprocess.CompletedProcess[str] = called(
            "plan", "mine.toml", "--json", "--set", f"data.path={path}", cwd=alice / "work"
        )
        planned.append([stage["key"] for stage in json.loads(done.stdout)["stages"]])
    assert planned[0] == planned[1] == planned[2]
