"""Your own table: CSV or its kin, JSON lines or Parquet; numbers and categories."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine.lab.data._columns import Kind
from engine.lab.data._delimited import Delimiter
from engine.lab.data._files import Format, in_encoding, known_encoding
from engine.lab.data._numbers import Decimal
from engine.lab.data._sheet import Place, Reading, sheet_of
from engine.lab.data._table import Impute, Rules, Table, arrays, info, parse, split
from engine.spec.component import Card, Data, DataInfo
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded

if TYPE_CHECKING:
    import numpy as np


class CSVTable(Data):
    """One file that is split, or one for training and one for testing."""

    name: Literal["csv-table"] = "csv-table"
    path: PathKey = Field(description="CSV, TSV, JSON lines or Parquet; ~ is understood.")
    test_path: PathKey | None = Field(
        default=None, description="Test rows; default: a share of path."
    )
    format: Format | None = Field(
        default=None, description="Default: what the ending says, or csv."
    )
    label: Place | None = Field(
        default=None, description="Column of classes, its name or its place; default: the last."
    )
    header: bool = Field(default=True, description="Whether the first line names the columns.")
    delimiter: Delimiter | None = Field(
        default=None, description='Between cells, or "tab"; default: found.'
    )
    decimal: Decimal | None = Field(
        default=None, description="The decimal sign; default: found, where it is plain."
    )
    encoding: str = Field(default="utf-8", description="A byte order mark tells it as well.")
    columns: dict[str, Kind] = Field(
        default_factory=dict, description='Name = "numeric" or "categorical"; default: found.'
    )
    drop: tuple[Place, ...] = Field(
        default=(), description="Columns to leave out, by name or by place from 0."
    )
    keep: tuple[Place, ...] = Field(
        default=(), description="Columns to read though they have no name or number the rows."
    )
    labels: dict[str, str] | None = Field(
        default=None, description="Label as it is written = its class, to join spellings."
    )
    missing: Literal["error", "drop"] = Field(
        default="error", description="What to do with rows that have a gap."
    )
    impute: Impute = Field(
        default="refuse",
        description="What fills gaps among numbers, of the training rows; words get a category of "
        "their own.",
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="Of each class, if not given.")
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")

    version: ClassVar = 2
    card: ClassVar = Card(
        title="Table",
        summary="Rows of numbers and categories: CSV, TSV, JSON lines, Parquet; each column scaled "
        "to [0, 1] by the training rows.",
        reference="your file; the rules of reading: docs/tables.md",
        needs="the file; for Parquet the extra chelate[parquet]",
        deviations="categories become one column each; nothing is imputed unless data.impute says so",
    )

    @field_validator("encoding")
    @classmethod
    def _readable(cls, name: str) -> str:
        return known_encoding(name)

    @field_validator("drop", "keep")
    @classmethod
    def _from_zero(cls, places: tuple[Place, ...]) -> tuple[Place, ...]:
        if any(isinstance(place, int) and place < 0 for place in places):
            raise ValueError("places of columns count from 0")
        return places

    def identity(self) -> dict[str, Any]:
        """The rest is in the digest, which is of the table as it was read."""
        told: dict[str, Any] = {"test_share": self.test_share, "limit_train": self.limit_train}
        return told if self.impute == "refuse" else told | {"impute": self.impute}

    def inspect(self) -> DataInfo:
        table = self._table()
        train, test = split(table, self.test_share, self.limit_train)
        return info(table, train, test, table.digest, f"data.path = {self.path!r}", self.impute)

    def read(self) -> dict[str, np.ndarray]:
        table = self._table()
        return arrays(table, *split(table, self.test_share, self.limit_train), self.impute)

    def _table(self) -> Table:
        paths = [expanded(path, "data.path") for path in (self.path, self.test_path) if path]
        return _remembered(self.model_dump_json(), tuple(map(_state, paths)))

    def _parsed(self) -> Table:
        return in_encoding(self.encoding, self._parsed_in)

    def _parsed_in(self, encoding: str) -> Table:
        reading = Reading(
            self.label, self.header, self.format, self.delimiter, encoding,
            self.drop, self.keep,
        )  # fmt: skip
        path = expanded(self.path, "data.path")
        sheets = [sheet_of(path, f"data.path = {self.path!r}", reading)]
        if self.test_path is not None:
            path = expanded(self.test_path, "data.test_path")
            where = f"data.test_path = {self.test_path!r}"
            sheets.append(sheet_of(path, where, reading.of_second(sheets[0])))
        rules = Rules(self.missing, self.impute, self.columns, self.decimal, self.labels)
        return parse(sheets, rules)


@lru_cache(maxsize=1)
def _remembered(data: str, states: tuple[tuple[int, ...] | None, ...]) -> Table:
    """The table of a `CSVTable`, as JSON; read once in this process while no file changes: a plan
    and a stage ask for it several times."""
    return CSVTable.model_validate_json(data)._parsed()


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file's content does."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None  # reading it says why
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
