"""Public data files in the shapes that people have them: from the file to a plan in one command, or
by one refusal whose remedies give the plan; and what is read is what stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine.lab.data.csv_table import CSVTable
from engine.lab.data.imdb_folder import ImdbFolder
from engine.lab.data.text_file import TextFile
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from tests.cli.harness import called
from tests.helpers import small_experiment
from tests.lab import public_shapes as shapes
from tests.lab.table_meaning import applied, remedies

Keys = dict[str, Any]
OF_TEXTS: Keys = {
    "model": {"name": "gpt2"},
    "attacks": [{"name": "text-trigger", "share": 0.1, "target": 1}],
    "audits": [{"name": "accuracy"}],
}


class Walk(NamedTuple):
    """From a file to a plan: what was refused on the way, and the keys that it ended with."""

    refused: list[str]
    keys: Keys
    info: DataInfo


def walk(keys: Keys, by_hand: Callable[[str, Keys], Keys | None] = lambda told, keys: None) -> Walk:
    """Does what each refusal says: `by_hand` where it gives no key as TOML, or another is wanted."""
    refused: list[str] = []
    while True:
        text = keys["name"] != "csv-table"
        try:
            experiment = small_experiment(data=keys, **(OF_TEXTS if text else {}))
            make_plan(experiment, "cpu")
        except BadInput as error:
            refused.append(str(error))
            assert len(refused) < 6, refused
            own = by_hand(refused[-1], keys)
            keys = own if own is not None else literally(refused[-1], keys)
            continue
        return Walk(refused, keys, experiment.data.inspect())


def literally(told: str, keys: Keys) -> Keys:
    """The first key of every line; but gaps are filled, for there are many."""
    for line in told.split("\n"):
        found = remedies(line)
        assert found, line
        key, value = next((k for k in found if k[0] == "impute"), found[0])
        keys = applied(keys, key, value)
    return keys


def kinds(info: DataInfo) -> dict[str, tuple[str, int]]:
    """Each column's kind and gaps, as the report tells them."""
    assert info.report is not None
    return {c["name"]: (c["kind"], c["gaps"]) for c in info.report["columns"]}


def numeric(*names: str) -> dict[str, tuple[str, int]]:
    return dict.fromkeys(names, ("numeric", 0))


def table(keys: Keys) -> CSVTable:
    return CSVTable.model_validate(keys)


def describe_spam(told: str, keys: Keys) -> Keys | None:
    """What a person knows of it, as far as the refusal asks."""
    known = {"encoding": "latin-1", "text": "v2", "label": "v1"}
    return keys | {key: value for key, value in known.items() if f"data.{key}" in told}


def test_adult(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.adult(tmp_path)})
    assert done.info.classes == ("<=50K", ">50K")
    assert (done.info.train, done.info.test) == (60, 30)
    assert done.info.train_per_class == (45, 15)
    assert kinds(done.info)["0"] == ("numeric", 0)
    assert kinds(done.info)["1"] == kinds(done.info)["6"] == ("categorical", 9)  # 6 + 3
    first = (tmp_path / "adult.data").read_text().partition("\n")[0].split(", ")
    read = table(done.keys)._table()
    for place in (0, 2, 4, 10, 11, 12):
        assert read.values[0, read.names.index(str(place))] == float(first[place])


def test_wine_quality(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.wine_quality(tmp_path)})
    assert not done.refused
    assert kinds(done.info) == numeric("fixed acidity", "volatile acidity", "pH", "alcohol")
    assert done.info.classes == ("5", "6", "7") and done.info.train + done.info.test == 60
    alcohol = table(done.keys)._table().values[:, 3]
    assert set(alcohol) <= {9.4, 9.8, 10.0, 10.0333333333333}


def test_iris(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.iris(tmp_path)})
    assert not done.refused
    assert kinds(done.info) == numeric("0", "1", "2", "3")
    assert done.info.classes == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    assert (done.info.train, done.info.test) == (24, 6)


def test_breast_cancer_wisconsin(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.breast_cancer(tmp_path)})
    assert len(done.refused) == 1 and "line 13, column '6'" in done.refused[0]
    assert kinds(done.info)["6"] == ("numeric", 4) and done.info.classes == ("2", "4")
    assert done.info.shape == (7, 1, 1) and done.info.train + done.info.test == 52


def test_titanic(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.titanic(tmp_path)})
    assert set(done.keys["drop"]) == {"PassengerId", "Name", "Ticket"}
    assert kinds(done.info) == numeric("Pclass", "SibSp", "Parch", "Fare") | {
        "Sex": ("categorical", 0), "Age": ("numeric", 20), "Cabin": ("categorical", 90),
        "Embarked": ("categorical", 1),
    }  # fmt: skip
    assert done.info.classes == ("0", "1") and done.info.train + done.info.test == 120


def test_a_frame_of_pandas_with_its_index(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.pandas_csv(tmp_path)})
    assert len(done.refused) == 1 and done.keys["drop"] == [0]
    assert kinds(done.info) == {"x": ("numeric", 0), "member": ("categorical", 0)}
    assert table(done.keys)._table().names == ["x", "member=False", "member=True"]


def test_house_prices(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.house_prices(tmp_path)})
    assert done.keys["drop"] == ["Id"] and done.keys["impute"] == "mean"
    assert kinds(done.info) == {
        "MSSubClass": ("numeric", 0), "LotFrontage": ("numeric", 9),
        "Street": ("categorical", 0), "Alley": ("categorical", 30),
    }  # fmt: skip
    assert done.info.classes == ("high", "low")


