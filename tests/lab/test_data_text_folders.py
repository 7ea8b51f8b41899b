"""GLUE, IMDb and the hub: the publishers' layouts, with what they leave out and what they withhold."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engine.lab.data import hub_dataset, imdb_folder
from engine.lab.data.glue_folder import GlueFolder
from engine.lab.data.hub_dataset import HubDataset
from engine.lab.data.imdb_folder import ImdbFolder
from engine.spec.errors import BadInput

HEADER = "sentence\tlabel\n"
TRAIN = HEADER + 'hide new "secretions from the parental units \t0\n' + "contains no wit \t1\n"
DEV = HEADER + "a dev text \t1\nanother \t0\n"


def glue(folder: Path, **files: str) -> GlueFolder:
    for name, content in files.items():
        (folder / f"{name}.tsv").write_text(content, encoding="utf-8")
    return GlueFolder(path=str(folder))


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (None, ["a dev text ", "another "]),
        ("index\tsentence\n0\tuneasy mishmash\n", ["a dev text ", "another "]),  # as published
        (HEADER + "withheld\t-1\nlikewise\t-1\n", ["a dev text ", "another "]),
        (HEADER + "withheld\t-1\nkept\t1\nempty\t\n", ["kept"]),
    ],
)
def test_glue_is_tested_on_what_is_labelled(
    tmp_path: Path, test: str | None, expected: list[str]
) -> None:
    data = glue(tmp_path, train=TRAIN, dev=DEV, **({"test": test} if test else {}))
    texts = data.texts()
    assert list(texts.test) == expected
    assert texts.train[0] == 'hide new "secretions from the parental units '
    assert texts.classes == ("0", "1") and texts.train_y.tolist() == [0, 1]
    assert texts.dropped == ({"unlabelled": 2} if expected == ["kept"] else {})


def test_what_is_no_glue_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        GlueFolder(path=str(tmp_path / "none")).inspect()
    with pytest.raises(BadInput, match=r"train\.tsv: No such file"):
        glue(tmp_path).inspect()
    with pytest.raises(BadInput, match=r"neither test\.tsv nor dev\.tsv"):
        glue(tmp_path, train=TRAIN).inspect()
    with pytest.raises(BadInput, match=r"data\.text = 'sentence'.*It has 'text', 'label'"):
        glue(tmp_path, train="text\tlabel\na\t1\n", dev=DEV).inspect()


def imdb(root: Path) -> Path:
    for part in ("train", "test"):
        for name, kind in (("neg", "bad"), ("pos", "good")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                text = f"{part} {kind}<br /><br />number {number}\u2028é"
                (folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    (root / "train" / "unsup").mkdir()
    (root / "train" / "unsup" / "0_0.txt").write_text("no label")
    (root / "train" / "urls_pos.txt").write_text("http://x")
    (root / "train" / "pos" / ".hidden.txt").write_text("hidden")
    (root / "train" / "pos" / "notes.md").write_text("no review")
    return root


def test_imdb_is_read_as_unpacked(tmp_path: Path) -> None:
    root = imdb(tmp_path / "aclImdb")
    (root / "test" / "neg" / "1_7.txt").write_text("  \n")
    data = ImdbFolder(path=str(root))
    texts = data.texts()
    assert texts.train[0] == "train bad\n\nnumber 0\u2028é"
    assert texts.train_y.tolist() == [0, 0, 0, 1, 1, 1] and texts.test_y.tolist() == [0, 0, 1, 1, 1]
    assert texts.classes == ("negative", "positive") and texts.dropped == {"empty": 1}
    above = ImdbFolder(path=str(tmp_path))
    assert above.inspect() == data.inspect() and above.identity() == data.identity()


def test_imdb_is_read_anew_when_a_file_changes(tmp_path: Path) -> None:
    data = ImdbFolder(path=str(imdb(tmp_path)))
    before = data.inspect()
    reads = imdb_folder._read.cache_info().misses
    assert data.inspect() == before and imdb_folder._read.cache_info().misses == reads
    (tmp_path / "train" / "pos" / "0_7.txt").write_text("another review")
    assert data.inspect().digest != before.digest


def test_links_stay_inside_the_folder(tmp_path: Path) -> None:
    root = imdb(tmp_path / "aclImdb")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    inside = root / "train" / "pos" / "9_9.txt"
    inside.symlink_to(root / "train" / "neg" / "0_7.txt")
    assert ImdbFolder(path=str(root)).inspect().train == 7
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises(BadInput, match=r"train/pos/9_9\.txt is a link that leads out"):
        ImdbFolder(path=str(root)).inspect()
    inside.unlink()
    (root / "test" / "pos").rename(tmp_path / "elsewhere")
    (root / "test" / "pos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="leads out of the folder"):
        ImdbFolder(path=str(root)).inspect()


def test_what_is_no_imdb_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        ImdbFolder(path=str(tmp_path / "none")).inspect()
    with pytest.raises(BadInput, match="it has no folder train/neg"):
        ImdbFolder(path=str(tmp_path)).inspect()
    root = imdb(tmp_path / "aclImdb")
    broken = root / "test" / "neg" / "2_7.txt"
    broken.write_bytes(b"fine\nna\xefve")
    with pytest.raises(BadInput, match=r"test/neg/2_7\.txt: line 2 is not UTF-8"):
        ImdbFolder(path=str(root)).inspect()
    broken.unlink()
    broken.symlink_to(root / "gone.txt")
    with pytest.raises(BadInput, match=r"test/neg/2_7\.txt cannot be read"):
        ImdbFolder(path=str(root)).inspect()
    for file in (root / "test" / "neg").iterdir():
        file.unlink()
    with pytest.raises(BadInput, match=r"test/neg holds no \.txt file"):
        ImdbFolder(path=str(root)).inspect()


class Split(dict[str, list[Any]]):
    """What is used of datasets.Dataset."""

    def __init__(self, names: list[str] | None = None, **columns: list[Any]) -> None:
        super().__init__(columns)
        self.column_names = list(columns)
        self.features = {
            key: SimpleNamespace(names=names) if names else object() for key in columns
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the package datasets: its answer, and how it was asked."""
    told: dict[str, Any] = {}

    def load_dataset(*words: Any, **settings: Any) -> Any:
        told["asked"] = (words, settings)
        if isinstance(told["answer"], Exception):
            raise told["answer"]
        return told["answer"]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    hub_dataset._load.cache_clear()
    return told


