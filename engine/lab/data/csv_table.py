"""Your own table: a CSV file with a header, numbers and categories."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.lab.data._table import Table, arrays, info, parse, split
from engine.spec.component import Card, Data, DataInfo
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np


class CSVTable(Data):
    """One CSV file that is split, or one for training and one for testing."""

    name: Literal["csv-table"] = "csv-table"
    path: str = Field(description="The CSV file, UTF-8, with a header; ~ is understood.")
    test_path: str | None = Field(default=None, description="Test rows; default: a share of path.")
    label: str | None = Field(default=None, description="Column of classes; default: the last.")
    missing: Literal["error", "drop"] = Field(
        default="error", description="What to do with rows that have a gap."
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="Of each class, if not given.")
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")

    card: ClassVar = Card(
        title="CSV table",
        summary="Rows of numbers and categories; each column scaled to [0, 1] by the training rows.",
        reference="your file",
        needs="the file",
        deviations="categories become one column each; nothing is imputed",
    )

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"path", "test_path"})

    def inspect(self) -> DataInfo:
        table, digest = self._table()
        train, test = split(table, self.test_share, self.limit_train)
        return info(table, train, len(test), digest, f"data.path = {self.path!r}")

    def read(self) -> dict[str, np.ndarray]:
        table, _ = self._table()
        return arrays(table, *split(table, self.test_share, self.limit_train))

    def _table(self) -> tuple[Table, str]:
        files, digests = {}, []
        for key, told in (("path", self.path), ("test_path", self.test_path)):
            if told is not None:
                text, digest = _read(f"data.{key} = {told!r}", told)
                files[f"data.{key} = {told!r}"] = text.splitlines(keepends=True)
                digests.append(digest)
        return parse(files, self.label, self.missing), " ".join(digests)


def _read(where: str, told: str) -> tuple[str, str]:
    """A file's text and sha256."""
    try:
        content = Path(told).expanduser().read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(f"{where}: line {line} is not UTF-8.") from None
    return text, hashlib.sha256(content).hexdigest()
