"""Rows of named values: JSON (lines, or one array of objects) and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from engine.spec.errors import BadInput


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
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
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

    def rows() -> Iterator[tuple[int, list[Any]]]:
        number = 0
        try:
            for batch in file.iter_batches(columns=keys):
                columns = [batch.column(at).to_pylist() for at in range(len(keys))]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, list(values)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(_broken(where, error)) from None

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        keys = list(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(_broken(where, error)) from None
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadInput(f"{where}: two columns are called {twice!r}.")
    if wanted is not None:
        keys = [key for key in keys if key in wanted]
    return Records(keys, rows(), "row")


def _broken(where: str, error: Exception) -> str:
    told = " ".join(str(error).split())[:200]
    return f"{where}: is no Parquet file that can be read: {told}."
