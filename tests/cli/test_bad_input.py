"""What cannot be used: exit code 2, one message that names it, nothing written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from harness import TINY, chelate, on_folder, save_images
from typer.testing import CliRunner

from console.cli import app


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, *told: str) -> str:
    """The one message of a command that was refused; it must hold all words of `told`."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("chelate: ")
    assert "Traceback" not in result.stderr
    assert "pydantic" not in result.stderr
    for word in told:
        assert word in result.stderr
    return result.stderr


def refused_run(home: Path, preset: str | Path, *words: str | Path, told: tuple[str, ...]) -> str:
    """`run` of something bad. `plan` and `validate` must say the same, without a home either."""
    message = refused(invoke("run", preset, "--home", home, *words), *told)
    assert len(message.splitlines()) == 1
    assert not home.exists()
    assert refused(invoke("plan", preset, "--home", home, *words)) == message
    assert not home.exists()
    return message


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


# --- files ---------------------------------------------------------------------------------------


def test_a_missing_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "nothing.toml"
    refused_run(home, path, told=(str(path), "does not exist"))


def test_a_folder_instead_of_a_file(home: Path, tmp_path: Path) -> None:
    refused_run(home, tmp_path, told=(str(tmp_path), "is a folder"))


def test_an_unknown_shipped_name(home: Path) -> None:
    refused_run(home, "quickstrat", told=("'quickstrat'", "Did you mean 'quickstart'?"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = [0]\nbudgets = = 3\n", "line 2, column 11"),
        ("seeds = [0,", "at end of document"),
        ("seeds = [0]\nseeds = [1]\n", "line 2"),
    ],
)
def test_broken_toml(home: Path, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    refused_run(home, path, told=(str(path), "not valid TOML", told))


def test_bytes_that_are_no_text(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"title = '\xff\xfe'")
    refused_run(home, path, told=(str(path), "UTF-8"))


@pytest.mark.parametrize("text", ["", "title = 'nothing else'"])
def test_a_file_that_says_too_little(home: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.toml"
    path.write_text(text)
    message = refused(invoke("run", path, "--home", home))
    for field in ("data", "model", "attacks", "methods", "audits"):
        assert f"{path}: {field} is missing." in message
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(home: Path, tiny: Path) -> None:
    tiny.chmod(0)
    refused_run(home, tiny, told=(str(tiny), "cannot be read"))


@pytest.mark.parametrize("name", ["../quickstart", "presets/../../quickstart", "..", "a/../b"])
def test_a_name_that_climbs_is_a_path_and_finds_no_preset(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    refused_run(home, name, told=(name,))
    assert refused(invoke("presets", "show", name), name)


@pytest.mark.parametrize("run", ["../runs", "..", "/etc", "a/b", ".hidden", ""])
def test_a_run_id_that_climbs(shared: object, run: str) -> None:
    place = shared.home  # type: ignore[attr-defined]
    for words in (["runs", "show", run], ["compare", run], ["watch", run]):
        refused(invoke(*words, "--home", place), "run")


# --- keys and values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        # unknown keys, with the nearest right one
        ("train.epoch=5", ("train.epoch", "unknown key 'epoch'", "Did you mean 'epochs'?")),
        ("sed=[1]", ("unknown key 'sed'", "Did you mean 'seeds'?")),
        ("methods.gd.batchsize=1", ("methods[3].batchsize", "Did you mean 'batch_size'?")),
        ("attacks.gaussian.noise=1", ("attacks[0].noise", "Did you mean 'noise_std'?")),
        ("data.limit=5", ("data.limit", "limit_train")),
        ("methods.gd.grid.rate=[1]", ("methods[3].grid", "'rate'", "lr")),
        # wrong types
        ("train.epochs='5'", ("train.epochs = '5'", "integer")),
        ("train.epochs=true", ("train.epochs = True", "integer")),
        ("train.epochs=2.5", ("train.epochs = 2.5", "integer")),
        ("train.lr=fast", ("train.lr = 'fast'", "number")),
        ("train.lr=nan", ("train.lr = nan", "finite")),
        ("train.lr=inf", ("train.lr = inf", "finite")),
        ("train.schedule=linear", ("train.schedule = 'linear'", "'cosine'")),
        ("train=3", ("train = 3", "table")),
        ("seeds=3", ("seeds = 3", "list")),
        ("methods=gd", ("methods", "list of tables")),
        ("methods.0=gd", ("methods[0]", "table")),
        ("data=mnist5k", ("data", "table")),
        # unknown components, with the list
        ("methods.gd.name=gx", ("methods[3].name", "unknown method 'gx'", "Known: ", " ngd")),
        ("attacks.0.name=gausian", ("attacks[0].name", "Did you mean 'gaussian'?", "Known: ")),
        ("model.name=mpl", ("model.name", "unknown model 'mpl'", "linear", "mlp")),
        ("data.name=mnist5", ("data.name", "unknown data 'mnist5'", "image-folder", "mnist5k")),
        ("audits.0.name=acc", ("audits[0].name", "unknown audit 'acc'", "accuracy")),
        # budgets, shares, seeds
        ("budgets=[0]", ("budgets[0] = 0", "greater than 0")),
        ("budgets=[-0.1]", ("budgets[0] = -0.1", "greater than 0")),
        ("budgets=[0.1, 1.01]", ("budgets[1] = 1.01", "less than or equal to 1")),
        ("budgets=[4]", ("budgets[0] = 4", "less than or equal to 1")),  # a percent
        ("budgets=[0.1, 0.1]", ("budgets", "twice")),
        ("budgets=[]", ("budgets is empty",)),
        ("attacks.0.share=0.0001", ("attacks.gaussian.share = 0.0001", "poisons none of 270")),
        ("attacks.0.share=0", ("attacks[0].share = 0", "greater than 0")),
        ("attacks.0.share=5", ("attacks[0].share = 5", "less than 1")),
        ("attacks.0.share=0.999", ("attacks.gaussian.share = 0.999", "no row to retain")),
        ("seeds=[]", ("seeds", "at least 1 value")),
        ("seeds=[-1]", ("seeds[0] = -1", "greater than or equal to 0")),
        ("seeds=[1, 1]", ("seeds", "twice")),
        ("methods=[]", ("methods", "at least 1 value")),
        ("compute.device=gpu", ("compute.device = 'gpu'", "auto, cpu, cuda")),
        ("compute.threads=0", ("compute.threads = 0", "greater than or equal to 1")),
        # overrides that lead nowhere
        ("train.epochs", ("--set train.epochs", "KEY=VALUE")),
        ("methods.dg.lr=1", ("--set methods.dg.lr=1", "'dg'", "gd")),
        ("methods.9.lr=1", ("--set methods.9.lr=1", "'9'")),
        ("title.x=1", ("--set title.x=1", "title is a value")),
    ],
)  # fmt: skip
def test_a_bad_key_or_value(
    home: Path, tmp_path: Path, assignment: str, told: tuple[str, ...]
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(TINY)
    where = () if "--set" in told[0] else ("mine.toml",)
    message = refused_run(home, preset, "--set", assignment, told=(*told, *where))
    assert refused(invoke("presets", "validate", preset, "--set", assignment)) == message


@pytest.mark.parametrize("seeds", ["", "a", "0,", "1.5", "0 1", "-1", "0,0", str(2**31)])
def test_bad_seeds(home: Path, tiny: Path, seeds: str) -> None:
    refused_run(home, tiny, "--seeds", seeds, told=("seeds",))


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:0,1"])
def test_a_gpu_where_there_is_none(
    home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refused_run(home, tiny, "--device", device, told=(repr(device), "no usable NVIDIA GPU"))
    words = ("--set", f"compute.device={device}")
    refused_run(home, tiny, *words, told=(repr(device), "no usable NVIDIA GPU"))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "cpu:0", "", "cuda:0;rm"])
def test_a_device_that_is_none(home: Path, tiny: Path, device: str) -> None:
    if device:  # an empty word is as good as none given, which would run
        refused_run(home, tiny, "--device", device, told=(f"compute.device = {device!r}",))


# --- data folders --------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """train/{cat,dog} with six images each, test/{cat,dog} with three."""
    return save_images(tmp_path / "images")


def folder_preset(tmp_path: Path, images: Path) -> Path:
    path = tmp_path / "folder.toml"
    path.write_text(on_folder(TINY, images))
    return path


def test_the_image_folder_itself_is_fine(tmp_path: Path, images: Path) -> None:
    result = invoke("presets", "validate", folder_preset(tmp_path, images))
    assert result.exit_code == 0, result.output


def remove(path: Path) -> None:
    shutil.rmtree(path)


def truncate(path: Path) -> None:
    """Leave the header, which tells size and kind, and not all of the pixels."""
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda images: remove(images), ("data.path = ", "no such folder")),
        (lambda images: empty(images), ("data.path = ", "no folder 'train'")),
        (lambda images: remove(images / "test"), ("no folder 'test'",)),
        (lambda images: empty(images / "train"), ("train", "at least two classes", "none")),
        (lambda images: remove(images / "train" / "dog"), ("at least two classes", "only 'cat'")),
        (lambda images: empty(images / "train" / "dog"), ("dog is empty",)),
        (lambda images: empty(images / "test"), ("test", "no images")),
        (lambda images: (images / "test" / "cow").mkdir(), ("test", "cow")),
        (
            lambda images: (images / "train" / "cat" / "3.png").write_text("not an image"),
            ("3.png", "not an image"),
        ),
        (lambda images: (images / "train" / "cat" / "3.png").write_bytes(b""), ("3.png",)),
        (lambda images: (images / "test" / "dog" / "notes.txt").write_text("hi"), ("notes.txt",)),
        (lambda images: truncate(images / "train" / "cat" / "3.png"), ("3.png", "truncated")),
        (lambda images: (images / "train" / "cat" / "deeper").mkdir(), ("deeper", "is a folder")),
        (
            lambda images: (images / "train" / "cat" / "gone.png").symlink_to("/no/such/file"),
            ("gone.png", "cannot be read"),
        ),
    ],
)
def test_a_data_folder_that_is_no_data_set(
    home: Path, tmp_path: Path, images: Path, spoil: object, told: tuple[str, ...]
) -> None:
    preset = folder_preset(tmp_path, images)
    spoil(images)  # type: ignore[operator]
    refused_run(home, preset, told=(str(preset), *told))


