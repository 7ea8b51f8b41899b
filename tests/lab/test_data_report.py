"""The report on a data set: counted by hand on a few rows, and by brute force on many."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.lab.stages import run_data
from engine.spec.data_report import report, warning
from tests.helpers import LocalContext


def rows(*values: int, shape: tuple[int, ...] = (1, 2, 2)) -> np.ndarray:
    return np.stack([np.full(shape, value, dtype=np.uint8) for value in values])


def arrays(train: str, test: str) -> dict[str, np.ndarray]:
    """ "3a" is image 3 with label 0, "3b" the same image with label 1."""
    found = {}
    for part, told in (("train", train), ("test", test)):
        pairs = told.split()
        found[f"{part}_x"] = rows(*(int(pair[:-1]) for pair in pairs))
        found[f"{part}_y"] = np.array([ord(pair[-1]) - ord("a") for pair in pairs])
    return found


def test_counts_by_hand() -> None:
    told = report(arrays("1a 2a 1a 3b 3a 3b 1b", "2a 3a 3a 9b"), classes=3)
    assert told["train"] == {
        "rows": 7, "per_class": [4, 3, 0], "duplicates": 4, "conflicting": 2
    }  # fmt: skip
    assert told["test"] == {"rows": 4, "per_class": [3, 1, 0], "duplicates": 1, "conflicting": 0}
    assert (told["overlap"], told["overlap_conflicting"]) == (3, 2)
    assert warning(told) == (
        "data: 3 of 4 test rows are in train (2 under another label); "
        "2 of 4 duplicates in train have another label than the first copy."
    )
    json.dumps(told)


def test_nothing_to_tell() -> None:
    told = report(arrays("1a 2b 2b", "3a 4b"), classes=2)
    assert told["train"]["duplicates"] == 1
    assert warning(told) is None, "duplicates under one label are only counted"


def test_the_same_bytes_in_another_shape_are_another_row() -> None:
    data = arrays("1a 2b", "5a 6b")
    data["test_x"] = rows(1, 2, shape=(1, 4, 1))
    assert report(data, classes=2)["overlap"] == 0


def test_agrees_with_brute_force() -> None:
    generator = np.random.Generator(np.random.Philox(1))
    data = {}
    for part, count in (("train", 300), ("test", 100)):
        # every second column: rows need not be contiguous
        data[f"{part}_x"] = generator.integers(0, 2, (count, 1, 2, 8), dtype=np.uint8)[..., ::2]
        data[f"{part}_y"] = generator.integers(0, 4, count)
    told = report(data, classes=4)
    flat = {
        part: data[f"{part}_x"].reshape(len(data[f"{part}_x"]), -1) for part in ("train", "test")
    }
    for part, images in flat.items():
        assert told[part]["duplicates"] == len(images) - len(np.unique(images, axis=0))
        assert told[part]["per_class"] == np.bincount(data[f"{part}_y"], minlength=4).tolist()
    equal = (flat["test"][:, None] == flat["train"][None]).all(axis=2)
    assert told["overlap"] == equal.any(axis=1).sum() > 0
    first = data["train_y"][equal.argmax(axis=1)]
    other = (first != data["test_y"]) & equal.any(axis=1)
    assert told["overlap_conflicting"] == other.sum() > 0


def test_the_data_stage_stores_the_report_and_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.lab.data.mnist5k import Mnist5k

    data = Mnist5k(limit_train=20, limit_test=10)
    read = Mnist5k.read

    def leaky(self: Mnist5k) -> dict[str, np.ndarray]:
        found = read(self)
        found["test_x"][0], found["test_y"][0] = found["train_x"][3], found["train_y"][3]
        return found

    info = data.inspect()
    config = {"data": data.model_dump(mode="json"), "digest": info.digest, "classes": info.classes}
    for change, warnings in ((read, []), (leaky, ["data: 1 of 10 test rows are in train."])):
        monkeypatch.setattr(Mnist5k, "read", change)
        ctx = LocalContext(tmp_path / change.__name__)
        run_data(config, ctx)
        told = json.loads((ctx.folder / "data.json").read_text())["report"]
        assert told["train"]["per_class"] == [2] * 10
        assert told["overlap"] == len(warnings)
        assert ctx.warnings == warnings