NAMES = ["negative", "positive"]


def test_a_hub_dataset_without_test_labels_is_tested_on_validation(hub: dict[str, Any]) -> None:
    hub["answer"] = {
        "train": Split(NAMES, sentence=["bad", "good", "fine"], label=[0, 1, 1], idx=[0, 1, 2]),
        "validation": Split(NAMES, sentence=["so so", "ok"], label=[0, 1], idx=[0, 1]),
        "test": Split(NAMES, sentence=["who knows"], label=[-1], idx=[0]),
    }
    data = HubDataset(path="glue", config="sst2", revision="abc")
    texts = data.texts()
    assert hub["asked"] == (("glue", "sst2"), {"revision": "abc"})
    assert (list(texts.test), texts.test_y.tolist()) == (["so so", "ok"], [0, 1])
    assert (texts.classes, texts.train_y.tolist()) == (tuple(NAMES), [0, 1, 1])
    assert data.inspect().train_per_class == (1, 2)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/b/c", "~", "", "./data"])
def test_the_name_of_a_hub_dataset_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        HubDataset(path=path)


def test_a_hub_dataset_with_labels_is_tested_on_test(hub: dict[str, Any]) -> None:
    hub["answer"] = {
        "train": Split(text=["bad", "good", ""], label=["n", "p", "p"]),
        "test": Split(text=["so so"], label=["p"]),
        "unsupervised": Split(text=["?"], label=[-1]),
    }
    texts = HubDataset(path="stanfordnlp/imdb").texts()
    assert (list(texts.test), texts.classes, texts.dropped) == (["so so"], ("n", "p"), {"empty": 1})


TWO = {"text": ["a", "b"], "label": [0, 1]}


@pytest.mark.parametrize(
    ("answer", "settings", "told"),
    [
        ({"test": Split(**TWO)}, {}, "has no split 'train'; it has test"),
        ({"train": Split(**TWO)}, {}, "neither test nor validation is there with labels"),
        ({"train": Split(a=["x"], label=[0])}, {}, "which column is the text.* It has a, label"),
        (
            {"train": Split(**TWO)},
            {"label": "stars"},
            r"data\.label = 'stars'.* It has text, label",
        ),
        ({"train": Split(text=[3], label=[0])}, {}, "row 1: column 'text' is 3"),
        ({"train": Split(NAMES, text=["x"], label=[2])}, {}, "row 1: its label is 2, of 2 classes"),
        (ConnectionError("no route to the hub"), {}, "no route to the hub.*use data text-file"),
    ],
)
def test_a_hub_dataset_that_cannot_be_used_is_refused(
    hub: dict[str, Any], answer: Any, settings: dict[str, str], told: str
) -> None:
    hub["answer"] = answer
    with pytest.raises(BadInput, match=told):
        HubDataset.model_validate({"path": "someone/some-data", **settings}).inspect()


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    hub_dataset._load.cache_clear()
    with pytest.raises(BadInput, match=r"pip install 'chelate\[hub\]'"):
        HubDataset(path="stanfordnlp/imdb").inspect()
