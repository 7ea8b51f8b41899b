"""Data files that nobody wrote in good faith: a message with file and place, whatever is in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.lab.data._records import json_records
from engine.lab.data.csv_table import CSVTable
from engine.lab.data.text_file import TextFile
from engine.spec.errors import BadInput

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
N = 40
LABEL = ["xy"[n % 2] for n in range(N)]
NUMBERS = [n * 1.37 for n in range(N)]


def refused(path: Path, **keys: Any) -> str:
    with pytest.raises(BadInput) as caught:
        CSVTable(path=str(path), **keys).inspect()
    assert str(caught.value).startswith("data.path = ")
    return str(caught.value)


def not_utf8() -> Any:
    raw = pa.array([b"ok"] * 7 + [b"\xff\xfe"] * (N - 7), type=pa.binary())
    return pa.StringArray.from_buffers(N, raw.buffers()[1], raw.buffers()[2])


def moments(kind: Any) -> Any:
    return pa.array([0] * 5 + [2**63 - 1] * (N - 5), type=pa.int64()).cast(kind)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (not_utf8, "row 8, column 'odd': cannot be read: 'utf-8' codec"),
        (lambda: moments(pa.timestamp("us")), "row 6, column 'odd': cannot be read: date value"),
        (lambda: pa.array([[1]] * N), "row 1, column 'odd': is [1]"),
    ],
)
def test_parquet_that_python_has_no_value_for(
    tmp_path: Path, column: Callable[[], Any], told: str
) -> None:
    path = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"odd": column(), "a": NUMBERS, "label": LABEL}), path)
    assert told in refused(path)


def test_parquet_whose_columns_are_twins(tmp_path: Path) -> None:
    path = tmp_path / "twins.parquet"
    columns = [pa.array(NUMBERS), pa.array(NUMBERS), pa.array(LABEL)]
    pq.write_table(pa.Table.from_arrays(columns, names=["a", "a", "label"]), path)
    assert "two columns are called 'a'" in refused(path)


def test_parquet_texts_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "good.parquet"
    words = pa.array([None, "", "ä"] * 20)
    table = {"w": words, "l": words.cast(pa.large_string()), "label": (["a", "b"] * 30)}
    pq.write_table(pa.table(table), path)
    from engine.lab.data._records import parquet_records

    rows = [values for _, values in parquet_records(path.read_bytes(), "x").rows]
    assert rows[:3] == [[None, None, "a"], ["", "", "b"], ["ä", "ä", "a"]]


def test_a_small_file_of_large_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand times the same megabyte: 2 GB, of a file of some kilobytes."""
    path = tmp_path / "bomb.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * 1_000_000])
    table = pa.table({"text": text, "label": LABEL * 50})
    pq.write_table(table, path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(BadInput, match="its texts have, unpacked, at least 2,000,000,000 bytes"):
        TextFile(path=str(path)).inspect()
    monkeypatch.setenv("CHELATE_MAX_CELLS", "100")
    assert "has 4,000 cells; the limit is 100" in refused(path)


def test_one_long_cell_does_not_widen_all_others(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f"{n * 1.37},{'ab'[n % 2]},{'xy'[n // 2 % 2]}" for n in range(2_000)]
    rows[7] = f"1.5,{'z' * 100_000},x"
    path.write_text("\n".join(["a,b,label", *rows]))
    tracemalloc.start()
    CSVTable(path=str(path)).read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20  # as an array of texts: 800 MB


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "base64", "x" * 300, "a\0b"])
@pytest.mark.parametrize("data", [CSVTable, TextFile])
def test_encodings_of_no_texts(encoding: str, data: Any) -> None:
    with pytest.raises(ValueError, match="is no encoding of texts") as caught:
        data(path="x", encoding=encoding)
    assert "x" * 300 not in str(caught.value).split("[type=")[0]


def test_half_a_character(tmp_path: Path) -> None:
    path = tmp_path / "half.jsonl"
    path.write_bytes(b'{"a":"\\udfff","label":"x"}\n{"a":"b","label":"y"}\n' * 9)
    assert "line 1, column 'a': holds half a surrogate pair" in refused(path)
    path.write_bytes(b'{"\\udfff":"a","label":"x"}\n{"\\udfff":"b","label":"y"}\n' * 9)
    assert "a column's name: holds half" in refused(path)


def test_an_object_of_very_many_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text("{" + ",".join(f'"k{n}":1' for n in range(8_000)) + "}\n")
    refused(path)
    twice = "{" + ",".join(f'"k{n}":1' for n in range(8_000)) + ',"k7999":1}'
    with pytest.raises(BadInput, match="'k7999' stands there twice"):
        json_records(twice, "x")


@pytest.mark.parametrize("cell", ["1e308", "-1e308", "1e400", "9" * 5000, "inf"])
def test_cells_beyond_all_numbers(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "far.csv"
    rows = [f"{n * 1.37},{n % 7 * 1.25},{LABEL[n]}" for n in range(N)]
    rows[3] = f"1.5,{cell},x"
    path.write_text("\n".join(["a,b,label", *rows]))
    assert "line 5: column 'b'" in refused(path)


@pytest.mark.parametrize("data", [CSVTable, TextFile])
def test_what_is_no_plain_file(tmp_path: Path, data: Any) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    for path in (tmp_path / "fifo.csv", Path("/dev/zero"), tmp_path):
        with pytest.raises(BadInput, match="a plain file is needed"):
            data(path=str(path), format="csv").inspect()


def test_pillow_is_quiet(tmp_path: Path) -> None:
    code = (
        "import warnings\n"
        "from engine.lab.data._images import quiet\n"
        "quiet()\n"
        "exec(compile('import warnings; warnings.warn(\"odd\")', 'x', 'exec'),"
        " {'__name__': 'PIL.TiffImagePlugin'})\n"
        "exec(compile('import warnings; warnings.warn(\"ours\")', 'x', 'exec'), {'__name__': 'a'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "odd" not in done.stderr
    assert "ours" in done.stderr
