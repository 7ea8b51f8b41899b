"""Which folders are classes: their order, what is left out, what is refused, what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.lab.data.image_folder import ImageFolder
from engine.lab.stages import run_data
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from tests.helpers import LocalContext

LITTER = (
    "__MACOSX", ".ipynb_checkpoints", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found",
    "System Volume Information",
)  # fmt: skip


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.lab.data.image_folder._memory_folder", lambda: tmp_path / "memory")


def image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), level, dtype=np.uint8)).save(path)


def folders(
    root: Path, train: Sequence[str], test: Sequence[str] | None = None, count: int = 2
) -> Path:
    """An image's level is 10 times its folder's place in `train`, and its number."""
    places = {name: place for place, name in enumerate([*train, *(test or [])][::-1])}
    for part, names in (("train", train), ("test", train if test is None else test)):
        for name in names:
            for number in range(count):
                image(root / part / name / f"{number}.png", (10 * places[name] + number) % 256)
    return root


def look(root: Path, **keys: Any) -> DataInfo:
    return ImageFolder(path=str(root), grey=True, **keys).inspect()


def read(info: DataInfo) -> str:
    return "; ".join(info.report["read"])


def refused(root: Path, *told: str, **keys: Any) -> None:
    """Looking and reading alike."""
    data = ImageFolder(path=str(root), grey=True, **keys)
    for ask in (data.inspect, data.read):
        with pytest.raises(BadInput) as error:
            ask()
        for words in told:
            assert words in str(error.value)


# --- order ---------------------------------------------------------------------------------------


def test_folders_that_are_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", [str(number) for number in range(12)])
    info = look(root)
    assert info.classes == tuple(str(number) for number in range(12))
    assert read(info) == "classes in numeric order of their folders: " + ", ".join(info.classes)
    arrays = ImageFolder(path=str(root), grey=True).read()
    assert arrays["train_y"].tolist() == [n for n in range(12) for _ in range(2)]
    levels = arrays["train_x"][:, 0, 0, 0].tolist()
    assert levels == [10 * (11 - n) + k for n in range(12) for k in range(2)], "rows of 2 are 2's"


def test_indices_that_are_not_the_folders_names_are_told(tmp_path: Path) -> None:
    info = look(folders(tmp_path / "a", [str(number) for number in range(1, 31)]))
    assert info.classes[9:11] == ("10", "11")
    told = read(info)
    assert "numeric order of their folders: 1, 2, 3," in told and "…, 30" in told
    assert "(class '1' has index 0)" in told and len(told) < 200


@pytest.mark.parametrize(
    "names", [("cat", "dog", "eel"), ("Zebra", "ant", "élan"), ("0", "1", "9"), ("a b", "a-b")]
)
def test_folders_that_are_no_numbers_are_where_they_were(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    info = look(folders(tmp_path / "a", names))
    assert info.classes == tuple(sorted(names))
    assert ("order" in read(info)) == names[0].isdecimal()


def test_words_come_behind_numbers(tmp_path: Path) -> None:
    info = look(folders(tmp_path / "a", ["10", "2", "other", "-1"]))
    assert info.classes == ("-1", "2", "10", "other")
    assert "numbers by value, then words: -1, 2, 10, other" in read(info)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.sets(st.integers(-99, 10**6), min_size=2, max_size=8))
def test_any_numbers_are_sorted_by_value(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int]
) -> None:
    root = folders(tmp_path_factory.mktemp("numbers"), [str(n) for n in numbers], count=1)
    assert look(root).classes == tuple(str(number) for number in sorted(numbers))


# --- litter --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_no_class_and_is_said(tmp_path: Path, name: str) -> None:
    root = folders(tmp_path / "a", ["cat", "dog"])
    plain = look(root)
    assert plain.report["read"] == []
    image(root / "train" / name / "cat" / "0.png", 7)
    image(root / "test" / name / "0.png", 7)
    found = look(root)
    assert found == plain, "classes, rows and digest"
    assert read(found) == f"skipped, as no class: train/{name}, test/{name}"
    image(root / "train" / "cat" / name / "0.png", 7)
    assert look(root) == plain
    assert f"skipped in class folders: train/cat/{name}" in read(look(root))
    arrays = ImageFolder(path=str(root), grey=True).read()
    assert len(arrays["train_y"]) == plain.train


def test_what_lies_beside_train_and_test_is_said(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["cat", "dog"])
    plain = look(root)
    (root / "notes.txt").write_text("hello")
    for name in ("__MACOSX", "val"):
        image(root / name / "cat" / "0.png", 7)
    assert look(root) == plain
    assert read(look(root)) == "beside train and test, not read: __MACOSX, val"


def test_a_folder_too_high_is_told_where_the_data_are(tmp_path: Path) -> None:
    folders(tmp_path / "a" / "pictures", ["cat", "dog"])
    (tmp_path / "a" / "__MACOSX").mkdir()
    refused(tmp_path / "a", "no folder 'train'", "pictures' meant?")


# --- train and test ------------------------------------------------------------------------------


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    lacking = folders(tmp_path / "a", ["cat", "dog", "eel"], ["cat", "eel"])
    refused(
        lacking, "only train has 'dog'", "train has 3: 'cat', 'dog', 'eel'", "test has 2: 'cat', 'eel'",
        "empty folder in test",
    )  # fmt: skip
    refused(
        folders(tmp_path / "b", ["cat", "dog"], ["cat", "dog", "yak"]), "only test has 'yak'",
        "train has 2: 'cat', 'dog'", "test has 3",
    )  # fmt: skip
    refused(
        folders(tmp_path / "c", ["cat", "dog"], ["katze", "hund"]),
        "only train has 'cat', 'dog' and only test has 'hund', 'katze'",
    )
    (lacking / "test" / "dog").mkdir()
    found = look(lacking)
    assert found.report["test"] == {"rows": 4, "per_class": [2, 0, 2]}


def test_long_lists_are_cut_but_what_differs_is_named(tmp_path: Path) -> None:
    names = [f"c{number:03}" for number in range(120)]
    root = folders(tmp_path / "a", names, names[:-1], count=1)
    with pytest.raises(BadInput) as error:
        look(root)
    assert "only train has 'c119'" in str(error.value) and "test has 119" in str(error.value)
    assert len(str(error.value)) < 700


# --- one class, two spellings --------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["Cat", "cat ", "CAT", " cat", "cat."])
def test_near_twins_are_refused_with_the_key_that_joins_them(tmp_path: Path, twin: str) -> None:
    root = folders(tmp_path / "a", ["cat", twin, "dog"], ["cat", "dog"])
    refused(root, repr(twin), "train/cat", f"train/{twin}", "data.labels = {")
    info = look(root, labels={twin: "cat"})
    assert info.classes == ("cat", "dog") and info.train_per_class == (4, 2)
    assert "are one class" in read(info)
    arrays = ImageFolder(path=str(root), grey=True, labels={twin: "cat"}).read()
    levels = arrays["train_x"][arrays["train_y"] == 0][:, 0, 0, 0].tolist()
    assert len(set(levels)) == 4, "files of both"


def test_twins_across_train_and_test(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["Cat", "dog"], ["cat", "dog"])
    refused(root, "'Cat' (train/Cat)", "'cat' (test/cat)")
    assert look(root, labels={"Cat": "cat"}).classes == ("cat", "dog")
    refused(root, "only train has 'Cat'", labels={"Cat": "Cat", "cat": "cat"})


def test_twins_that_are_meant_stay_apart(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["Cat", "cat", "dog"])
    assert look(root, labels={"Cat": "Cat", "cat": "cat"}).classes == ("Cat", "cat", "dog")


def test_equal_numbers_are_one_class_and_it_is_said(tmp_path: Path) -> None:
    info = look(folders(tmp_path / "a", ["0", "0.0", "1"], ["0", "1.0"]))
    assert info.classes == ("0", "1") and info.train_per_class == (4, 2)
    assert "labels '0' and '0.0' are one class" in read(info)


def test_other_punctuation_is_another_class(tmp_path: Path) -> None:
    assert len(look(folders(tmp_path / "a", ["C", "C++", "C#", "+", "-"])).classes) == 5


def test_a_join_that_fits_no_folder(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["cat", "dog"])
    refused(root, "data.labels", "'Cat'", "Did you mean 'cat'?", labels={"Cat": "dog"})


# --- keys and report -----------------------------------------------------------------------------


def test_the_key_is_no_part_of_the_identity_until_it_says_something(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["a", "b", "c"])
    plain = ImageFolder(path=str(root))
    assert plain.identity() == {
        "name": "image-folder", "limit_train": None, "limit_test": None, "size": None,
        "grey": False,
    }  # fmt: skip
    one, other = ({"b": name} for name in ("a", "c"))
    left, right = look(root, labels=one), look(root, labels=other)
    assert left.classes == right.classes and left.train_per_class != right.train_per_class
    identities = [ImageFolder(path="x", labels=labels).identity() for labels in (one, other)]
    assert identities[0] != identities[1], "the same files in the same order, under other labels"


def test_the_report_is_filled_and_kept_by_the_stage(tmp_path: Path) -> None:
    import json

    from engine.spec.planned import Stage

    root = folders(tmp_path / "a", ["2", "10"], count=3)
    (root / "train" / "__MACOSX").mkdir()
    data = ImageFolder(path=str(root), limit_train=4)
    info = data.inspect()
    assert info.report == {
        "kind": "image",
        "classes": ["2", "10"],
        "train": {"rows": 4, "per_class": [2, 2]},
        "test": {"rows": 6, "per_class": [3, 3]},
        "read": [
            "classes in numeric order of their folders: 2, 10 (class '2' has index 0)",
            "skipped, as no class: train/__MACOSX",
        ],
    }
    config = {"data": data.model_dump(), "digest": info.digest, "classes": info.classes}
    context = LocalContext(tmp_path / "stage", Stage("k", "data", "data", config, {}))
    run_data(config, context)
    told = json.loads((context.folder / "data.json").read_text())["report"]
    assert told["read"] == info.report["read"] and told["train"]["per_class"] == [2, 2]
    assert told["train"]["duplicates"] == 0


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "a", ["cat", "dog"])
    try:
        image(root / "train" / "c\udcfft" / "0.png", 3)
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system takes UTF-8 alone")
    refused(root, "not UTF-8")
