"""The line that tells a data set: exact words for small reports, harmless for whatever comes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.spec.component import DataInfo
from engine.spec.data_line import LONGEST, SHORT, line, name, short, sound

TABLE: dict[str, Any] = {
    "kind": "table",
    "classes": ["<=50K", ">50K"],
    "train": {"rows": 4000, "per_class": [3000, 1000], "duplicates": 8, "conflicting": 1},
    "test": {"rows": 1, "per_class": [1, 0], "duplicates": 1, "conflicting": 0},
    "overlap": 1,
    "overlap_conflicting": 1,
    "columns": [
        {
            "name": "age",
            "kind": "numeric",
            "low": 17,
            "high": 90,
            "gaps": 12,
            "filled": "mean 38.6",
        },
        {"name": "work", "kind": "categorical", "values": ["a", "b", "c", "d"], "gaps": 0},
        {"name": "town name", "kind": "categorical", "values": ["x", "y"], "gaps": 3},
    ],
    "dropped": {"empty": 10, "unlabelled": 2, "other": 0},
    "read": ["data.path: semicolons between cells."],
}


def test_a_table_in_full_and_in_short() -> None:
    assert line(TABLE) == (
        "data: 4,000 rows and 1 test row; 3 columns: 1 numeric, 2 categorical (work 4 values, "
        "town name 2); 2 classes: 0 '<=50K', 1 '>50K'; gaps: 12 in age (filled with mean 38.6), "
        "3 in town name; 12 rows dropped: 10 empty, 2 unlabelled; 9 duplicates (8 in train, 1 in "
        "test); 1 test row is also in train (1 under another label); read: data.path: semicolons "
        "between cells"
    )
    assert short(TABLE) == (
        "data: 4,000 rows and 1 test row; 12 dropped; 9 duplicates; 1 test row in train"
    )
    assert short(TABLE, 200) == (
        "data: 4,000 rows and 1 test row; 3 columns; 2 classes; 15 gaps; 12 dropped; 9 duplicates; "
        "1 test row in train"
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ""),
        ({"train": {"rows": 5}}, "data: 5 rows"),
        ({"overlap": 0}, "data: no test row is also in train"),
        ({"overlap": 2, "overlap_conflicting": 0}, "data: 2 test rows are also in train"),
        ({"train": {"duplicates": 0}, "test": {"duplicates": 0}, "dropped": {}}, ""),
        ({"test": {"duplicates": 3}}, "data: 3 duplicates in test"),
        ({"columns": [{"name": "x", "kind": "numeric"}]}, "data: 1 column, numeric"),
        ({"columns": [{"kind": "numeric"}] * 3}, "data: 3 columns, all numeric"),
        ({"kind": "image", "shape": [3, 32, 24]}, "data: images of 32×24, 3 channels"),
        ({"kind": "text", "shape": [64, 1, 1]}, "data: texts of up to 64 tokens"),
        (
            {"kind": "text", "shape": [64, 1, 1], "train": {"cut": 2}, "test": {"cut": 1}},
            "data: texts of up to 64 tokens; 3 texts cut to 64 tokens",
        ),
        ({"classes": ["cat", "dog"]}, "data: 2 classes: 0 cat, 1 dog"),
        ({"classes": ["1", "10", ""]}, "data: 3 classes: 0 '1', 1 '10', 2 ''"),
        (
            {"classes": [f"class {n}" for n in range(100)]},
            "data: 100 classes: 0 class 0, 1 class 1, 2 class 2, … 99 class 99",
        ),
        ({"classes": ["[red]", "\x1b[31mx"]}, "data: 2 classes: 0 '[red]', 1 '\\x1b[31mx'"),
        ({"read": ["one\ntwo", "b.", "c", "d", "e"]}, "data: read: one two; b; c; and 2 more"),
        (
            {"columns": [{"name": f"c{n}", "kind": "numeric", "gaps": 1} for n in range(6)]},
            "data: 6 columns, all numeric; gaps: 1 in c0, 1 in c1, 1 in c2, 1 in c3, 2 in 2 more "
            "columns",
        ),
    ],
)
def test_what_is_known_is_said_and_nothing_else(told: dict[str, Any], words: str) -> None:
    assert line(told) == words


def test_one_of_several_says_whose_it_is() -> None:
    assert line({"train": {"rows": 5}}, "data.size=14") == "data of data.size=14: 5 rows"


def test_names_are_quoted_where_they_could_be_taken_for_something_else() -> None:
    plain = ["dog", "sea horse", "C++", "train/x", "é", "3D".lower()[1:]]
    assert [name(text) for text in plain] == plain
    for text in ("", "0", " dog", "dog ", "a  b", "a, b", "a; b", "'", "3 d", "\u202edog"):
        assert name(text) == repr(text)
    assert len(name("\U000e0001" * 500)) <= 48


def test_planning_completes_a_report_from_what_it_knows_anyway() -> None:
    """Of a data set whose `inspect` reports nothing."""
    info = DataInfo("d", 10, 4, (1, 8, 8), ("a", "b"), (6, 4))
    assert info.known == {
        "kind": "image", "shape": [1, 8, 8], "classes": ["a", "b"],
        "train": {"rows": 10, "per_class": [6, 4]}, "test": {"rows": 4},
    }  # fmt: skip
    info.report.update({"test": {"per_class": [2, 2]}, "read": ["as it is"]})
    assert info.known["test"] == {"rows": 4, "per_class": [2, 2]}
    assert info.known["read"] == ["as it is"]


def test_what_is_no_report_is_left_out() -> None:
    told = {
        "classes": ["a", 1], "overlap": -1, "overlap_conflicting": True, "kind": "table",
        "train": {"rows": "5", "duplicates": 2}, "unknown": 1, "shape": [1.5],
        "columns": [{"kind": "strange", "low": math.nan, "high": math.inf, "name": "x"}],
        "dropped": {"empty": -3}, "warnings": "text",
    }  # fmt: skip
    assert sound(told) == {"kind": "table", "train": {"duplicates": 2}, "columns": [{"name": "x"}]}
    assert sound([told]) == sound(None) == {}


# --- whatever comes ------------------------------------------------------------------------------

TEXTS = st.text(max_size=40) | st.sampled_from(["\x1b[2J", "[bold]", "a\nb", "<b>", "\ud800"])
COUNTS = st.integers(0, 2**53) | st.integers() | st.none() | st.booleans()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={key: kind | JUNK for key, kind in keys.items()})


PART = some(
    rows=COUNTS, per_class=st.lists(COUNTS, max_size=4), duplicates=COUNTS, conflicting=COUNTS,
    cut=COUNTS, mean_tokens=st.floats(),
)  # fmt: skip
COLUMN = some(
    name=TEXTS, kind=st.sampled_from(["numeric", "categorical"]), gaps=COUNTS, filled=TEXTS,
    values=st.lists(TEXTS, max_size=30), low=st.floats(), high=st.floats(),
)  # fmt: skip
REPORTS = some(
    kind=st.sampled_from(["image", "table", "text"]), shape=st.lists(COUNTS, max_size=3),
    classes=st.lists(TEXTS, max_size=20), train=PART, test=PART, overlap=COUNTS,
    overlap_conflicting=COUNTS, columns=st.lists(COLUMN, max_size=8),
    dropped=st.dictionaries(TEXTS, COUNTS, max_size=6), read=st.lists(TEXTS, max_size=5),
    warnings=st.lists(TEXTS, max_size=5), sample_names=st.lists(TEXTS, max_size=5),
    sample=st.lists(st.lists(TEXTS, max_size=6), max_size=4),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(REPORTS | JUNK)
def test_any_report_gives_one_short_printable_line(told: Any) -> None:
    full, brief = line(told), short(told)
    assert full.isprintable() and len(full) <= LONGEST
    assert brief.isprintable() and len(brief) <= SHORT
    assert bool(full) >= bool(brief)
    assert sound(sound(told)) == sound(told)


@settings(max_examples=60, deadline=None)
@given(REPORTS)
def test_any_report_gives_a_page(told: Any) -> None:
    from console.data_page import page
    from engine.jobs.datasets import DataSet

    for width in (50, 100):
        lines = page(DataSet("k", ("a=1",), sound(told), True), {"name": "x\n"}, "me", width)
        assert all(text.isprintable() for text in lines)


def test_a_long_report_stays_within_bounds() -> None:
    long = "\U000e0001x, " * 2_000
    column = {
        "name": long,
        "kind": "categorical",
        "values": [long] * 200,
        "gaps": 2,
        "filled": long,
    }
    told = {
        "classes": [long] * 1_000, "columns": [column] * 1_000, "read": [long] * 100,
        "dropped": {long + str(n): 3 for n in range(50)}, "train": {"rows": 2**53},
    }  # fmt: skip
    assert len(line(told, long[:100])) <= LONGEST and len(short(told)) <= SHORT
