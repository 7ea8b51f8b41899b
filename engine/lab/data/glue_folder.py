"""A folder of GLUE, such as SST-2's: train.tsv and dev.tsv with a header."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from engine.lab.data._text_files import Columns, rows_of
from engine.lab.data._texts import Source, TextData, Texts, gathered
from engine.spec.component import Card
from engine.spec.errors import BadInput
from engine.spec.files import head_of
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded

TEST_FILES = ("test.tsv", "dev.tsv")
LONGEST_HEADER = 1 << 16  # bytes


class GlueFolder(TextData):
    """Trained on train.tsv. Tested on test.tsv where that is labelled; the published one is not,
    so on dev.tsv. Rows without a label (none, or -1) are skipped and counted."""

    name: Literal["glue-folder"] = "glue-folder"
    path: PathKey = Field(
        description="The folder that holds train.tsv and dev.tsv; ~ is understood."
    )
    text: str = Field(default="sentence", description="Column of texts.")
    label: str = Field(default="label", description="Column of classes.")
    labels: dict[str, str] | None = Field(
        default=None, description="Label as it is written = its class, to join spellings."
    )

    card: ClassVar = Card(
        title="GLUE folder",
        summary="SST-2 or another single-sentence task of GLUE, as published: TSV with a header.",
        reference="Wang et al. 2019, GLUE; Socher et al. 2013, Stanford Sentiment Treebank",
        needs="the folder",
        deviations="the published test set has no labels: dev is the test set",
    )

    def _texts(self) -> Texts:
        root = expanded(self.path, "data.path")
        if not root.is_dir():
            raise BadInput(f"data.path = {self.path!r}: no such folder.")
        train = self._source(root, "train.tsv", Columns(self.text, self.label, True))
        for name in TEST_FILES:
            where = f"data.path = {self.path!r}: {name}"
            if (root / name).is_file() and _header_has(root / name, self.label, where):
                test = self._source(root, name, Columns(self.text, self.label, True))
                if any(row.label for row in test.rows):
                    return gathered(train, test, None, "drop", self.labels)
        raise BadInput(
            f"data.path = {self.path!r}: neither test.tsv nor dev.tsv is there with labels in a "
            f"column {self.label!r}."
        )

    def _source(self, root: Path, name: str, columns: Columns) -> Source:
        where = f"data.path = {self.path!r}: {name}"
        rows = rows_of(root / name, where, columns, "tsv", "utf-8").rows
        return Source(
            where, [row._replace(label=None) if row.label == "-1" else row for row in rows]
        )


def _header_has(path: Path, column: str, where: str) -> bool:
    line = head_of(path, where, LONGEST_HEADER).partition(b"\n")[0].decode("utf-8", "replace")
    return column in [cell.strip() for cell in line.removeprefix("\ufeff").split("\t")]