def test_a_german_spreadsheet(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.german(tmp_path)})
    assert not done.refused and done.info.classes == ("ja", "nein")
    read = table(done.keys)._table()
    assert read.names == ["Umsatz", "Stück", "Stadt=Düsseldorf", "Stadt=Köln"]
    assert set(read.values[:, 0]) == {1234.56, 12.5, 999.0, 10000.0}
    assert set(read.values[:, 1]) == {1250.0, 875.0, 12000.0}


def test_the_unicode_text_of_a_french_excel(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.unicode_text(tmp_path)})
    assert not done.refused and done.info.classes == ("0", "1")
    read = table(done.keys)._table()
    assert read.names == ["Prix", "Saison=hiver", "Saison=été"]
    assert set(read.values[:, 0]) == {1234.5, 0.25, 17.0}


def test_covtype(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.covtype(tmp_path)})
    assert not done.refused and kinds(done.info) == numeric(*"01234")
    assert done.info.classes == tuple("1234567") and done.info.train == 56


def test_json_lines_of_pandas(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.frames(tmp_path, "lines")})
    assert len(done.refused) == 1 and "line 11, column 'x'" in done.refused[0]
    assert kinds(done.info) == {"x": ("numeric", 4), "city": ("categorical", 0)}
    assert done.info.classes == ("false", "true") and done.info.train + done.info.test == 44


def test_parquet_of_pandas(tmp_path: Path) -> None:
    done = walk({"name": "csv-table", **shapes.frames(tmp_path, "parquet")})
    assert kinds(done.info) == {"x": ("numeric", 4), "city": ("categorical", 0)}
    assert done.info.classes == ("false", "true") and done.info.train + done.info.test == 44


def test_the_files_of_sst2(tmp_path: Path) -> None:
    done = walk({"name": "text-file", **shapes.sst2(tmp_path)})
    assert not done.refused and done.info.classes == ("0", "1")
    texts = TextFile.model_validate(done.keys).texts()
    assert (len(texts.train), len(texts.test)) == (60, 20)
    assert texts.train[3] == 'it \'s " not " a film , train ' and texts.train_y[3] == 1


def test_the_folders_of_imdb(tmp_path: Path) -> None:
    done = walk(shapes.imdb_folders(tmp_path))
    assert not done.refused and done.info.classes == ("negative", "positive")
    texts = ImdbFolder.model_validate(done.keys).texts()
    assert (len(texts.train), len(texts.test)) == (24, 24)
    assert all(text.endswith("\n\nend") for text in texts.train)
    np.testing.assert_array_equal(texts.train_y, [0] * 12 + [1] * 12)


def test_the_csv_of_imdb(tmp_path: Path) -> None:
    done = walk({"name": "text-file", **shapes.imdb_csv(tmp_path)})
    assert not done.refused and done.info.classes == ("negative", "positive")
    texts = TextFile.model_validate(done.keys).texts()
    assert len(texts.train) + len(texts.test) == 60
    assert all(t.endswith(', "they" say.<br /><br />End') for t in texts.train)


def test_spam_in_latin_1(tmp_path: Path) -> None:
    done = walk({"name": "text-file", **shapes.spam(tmp_path)}, describe_spam)
    assert done.info.classes == ("ham", "spam")
    texts = TextFile.model_validate(done.keys).texts()
    assert len(texts.train) + len(texts.test) == 60
    assert texts.train[0].endswith(', £0 "now"') and texts.train_y[0] == 1


MANY = {
    "adult": (shapes.adult, lambda told, keys: None),
    "titanic": (shapes.titanic, lambda told, keys: None),
    "house prices": (shapes.house_prices, lambda told, keys: None),
    "spam": (shapes.spam, describe_spam),
}


@pytest.mark.parametrize(("shape", "by_hand"), MANY.values(), ids=MANY)
def test_a_file_is_refused_once_for_all_that_is_open(
    shape: Callable[[Path], Keys], by_hand: Callable[[str, Keys], Keys | None], tmp_path: Path
) -> None:
    name = "text-file" if shape is shapes.spam else "csv-table"
    assert len(walk({"name": name, **shape(tmp_path)}, by_hand).refused) <= 1


PRESET = """
data = {{ name = "csv-table", path = "{path}" }}
model = {{ name = "mlp", width = 16 }}
train = {{ epochs = 2 }}
attacks = [{{ name = "gaussian", share = 0.1 }}]
audits = [{{ name = "accuracy" }}]
methods = [{{ name = "none" }}, {{ name = "retrain" }}]
"""


@pytest.mark.parametrize(
    ("shape", "settings"),
    [(shapes.wine_quality, []), (shapes.german, []), (shapes.pandas_csv, ["data.drop=[0]"])],
)
def test_the_command_plans_it(
    shape: Callable[[Path], Keys], settings: list[str], tmp_path: Path
) -> None:
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET.format(path=shape(tmp_path)["path"]))
    words = [word for one in settings for word in ("--set", one)]
    if settings:
        done = called("plan", preset, "--home", tmp_path / "home")
        assert done.returncode == 2 and "data.drop = [0]" in done.stderr
    done = called("plan", preset, "--home", tmp_path / "home", *words)
    assert done.returncode == 0, done.stderr
