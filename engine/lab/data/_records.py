"""Rows of named values: JSON (lines, or one array of objects) and Parquet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from engine.spec.bounds import CELLS, FILE
from engine.spec.errors import BadInput, cut


class Records(NamedTuple):
    """`rows` are (line or row from 1, values in the order of `names`); an absent value is None."""

    names: list[str]
    rows: Iterator[tuple[int, list[Any]]]
    unit: str  # what the number of a row counts: "line", "row"


class Absent:
    """Stands where a row lacks a key, which is not the same as a null."""


ABSENT = Absent()


def json_records(text: str, where: str) -> Records:
    """One object a line, or one array of objects. The names are those of all rows, in the order of
    their coming. Raises BadInput, also for an object that has a key twice."""
    if text.lstrip()[:1] == "[":
        told = _loaded(text, f"{where}: line 1")
        unit, found = "row", list(enumerate(told, 1))
    else:
        unit = "line"
        found = [
            (number, _loaded(line, f"{where}: line {number}"))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    names: dict[str, None] = {}
    for number, value in found:
        if not isinstance(value, dict):
            raise BadInput(f"{where}: {unit} {number} is no JSON object; one a {unit} is needed.")
        names |= dict.fromkeys(value)
    keys = list(names)
    rows = ((number, [value.get(key, ABSENT) for key in keys]) for number, value in found)
    return Records(keys, rows, unit)


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is no JSON: {error}.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {cut(repr(twice))} stands there twice")
    return found


def parquet_records(content: bytes, where: str, wanted: Sequence[str] | None = None) -> Records:
    """All columns, or those `wanted`. Raises BadInput."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput(
            f"{where}: Parquet needs the package pyarrow: pip install 'chelate[parquet]'."
        ) from None

    failures = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError)

    def rows() -> Iterator[tuple[int, list[Any]]]:
        number = size = 0
        try:
            for batch in file.iter_batches(columns=keys):
                columns = []
                for at, key in enumerate(keys):
                    size += _size(batch.column(at))
                    FILE.check(size, f"{where}: its texts have, unpacked, at least")
                    columns.append(_python(batch.column(at), f"{where}: row", number, key))
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, list(values)
        except BadInput:
            raise
        except failures as error:
            raise BadInput(_broken(where, error)) from None

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        told = file.schema_arrow
        keys = list(told.names)
        rows_told = file.metadata.num_rows
        # As dictionaries: a text that a small file names a million times stays one text.
        words = [field.name for field in told if _is_text(field.type)]
        counts = Counter(keys)
        if len(counts) == len(keys):
            file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=words)
    except failures as error:
        raise BadInput(_broken(where, error)) from None
    if len(counts) < len(keys):
        [(twice, _)] = counts.most_common(1)
        raise BadInput(f"{where}: two columns are called {cut(repr(twice))}.")
    CELLS.check(rows_told * len(keys), f"{where}: has")
    if wanted is not None:
        keys = [key for key in keys if key in wanted]
    return Records(keys, rows(), "row")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _size(column: Any) -> int:
    """Bytes of a column's texts, each counted as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column, pa.DictionaryArray):
        return int(column.nbytes)
    return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)


def _python(column: Any, where: str, before: int, key: str) -> list[Any]:
    """The values of one batch of a column; `before` rows came before it. Raises BadInput naming the
    first that Python has no value for: texts that are not UTF-8, times before the year 1."""
    import pyarrow as pa

    try:
        if isinstance(column, pa.DictionaryArray) and len(column.dictionary) <= len(column):
            words = column.dictionary.to_pylist()
            return [None if at is None else words[at] for at in column.indices.to_pylist()]
        return list(column.to_pylist())
    except (ValueError, OverflowError) as error:
        problem: Exception = error
    row = 0
    for row in range(len(column)):
        try:
            column[row].as_py()
        except (ValueError, OverflowError) as error:
            problem = error
            break
    told = cut(" ".join(str(problem).split()))
    raise BadInput(f"{where} {before + row + 1}, column {cut(repr(key))}: cannot be read: {told}.")


def _broken(where: str, error: Exception) -> str:
    told = " ".join(str(error).split())[:200]
    return f"{where}: is no Parquet file that can be read: {told}."
