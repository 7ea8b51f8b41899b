"""Files of texts: what is read is what stands there, and what is refused says where."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.lab.data._text_files import Columns, rows_of
from engine.lab.data.text_file import TextFile
from engine.spec.data_report import warning
from engine.spec.errors import BadInput

Pairs = Sequence[tuple[str, str]]

TRAPS = [
    ('he said "no', "0"),
    ('"quoted" and then some', "1"),
    ("NA", "0"),
    ("null", "1"),
    ("line\u2028separator", "0"),
    ("next\x85line and \x1c file \x0b tab", "1"),
    ("it 's, well", "0"),
    (" spaces stay ", "1"),
    ("naïve café 🎬", "0"),
    ("plain", "1"),
]


def tsv(pairs: Pairs, header: str = "") -> str:
    return header + "".join(f"{text}\t{label}\n" for text, label in pairs)


def as_csv(pairs: Pairs, header: str = "text,label\r\n") -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(pairs)
    return header + out.getvalue()


def jsonl(pairs: Pairs) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs)


def parquet(pairs: Pairs, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = [text for text, _ in pairs], [int(label) for _, label in pairs]
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


def write(folder: Path, content: str | bytes, name: str = "t.tsv") -> str:
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    (folder / name).write_bytes(data)
    return str(folder / name)


def every_form(folder: Path, pairs: Pairs) -> dict[str, str]:
    parquet(pairs, folder / "t.parquet")
    return {
        "tsv": write(folder, tsv(pairs)),
        "tsv with header": write(folder, tsv(pairs, "sentence\tlabel\n"), "h.tsv"),
        "tsv from Windows": write(folder, "\ufeff" + tsv(pairs).replace("\n", "\r\n"), "w.tsv"),
        "csv": write(folder, as_csv(pairs), "t.csv"),
        "jsonl": write(folder, jsonl(pairs), "t.jsonl"),
        "parquet": str(folder / "t.parquet"),
    }


def test_every_form_gives_the_same_texts_to_the_letter(tmp_path: Path) -> None:
    digests = {}
    for form, path in every_form(tmp_path, TRAPS).items():
        data = TextFile(path=path, test_path=path)
        texts = data.texts()
        assert list(texts.train) == [text for text, _ in TRAPS], form
        assert texts.train_y.tolist() == [int(label) for _, label in TRAPS], form
        digests[form] = data.inspect()
    assert len(set(digests.values())) == 1, "the content counts, not the form or the place"


def test_the_identity_is_of_the_content(tmp_path: Path) -> None:
    one = TextFile(path=write(tmp_path, tsv(TRAPS)), max_tokens=32)
    moved = TextFile(path=write(tmp_path, as_csv(TRAPS), "x.csv"), text="text", max_tokens=32)
    assert one.identity() == moved.identity() and one.inspect() == moved.inspect()
    for change in ({"max_tokens": 33}, {"vocabulary": 300}):
        assert one.model_copy(update=change).identity() != one.identity()
    for pairs in (TRAPS[:-1], [*TRAPS[:-1], ("plain", "0")], [*TRAPS[:-1], ("plain ", "1")]):
        other = TextFile(path=write(tmp_path, tsv(pairs), "o.tsv"), max_tokens=32)
        assert other.inspect().digest != one.inspect().digest


def test_texts_are_not_joined_in_the_digest(tmp_path: Path) -> None:
    found = []
    for first, second in (("ab", "c"), ("a", "bc"), ("abc", "")):
        rows = [(first, "0"), (second or "-", "1"), ("x", "0"), ("y", "1")]
        path = write(tmp_path, tsv(rows))
        found.append(TextFile(path=path, test_path=path).inspect().digest)
    assert len(set(found)) == 3


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff")
ROWS = st.lists(
    st.tuples(st.text(CHARACTERS, min_size=1, max_size=12), st.sampled_from("01")), min_size=1
)


@given(ROWS)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_written_is_read(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    forms = {"t.tsv": tsv(pairs), "t.csv": as_csv(pairs), "t.jsonl": jsonl(pairs)}
    for name, content in forms.items():
        path = Path(write(tmp_path, content, name))
        header = name == "t.csv"
        found = rows_of(path, "data", Columns(header=header), None, "utf-8").rows
        assert [(row.text, row.label) for row in found] == pairs


@given(st.binary(max_size=60), st.sampled_from(["tsv", "csv", "jsonl", "parquet"]))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_break_it(tmp_path: Path, content: bytes, form: Any) -> None:
    path = Path(write(tmp_path, content, "any"))
    try:
        TextFile(path=str(path), format=form, missing="drop").inspect()
    except BadInput as error:
        assert str(error).startswith("data")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    pairs = [("naïve", "0"), ("café", "1"), ("über", "0"), ("größe", "1")]
    path = write(tmp_path, tsv(pairs).encode(encoding))
    texts = TextFile(path=path, test_path=path, encoding=encoding).texts()
    assert list(texts.train) == [text for text, _ in pairs]


@pytest.mark.parametrize("name", ["utf-99", "base64", "rot13", "", "undefined"])
def test_what_is_no_encoding_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no encoding of texts"):
        TextFile(path="x", encoding=name)


def test_a_broken_encoding_names_the_line(tmp_path: Path) -> None:
    content = tsv(TRAPS).encode() + "naïve\t1\n".encode("latin-1")
    path = write(tmp_path, content)
    with pytest.raises(BadInput, match=r"t\.tsv': line 11 is not UTF-8 .* data\.encoding"):
        TextFile(path=path).inspect()
    wide = write(tmp_path, tsv(TRAPS).encode("utf-16-le") + b"\x00\xd8\n\x00", "w.tsv")
    with pytest.raises(BadInput, match="line 11 is not UTF-16-LE"):
        TextFile(path=wide, encoding="utf-16-le").inspect()


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"text": "review", "label": "stars"}, ["a", "b", "c", "d"]),
        ({"text": 2, "label": 1, "header": True}, ["a", "b", "c", "d"]),
        ({"text": "2", "label": "1", "header": True}, ["a", "b", "c", "d"]),
        ({"text": "id", "label": "stars"}, ["1", "2", "3", "4"]),
        ({"text": 2, "label": 1, "classes": ["stars", "0", "1"]}, ["review", "a", "b", "c", "d"]),
        ({"label": "stars"}, ["a", "b", "c", "d"]),
    ],
)
def test_columns_by_name_and_by_place(
    tmp_path: Path, settings: dict[str, Any], texts: list[str]
) -> None:
    rows = ["id\tstars\treview", "1\t0\ta", "2\t1\tb", "3\t0\tc", "4\t1\td"]
    path = write(tmp_path, "\n".join(rows))
    assert list(TextFile(path=path, test_path=path, **settings).texts().train) == texts


def test_a_share_of_each_class_is_the_test_set(tmp_path: Path) -> None:
    pairs = [(f"text {n}", "a" if n % 4 else "b") for n in range(80)]
    data = TextFile(path=write(tmp_path, tsv(pairs)), test_share=0.25)
    texts = data.texts()
    assert np.bincount(texts.test_y).tolist() == [15, 5]
    assert sorted([*texts.train, *texts.test]) == sorted(text for text, _ in pairs)
    assert data.texts().test == texts.test, "the same ones always"
    few = TextFile(path=data.path, limit_train=10, limit_test=4).inspect()
    assert (few.train, few.test, few.train_per_class) == (10, 4, (5, 5))


def test_classes_are_sorted_by_value_or_as_told(tmp_path: Path) -> None:
    path = write(tmp_path, tsv([(f"t{n}", str(n % 11)) for n in range(44)]))
    assert TextFile(path=path, test_path=path).inspect().classes[-2:] == ("9", "10")
    path = write(tmp_path, tsv([("x", "1"), ("y", "-1"), ("z", "1"), ("w", "-1")]))
    data = TextFile(path=path, test_path=path, classes=("1", "-1"))
    assert data.texts().train_y.tolist() == [0, 1, 0, 1]


GOOD = tsv(TRAPS)


@pytest.mark.parametrize(
    ("content", "settings", "told"),
    [
        ("", {}, "holds no row"),
        ("\n\n", {}, "holds no row"),
        (GOOD + "one\ttwo\t1\n", {}, "line 11 has 3 columns, line 1 2"),
        (GOOD + "alone\n", {}, "line 11 has 1 columns"),
        (GOOD + "\t1\n", {}, "line 11: its text is empty"),
        (GOOD + "  \t1\n", {}, "line 11: its text is empty"),
        (GOOD + "some text\t\n", {}, "line 11: its label is missing"),
        (GOOD + "some\t2\n", {"classes": ["0", "1"]}, "line 11: its label is '2', .* none of 0, 1"),
        (GOOD, {"text": "sentnce", "label": "label"}, "data.text = 'sentnce'"),
        ("sentence\tlabel\n" + GOOD, {"text": "sentnce"}, "mean 'sentence'.*has 'sentence', 'label'"),
        (GOOD, {"text": 0, "label": 2}, "data.label = 2: .* no such column. .*2 columns, 0 to 1"),
        (GOOD, {"text": 1, "label": 1}, "the same column"),
        (GOOD, {"label": 1}, "which column is the text"),
        ("a\tb\tc\n1\t2\t3\n", {}, r"is the text, and which the label\? .* 3 columns, 0 to 2"),
        ("label\tlabel\n1\t2\n", {"text": "label"}, "two columns of that name"),
        ("".join(f"t\t{n}\n" for n in range(101)), {}, "101 different labels"),
        ("a\t1\nb\t1\n", {}, "1 different labels"),
        ("a\t1\nb\t0\n", {}, "no text of class '0' is left for training"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(
    tmp_path: Path, content: str, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput, match=told) as error:
        TextFile.model_validate({"path": write(tmp_path, content), **settings}).inspect()
    assert "t.tsv" in str(error.value) or "left for training" in told


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", 'text,label\nfine,0\n"never closed,1\nx,0\n', "line 3 is no CSV"),
        ("t.csv", 'text,label\nfine,0\n"closed" early,1\n', "line 3 is no CSV"),
        ("t.jsonl", '{"text": "a", "label": 0}\n{"text": "b"}\n', "line 2 has no 'label'"),
        ("t.jsonl", '{"text": "a", "label": 0}\n{"text"\n', "line 2 is no JSON"),
        ("t.jsonl", "[" * 100_000, "line 1 is no JSON"),
        ("t.json", '[{"text": "a", "label": 0}, 1]', "row 2 is no JSON object"),
        (
            "t.jsonl",
            '{"text": "a", "label": 0, "label": 1}',
            "line 1 is no JSON: .*'label'.* twice",
        ),
        ("t.jsonl", '{"text": 5, "label": 0}\n', "line 1: its text is 5"),
        ("t.jsonl", '{"text": "a", "label": [1]}\n', r"line 1: its label is \[1\]"),
        ("t.jsonl", '{"text": "a", "label": Infinity}\n', "line 1: its label is inf"),
        ("t.jsonl", '{"text": "a", "label": NaN}\n', "line 1: its label is missing"),
        ("t.jsonl", '{"text": null, "label": 1}\n', "line 1: its text is empty"),
        ("t.jsonl", '{"text": "\\ud83d", "label": 1}\n', "line 1: holds half a surrogate"),
        ("t.jsonl", '{"a": "x", "b": 1}\n', "which column is the text.*It has 'a', 'b'"),
        ("t.parquet", "no parquet", "is no Parquet file"),
        ("t.txt", "a\t1\n", "data.format"),
    ],
)
def test_other_forms_are_refused_as_plainly(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        TextFile(path=write(tmp_path, content, name)).inspect()


def test_rows_that_lack_something_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "\t1\nsome\t\n \t\nother\t\n")
    data = TextFile(path=path, test_path=write(tmp_path, GOOD, "o.tsv"), missing="drop")
    assert data.texts().dropped == {"empty": 2, "unlabelled": 2}
    assert data.encode().report["dropped"] == {"empty": 2, "unlabelled": 2}


def test_a_label_of_the_test_file_that_train_has_not_is_refused(tmp_path: Path) -> None:
    test = write(tmp_path, "x\t0\ny\t7\n", "o.tsv")
    with pytest.raises(BadInput, match=r"test_path = .*o\.tsv'.* line 2: its label is '7'"):
        TextFile(path=write(tmp_path, GOOD), test_path=test).inspect()


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    parquet(TRAPS, tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install 'chelate\[parquet\]'"):
        TextFile(path=str(tmp_path / "t.parquet")).inspect()


def test_duplicates_overlap_and_cuts_are_reported(tmp_path: Path) -> None:
    train = [("a b", "0"), ("a b", "0"), ("a b", "1"), ("c", "1"), ("long " * 20, "0")]
    test = [("c", "1"), ("a b", "1"), ("a  b", "0")]
    data = TextFile(
        path=write(tmp_path, tsv(train)), test_path=write(tmp_path, tsv(test), "o.tsv"),
        max_tokens=8,
    )  # fmt: skip
    found = data.encode()
    told = found.report
    assert told["train"] == {
        "rows": 5, "per_class": [3, 2], "duplicates": 2, "conflicting": 1, "cut": 1,
        "mean_tokens": pytest.approx((found.arrays["train_x"] >= 0).sum(1).mean(), abs=1e-3),
    }  # fmt: skip
    assert (told["overlap"], told["overlap_conflicting"], told["test"]["cut"]) == (2, 1, 0)
    line = warning(told)
    assert line is not None and "2 of 3 test rows are in train (1 under another label)" in line
    assert "1 of 5 train texts are longer than max_tokens and were cut" in line
    json.dumps(told)


def test_the_arrays_are_what_planning_said(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    data = TextFile(path=path, test_path=path, max_tokens=16, vocabulary=300)
    info, arrays = data.inspect(), data.read()
    assert (info.kind, info.shape, info.vocabulary) == ("text", (16, 1, 1), 300)
    assert arrays["train_x"].shape == (info.train, 16) and arrays["train_x"].dtype == np.int32
    assert arrays["train_y"].dtype == np.int64 and arrays["train_x"].max() < info.vocabulary
    found = data.encode()
    texts = data.texts()
    decoded = [found.tokens.decode(row) for row in found.arrays["train_x"]]
    whole = (found.arrays["train_x"] >= 0).sum(1) < 16
    assert whole.any() and all(
        a == b for a, b, all_of_it in zip(decoded, texts.train, whole, strict=True) if all_of_it
    )


def test_the_data_stage_stores_tokens_and_report_and_warns(tmp_path: Path) -> None:
    from engine.lab.stages import run_data
    from engine.lab.tokens import Tokens
    from tests.helpers import LocalContext

    data = TextFile(
        path=write(tmp_path, GOOD), test_path=write(tmp_path, tsv(TRAPS[4:]), "o.tsv"),
        max_tokens=24,
    )  # fmt: skip
    info = data.inspect()
    config = {"data": data.model_dump(mode="json"), "digest": info.digest, "classes": info.classes}
    ctx = LocalContext(tmp_path / "stage")
    run_data(config, ctx)
    found = data.encode()
    told = json.loads((ctx.folder / "data.json").read_text())
    assert told["report"].items() >= found.report.items() and told["report"]["overlap"] == 6
    assert any("6 of 6 test rows are in train" in line for line in ctx.warnings)
    stored = Tokens.from_json((ctx.folder / "tokens.json").read_text(encoding="utf-8"))
    assert stored.to_json() == found.tokens.to_json()
    write(tmp_path, tsv(TRAPS[:-1]))
    with pytest.raises(Exception, match="changed after the run was planned"):
        run_data(config, LocalContext(tmp_path / "again"))
