"""Small tables, each of which was once misread without a word: its right values, or its refusal."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.data._table import Table
from engine.lab.data.csv_table import CSVTable
from engine.lab.data.text_file import TextFile
from engine.spec.errors import BadInput

ROWS = 24


def save(folder: Path, content: str | bytes, name: str = "t.csv") -> str:
    data = content.encode("utf-8") if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return str(folder / name)


def lines(*columns: Sequence[Any], names: str, delimiter: str = ",") -> str:
    rows = zip(*columns, strict=True)
    return "\n".join([names, *(delimiter.join(map(str, row)) for row in rows)]) + "\n"


def cycle(*cells: Any) -> list[Any]:
    return [cells[n % len(cells)] for n in range(ROWS)]


X = [f"{random.Random(3).gauss(0, 1) + n * 0.37 % 2:.2f}" for n in range(ROWS)]
Y = cycle(0, 1)


def table(folder: Path, content: str | bytes, name: str = "t.csv", **keys: Any) -> Table:
    data = CSVTable.model_validate({"path": save(folder, content, name), **keys})
    data.inspect()
    return data._table()


def refused(folder: Path, content: str | bytes, name: str = "t.csv", **keys: Any) -> str:
    with pytest.raises(BadInput) as error:
        table(folder, content, name, **keys)
    return str(error.value)


def column(read: Table, name: str) -> list[float]:
    return list(read.values[:, read.names.index(name)])


# --- 4: delimiters, decimal signs, byte order marks ----------------------------------------------


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_found_and_said(delimiter: str, tmp_path: Path) -> None:
    read = table(tmp_path, lines(X, Y, names=f"x{delimiter}y", delimiter=delimiter))
    assert column(read, "x") == [float(x) for x in X] and read.classes == ("0", "1")
    assert any("between cells" in told for told in read.report["read"])


NUMBERS = {
    "decimal commas": (("1,5", "-0,25", "3"), [1.5, -0.25, 3]),
    "points between thousands": (("1.234,5", "2.000.000,25", "7"), [1234.5, 2000000.25, 7]),
    "commas between thousands": (("1,234.5", "2,000,000.25", "7"), [1234.5, 2000000.25, 7]),
    "spaces between thousands": (
        ("1 234,5", "2\u202f000\u00a0000,25", "7"),
        [1234.5, 2000000.25, 7],
    ),
    "apostrophes between thousands": (("1'234.5", "2’000’000.25", "7"), [1234.5, 2000000.25, 7]),
    "exponents": (("1.5e3", "-2E-2", "+7"), [1500, -0.02, 7]),
}


@pytest.mark.parametrize(("cells", "values"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_have_their_values(
    cells: tuple[str, ...], values: list[float], tmp_path: Path
) -> None:
    read = table(tmp_path, lines(cycle(*cells), Y, names="x;y", delimiter=";"))
    assert read.names == ["x"] and column(read, "x") == cycle(*values)


def test_thousands_or_fractions_go_by_the_other_columns_or_the_key(tmp_path: Path) -> None:
    unclear = cycle("1,234", "5,678")
    german = lines(unclear, cycle("1,5", "2,5"), Y, names="a;b;y", delimiter=";")
    english = lines(unclear, cycle("1.5", "2.5"), Y, names="a;b;y", delimiter=";")
    alone = lines(unclear, Y, names="a;y", delimiter=";")
    assert column(table(tmp_path, german), "a") == cycle(1.234, 5.678)
    assert column(table(tmp_path, english), "a") == cycle(1234.0, 5678.0)
    told = refused(tmp_path, alone)
    assert "line 2: column 'a': '1,234' may be 1.234 or 1234" in told and "data.decimal" in told
    assert column(table(tmp_path, alone, decimal=","), "a") == cycle(1.234, 5.678)
    assert column(table(tmp_path, alone, decimal="."), "a") == cycle(1234.0, 5678.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, tmp_path: Path) -> None:
    read = table(tmp_path, lines(X, cycle("Köln", "東京"), names="größe,y").encode(encoding))
    assert read.names == ["größe"] and read.classes == ("Köln", "東京")


def test_two_delimiters_that_fit_are_refused_and_the_key_settles_it(tmp_path: Path) -> None:
    text = lines(cycle("1,5;a", "2,5;b"), names="x,1;y")
    assert "2 at commas or 2 at semicolons; data.delimiter" in refused(tmp_path, text)
    assert table(tmp_path, text, delimiter=";").classes == ("a", "b")


# --- 5: the first line ---------------------------------------------------------------------------


def test_a_header_that_is_a_row_is_warned_of_and_the_key_reads_it(tmp_path: Path) -> None:
    text = lines(X, X[::-1], Y, names=f"{X[3]},{X[4]},1")
    (warning,) = table(tmp_path, text).report["warnings"]
    assert "look like a row of data; data.header = false" in warning
    read = table(tmp_path, text, header=False)
    assert len(read.labels) == ROWS + 1 and not read.report["warnings"]
    assert list(read.values[0]) == [float(X[3]), float(X[4])]


def test_a_header_that_would_be_a_class_is_refused(tmp_path: Path) -> None:
    text = lines([f"text {n}" for n in range(ROWS)], Y, names="review_text,stars")
    with pytest.raises(BadInput, match=r"line 1 was read as a row.*'stars'.*data\.header = true"):
        TextFile(path=save(tmp_path, text)).texts()
    data = TextFile(path=save(tmp_path, text), header=True, text="review_text", label="stars")
    assert data.texts().classes == ("0", "1")


# --- 6: labels -----------------------------------------------------------------------------------


def test_labels_that_are_equal_as_numbers_are_one_class_and_said(tmp_path: Path) -> None:
    for name, text in (
        ("t.csv", lines(X, cycle("0", "1", "0.0", "+1", "00"), names="x,y")),
        ("t.tsv", lines(X, cycle("0", "1", "0.0", "+1", "00"), names="x\ty", delimiter="\t")),
        ("t.jsonl", "".join(json.dumps({"x": float(x), "y": y}) + "\n"
                            for x, y in zip(X, cycle(0, 1, 0.0, 1.0, "0"), strict=True))),
    ):  # fmt: skip
        read = table(tmp_path, text, name)
        assert read.classes == ("0", "1")
        np.testing.assert_array_equal(read.labels, cycle(0, 1, 0, 1, 0))
        assert any("are one class" in told for told in read.report["read"])


@pytest.mark.parametrize(
    ("one", "other", "odd"),
    [
        ("yes", "Yes", "yes"),
        (">50K", ">50K.", ">50K."),
        ("a b", "a  b", "a  b"),
        ("no", "no ", "no "),
    ],
)
def test_labels_that_look_alike_are_refused_and_joined(
    one: str, other: str, odd: str, tmp_path: Path
) -> None:
    text = lines(X, cycle(one, other, "<=50K"), names="x,y")
    told = refused(tmp_path, text)
    assert f"{one!r} (data.path" in told and "line 2" in told and "line 3" in told
    assert repr(other) in told and "data.labels = {" in told
    joined = table(tmp_path, text, labels={odd: other if odd == one else one})
    assert len(joined.classes) == 2 and sorted(np.bincount(joined.labels)) == [8, 16]


@pytest.mark.parametrize("pair", [("<=50K", ">50K"), ("+", "-"), ("C", "C++"), ("a-b", "ab")])
def test_no_other_sign_joins_labels(pair: tuple[str, str], tmp_path: Path) -> None:
    assert set(table(tmp_path, lines(X, cycle(*pair), names="x,y")).classes) == set(pair)


# --- 7: columns that are numeric but for a few cells ---------------------------------------------


@pytest.mark.parametrize("cell", ["abc", "12%", "inf", "2020-01-31", "1/2", "5 kg"])
def test_an_odd_cell_among_numbers_is_refused_with_its_line(cell: str, tmp_path: Path) -> None:
    text = lines([*X[:9], cell, *X[10:]], X, Y, names="a,b,y")
    told = refused(tmp_path, text)
    assert f"line 11: column 'a': {cell!r} among numbers" in told
    assert 'data.columns = { "a" = "categorical" }' in told or "a = " in told
    assert f"a={cell}" in table(tmp_path, text, columns={"a": "categorical"}, keep=["a"]).names


@pytest.mark.parametrize("gap", ["", "?", "N/A", "-", "nan", "NULL", "n.a.", "unknown"])
@pytest.mark.parametrize("impute", ["mean", "median"])
def test_a_gap_among_numbers_is_refused_dropped_or_filled(
    gap: str, impute: str, tmp_path: Path
) -> None:
    text = lines([*X[:9], gap, *X[10:]], X, Y, names="a,b,y")
    told = refused(tmp_path, text)
    assert "line 11, column 'a': no value" in told
    assert 'data.missing = "drop"' in told and "data.impute" in told
    assert len(table(tmp_path, text, missing="drop").labels) == ROWS - 1
    read = table(tmp_path, text, impute=impute)
    assert read.names == ["a", "b"] and np.isnan(column(read, "a")[9])
    assert np.isnan(read.values).sum() == 1


# --- 8: columns that number the rows -------------------------------------------------------------

COUNTING = {
    "n": list(range(ROWS)),
    "down": list(range(100, 100 - ROWS, -1)),
    "shuffled": random.Random(0).sample(range(ROWS), ROWS),
    "PassengerId": random.Random(1).sample(range(10_000), ROWS),
    "Unnamed: 0": random.Random(2).sample(range(10_000), ROWS),
    "name": [f"person {n}" for n in range(ROWS)],
}


@pytest.mark.parametrize("name", COUNTING)
def test_a_column_that_numbers_the_rows_is_refused_dropped_or_kept(
    name: str, tmp_path: Path
) -> None:
    text = lines(COUNTING[name], X, Y, names=f"{name},x,y")
    told = refused(tmp_path, text)
    assert f"column {name!r}" in told
    assert f'data.drop = ["{name}"]' in told and f'data.keep = ["{name}"]' in told
    assert table(tmp_path, text, drop=[name]).names == ["x"]
    kept = table(tmp_path, text, keep=[name])
    assert kept.names[-1] == "x" and len(kept.names) == (ROWS + 1 if name == "name" else 2)


def test_a_column_without_a_name_is_refused_dropped_or_kept(tmp_path: Path) -> None:
    text = lines(cycle(5, 5, 9), X, Y, names=",x,y")
    told = refused(tmp_path, text)
    assert "column 0" in told and "data.drop = [0]" in told and "data.keep = [0]" in told
    assert table(tmp_path, text, drop=[0]).names == ["x"]
    assert table(tmp_path, text, keep=[0]).names == ["column 0", "x"]
