"""Small files that were misread, or refused with a remedy that did not help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.lab.data.csv_table import CSVTable
from engine.lab.data.text_file import TextFile
from engine.spec.errors import BadInput
from tests.lab.table_meaning import remedies
from tests.lab.test_reading_cases import ROWS, X, Y, cycle, lines, refused, save, table

# --- other values than those meant ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [CSVTable, TextFile])
def test_a_renamed_number_is_renamed_in_every_spelling(
    kind: type[CSVTable | TextFile], tmp_path: Path
) -> None:
    text = lines([f"text {x}" for x in X], cycle("0", "1", "0.0", "1.0"), names="text,label")
    keys = {"columns": {"text": "categorical"}, "keep": ["text"]} if kind is CSVTable else {}
    data = kind.model_validate(
        {"path": save(tmp_path, text), "labels": {"0": "ham", "1": "spam"}, **keys}
    )
    assert data.inspect().classes == ("ham", "spam")


def test_a_number_of_json_needs_no_notation(tmp_path: Path) -> None:
    numbers = [1.234, "NA", *cycle(2.345, 5.678)[2:]]
    rows = zip(numbers, cycle("1,5", "2,5"), Y, strict=True)
    text = "".join(json.dumps({"a": a, "b": b, "y": y}) + "\n" for a, b, y in rows)
    read = table(tmp_path, text, "t.jsonl", missing="drop")
    assert set(read.values[:, 0]) == {1.234, 2.345, 5.678}


def test_numbers_too_large_to_scale_are_scaled_or_refused(tmp_path: Path) -> None:
    path = save(tmp_path, lines(cycle("-1e308", "1e308", "0"), Y, names="x,y"))
    with np.errstate(all="ignore"):
        try:
            arrays = CSVTable(path=path).read()
        except BadInput:
            return
    assert set(arrays["train_x"].flatten().tolist()) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_whole_numbers_that_no_float_holds_are_refused(name: str, tmp_path: Path) -> None:
    big = [2**53 + n % 3 for n in range(ROWS)]
    rows = "".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in zip(big, Y, strict=True))
    told = refused(tmp_path, rows if name == "t.jsonl" else lines(big, Y, names="x,y"), name)
    assert "column 'x'" in told


def test_every_pair_of_equal_names_is_refused(tmp_path: Path) -> None:
    told = refused(tmp_path, lines(X, X, X, X[::-1], Y, names="a,a,b,b,y"), drop=["a"])
    assert "'b'" in told


def test_a_word_that_was_taken_for_a_gap_is_said(tmp_path: Path) -> None:
    read = table(tmp_path, lines(X, cycle("NA", "EU", "AS"), Y, names="x,region,y"), impute="mean")
    assert any("'NA' in 'region' read as no value" in told for told in read.report["read"])


def test_a_quote_behind_a_space_opens_a_cell_without_a_header_too(tmp_path: Path) -> None:
    text = "".join(f'{x}, "no, {n % 2}", {n % 2}\n' for n, x in enumerate(X))
    assert table(tmp_path, text, header=False).names == ["0", "1=no, 0", "1=no, 1"]


def test_the_class_of_json_is_not_a_key_that_some_rows_lack(tmp_path: Path) -> None:
    rows = [{"x": float(x), "y": y} | ({"note": "pq"[n % 2]} if n else {})
            for n, (x, y) in enumerate(zip(X, Y, strict=True))]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    try:
        assert table(tmp_path, text, "t.jsonl", missing="drop").classes == ("0", "1")
    except BadInput as error:
        assert "data.label" in str(error)


# --- columns that number the rows ----------------------------------------------------------------

NUMBERING = {
    "one gap": ("n", ["" if n == 7 else n for n in range(ROWS)], {"impute": "mean"}),
    "two files put together": ("Unnamed: 0", [n % (ROWS // 2) for n in range(ROWS)], {}),
    "pandas' index": ("__index_level_0__", [n * 7 % 101 for n in range(ROWS)], {}),
    "too long for a float": ("tweet_id", [10**18 + n // 2 * 64 + n % 2 for n in range(ROWS)], {}),
    "names, two of them lacking": (
        "name", ["" if n in (3, 5) else f"p{n}" for n in range(ROWS)], {"impute": "mean"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "cells", "keys"), NUMBERING.values(), ids=NUMBERING)
def test_a_column_that_numbers_rows_is_found(
    name: str, cells: list[Any], keys: dict[str, Any], tmp_path: Path
) -> None:
    told = refused(tmp_path, lines(cells, X, Y, names=f"{name},x,y"), **keys)
    assert f"column {name!r}" in told and "data.drop" in told


# --- remedies that do not help -------------------------------------------------------------------


def test_one_of_two_equal_names_can_be_dropped_by_its_place(tmp_path: Path) -> None:
    text = lines(X, X[::-1], Y, names="a,a,y")
    assert list(table(tmp_path, text, drop=[1]).values[:, 0]) == [float(x) for x in X]


def test_what_is_no_cell_can_be_dropped(tmp_path: Path) -> None:
    rows = [{"x": float(x), "more": {"k": 1}, "y": y} for x, y in zip(X, Y, strict=True)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert "data.drop can name it" in refused(tmp_path, text, "t.jsonl")
    assert table(tmp_path, text, "t.jsonl", drop=["more"]).names == ["x"]


def test_labels_that_differ_in_a_space_can_be_kept_apart(tmp_path: Path) -> None:
    text = lines(X, cycle("yes", " yes", "no"), names="x,y")
    apart = [value for key, value in remedies(refused(tmp_path, text)) if key == "labels"][1]
    assert sorted(np.bincount(table(tmp_path, text, labels=apart).labels)) == [8, 8, 8]


def test_columns_of_different_signs_leave_a_way_out(tmp_path: Path) -> None:
    text = lines(
        cycle("1,5", "2,5"), cycle("1.5", "2.5"), cycle("1.234", "5.678"), Y,
        names="a;b;c;y", delimiter=";",
    )  # fmt: skip
    assert "data.decimal" in refused(tmp_path, text)
    assert table(tmp_path, text, decimal=".").names == ["a", "b", "c"]


def test_a_column_in_two_notations_is_not_promised_a_key(tmp_path: Path) -> None:
    told = refused(tmp_path, lines(cycle("1,5", "2.5"), Y, names="a;y", delimiter=";"))
    assert "data.decimal" not in told and "data.columns" in told


def test_a_gap_among_numbers_is_no_reason_to_make_words_of_them(tmp_path: Path) -> None:
    told = refused(tmp_path, lines(["NA", *X[1:]], X, Y, names="a,b,y"))
    assert "data.missing" in told and "categorical" not in told


def test_a_numeric_column_without_any_number_is_refused(tmp_path: Path) -> None:
    text = lines(cycle("-", "unknown"), X, Y, names="a,b,y")
    assert "'a'" in refused(tmp_path, text, columns={"a": "numeric"})


def test_a_remedy_with_an_emoji_is_toml(tmp_path: Path) -> None:
    told = refused(tmp_path, lines(X, cycle("🎬 Yes", "🎬 yes", "no"), names="x,y"))
    assert ("labels", {"🎬 yes": "🎬 Yes"}) in remedies(told)


def test_the_label_is_the_same_column_in_a_test_file_of_another_order(tmp_path: Path) -> None:
    train = save(tmp_path, lines(X, cycle("no", "so"), Y, names="a,b,y"))
    own = lines(Y, X, ["", *cycle("no", "so")[1:]], names="y,a,b")
    data = CSVTable(path=train, test_path=save(tmp_path, own, "test.csv"), impute="mean")
    assert len(data._table().labels) == 2 * ROWS  # the gap is among words: a category of its own
    gap = save(tmp_path, lines(["", *Y[1:]], X, cycle("no", "so"), names="y,a,b"), "gap.csv")
    data = CSVTable(path=train, test_path=gap, missing="drop")
    assert data.inspect().classes == ("0", "1")


def test_a_file_without_a_header_is_not_told_to_lose_rows(tmp_path: Path) -> None:
    told = refused(tmp_path, lines(cycle("no", "so"), Y, names="so,1"))
    assert "data.header = false" in told


def test_sep_counts_with_every_line_end(tmp_path: Path) -> None:
    text = f"sep=;\n{lines(X, Y, names='x;y', delimiter=';')}".replace("\n", "\r")
    assert table(tmp_path, text).names == ["x"]
