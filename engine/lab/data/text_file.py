"""Your own texts: one file that is split, or one for training and one for testing."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from engine.lab.data._delimited import Delimiter
from engine.lab.data._files import Format, in_encoding, known_encoding
from engine.lab.data._text_files import Columns, rows_of
from engine.lab.data._texts import Source, TextData, Texts, gathered
from engine.spec.component import Card
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded


class TextFile(TextData):
    """TSV, CSV, JSON lines or Parquet with a column of texts and one of labels."""

    name: Literal["text-file"] = "text-file"
    path: PathKey = Field(description="TSV, CSV, JSON lines or Parquet; ~ is understood.")
    test_path: PathKey | None = Field(
        default=None, description="Test rows; default: a share of path."
    )
    format: Format | None = Field(default=None, description="Default: what the ending says.")
    text: str | int | None = Field(
        default=None, description="Column of texts, its name or its place from 0."
    )
    label: str | int | None = Field(default=None, description="Column of classes, likewise.")
    header: bool | None = Field(
        default=None, description="Whether the first line names columns; default: if it does."
    )
    delimiter: Delimiter | None = Field(
        default=None, description='Between the cells of CSV, or "tab"; default: found.'
    )
    encoding: str = Field(
        default="utf-8", description="Of TSV, CSV and JSON; a byte order mark tells it as well."
    )
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="All labels, in order; default: those in train."
    )
    labels: dict[str, str] | None = Field(
        default=None, description="Label as it is written = its class, to join spellings."
    )
    missing: Literal["error", "drop"] = Field(
        default="error", description="What to do with rows without a text or a label."
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="Of each class, if not given.")

    card: ClassVar = Card(
        title="Text file",
        summary="Your own labelled texts: TSV, CSV, JSON lines or Parquet.",
        reference="your file",
        needs="the file; for Parquet the extra chelate[parquet]",
        deviations="TSV is read without quoting; only a line break ends a row",
    )

    @field_validator("encoding")
    @classmethod
    def _readable(cls, name: str) -> str:
        return known_encoding(name)

    @field_validator("text", "label")
    @classmethod
    def _from_zero(cls, column: str | int | None) -> str | int | None:
        if isinstance(column, int) and column < 0:
            raise ValueError("places of columns count from 0")
        return column

    def _texts(self) -> Texts:
        train = self._source("path", self.path)
        test = self._source("test_path", self.test_path) if self.test_path is not None else None
        return gathered(train, test or self.test_share, self.classes, self.missing, self.labels)

    def _source(self, key: str, path: str) -> Source:
        where = f"data.{key} = {path!r}"
        columns = Columns(self.text, self.label, self.header, self.delimiter)
        file = expanded(path, f"data.{key}")
        return in_encoding(
            self.encoding,
            lambda encoding: Source(where, *rows_of(file, where, columns, self.format, encoding)),
        )