def test_a_file_instead_of_a_data_folder(home: Path, tmp_path: Path, tiny: Path) -> None:
    refused_run(home, folder_preset(tmp_path, tiny), told=("data.path = ", "no such folder"))


# --- the home ------------------------------------------------------------------------------------


def test_a_file_where_the_home_should_be(tmp_path: Path, tiny: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    for home in (place, place / "below"):
        refused(invoke("run", tiny, "--home", home), str(home), "--home or CHELATE_HOME")
    assert place.read_text() == "mine"


def test_a_home_that_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/chelate")  # not even root may
    else:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        place = closed / "home"
    refused(invoke("run", tiny, "--home", place), str(place), "cannot use")
    assert not place.exists()


def test_a_home_named_by_the_environment_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHELATE_HOME", "/proc/chelate")
    refused(invoke("run", tiny), "/proc/chelate")


# --- other commands ------------------------------------------------------------------------------


def test_unknown_names_of_other_commands(shared: object) -> None:
    home = ("--home", shared.home)  # type: ignore[attr-defined]
    refused(invoke("methods", "gx"), "unknown method 'gx'", "gd")
    refused(invoke("attacks", "gausian"), "Did you mean 'gaussian'?")
    refused(invoke("audits", "x"), "accuracy")
    refused(invoke("explain", "mean_scor"), "Did you mean 'mean_score'?")
    refused(invoke("runs", "show", "tinny", *home), "unknown run", "tiny-")
    refused(invoke("compare", "tinny", *home), "unknown run")
    refused(invoke("watch", "tinny", *home), "unknown run")
    refused(invoke("compare", "tiny", "--json", "--csv", *home), "--json, --csv")
    refused(invoke("presets", "show", "quickstrat"), "'quickstart'")


def test_no_runs_yet(home: Path) -> None:
    for words in (["runs", "show", "x"], ["compare", "x"], ["watch", "x"]):
        refused(invoke(*words, "--home", home), str(home))
    assert not home.exists()


def test_the_real_command_ends_the_same_way(home: Path, tiny: Path) -> None:
    done = chelate("run", tiny, "--home", home, "--json", "--set", "train.epoch=5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"chelate: {tiny}: train.epoch: unknown key")
    assert len(done.stderr.splitlines()) == 1
    assert not home.exists()
