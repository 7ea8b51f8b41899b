"""Small classic tables that come with scikit-learn: nothing to download."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.data._sheet import Sheet
from engine.lab.data._table import Rules, Table, arrays, info, parse, split
from engine.spec.component import Card, Data, DataInfo
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

FILES = {
    "breast-cancer": "breast_cancer.csv",
    "wine": "wine_data.csv",
    "iris": "iris.csv",
    "digits": "digits.csv.gz",
}


class BundledTable(Data):
    """Rows × columns, classes: breast-cancer 569 × 30, 2; wine 178 × 13, 3; iris 150 × 4, 3;
    digits 1,797 × 64, 10."""

    name: Literal["bundled-table"] = "bundled-table"
    table: Literal["breast-cancer", "wine", "iris", "digits"] = "breast-cancer"
    test_share: float = Field(default=0.2, gt=0, lt=1, description="Of each class.")
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")

    packages: ClassVar = ("scikit-learn",)
    card: ClassVar = Card(
        title="Classic tables",
        summary="Breast cancer, wine, iris or 8×8 digits as rows of numbers, scaled to [0, 1].",
        reference="UCI Machine Learning Repository; the copies in scikit-learn",
    )

    def inspect(self) -> DataInfo:
        path = _file(self.table)
        table = _parsed(self.table, path)
        train, test = split(table, self.test_share, self.limit_train)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return info(table, train, test, digest, f"data.table = {self.table!r}", "refuse")

    def read(self) -> dict[str, np.ndarray]:
        table = _parsed(self.table, _file(self.table))
        train, test = split(table, self.test_share, self.limit_train)
        return arrays(table, train, test)


@cache
def _parsed(name: str, path: Path) -> Table:
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    # digits has no header; the others' first line holds counts and class names.
    rows = [line.split(",") for line in (lines if name == "digits" else lines[1:])]
    names = [*(f"x{column}" for column in range(len(rows[0]) - 1)), "class"]
    sheet = Sheet(f"data.table = {name!r}", names, list(enumerate(rows, 1)), label=len(names) - 1)
    return parse([sheet], Rules())


@cache
def _file(name: str) -> Path:
    """The data file inside scikit-learn, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("sklearn")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = folder / "datasets" / "data" / FILES[name]
    if not path.is_file():
        raise BadInput(f"data.table = {name!r}: the package scikit-learn is not installed.")
    return path
