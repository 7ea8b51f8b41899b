"""A data set of texts from the Hugging Face hub, or from its local cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from engine.lab.data._text_files import LABEL_NAMES, TEXT_NAMES, Row, label_of
from engine.lab.data._texts import Source, TextData, Texts, gathered
from engine.spec.component import Card
from engine.spec.errors import BadInput

SPLITS = ("test", "validation")  # to test on: the first that has labels


class HubDataset(TextData):
    """Trained on the split `train`. Tested on `test`, or on `validation` where the labels of `test`
    are withheld (-1). Data sets that bring code are refused: no release since 4 runs it."""

    name: Literal["hub-dataset"] = "hub-dataset"
    path: str = Field(
        pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)?$",
        description="Its name on the hub, such as stanfordnlp/imdb.",
    )
    config: str | None = Field(default=None, description="Its configuration, such as sst2 of glue.")
    revision: str | None = Field(default=None, description="Commit, tag or branch; default: main.")
    text: str | None = Field(default=None, description="Column of texts; default: the usual names.")
    label: str | None = Field(default=None, description="Column of classes; default: label.")
    labels: dict[str, str] | None = Field(
        default=None, description="Label as it is written = its class, to join spellings."
    )
    max_tokens: int = Field(
        default=256, ge=2, le=8192, description="Longer texts are cut, and counted in the report."
    )

    card: ClassVar = Card(
        title="Hub data set",
        summary="Any text classification data set of the Hugging Face hub, by name.",
        reference="Lhoest et al. 2021, Datasets: a community library for NLP",
        needs="the extra chelate[hub]; the network once, then its cache",
        deviations="a test split without labels is replaced by validation",
    )

    def _texts(self) -> Texts:
        splits = _load(self.path, self.config, self.revision)
        where = f"data.path = {self.path!r}"
        if "train" not in splits:
            raise BadInput(f"{where}: has no split 'train'; it has {', '.join(splits)}.")
        classes: list[str] | None = None
        sources = {}
        for name in ("train", *(split for split in SPLITS if split in splits)):
            rows, names = self._rows(splits[name], f"{where}: split {name}")
            sources[name] = Source(f"{where}: split {name}", rows)
            classes = classes or names
        for name in SPLITS:
            if name in sources and any(row.label for row in sources[name].rows):
                return gathered(sources["train"], sources[name], classes, "drop", self.labels)
        raise BadInput(f"{where}: neither test nor validation is there with labels.")

    def _rows(self, split: Any, where: str) -> tuple[list[Row], list[str] | None]:
        """The rows, and the names of the classes where the data set tells them."""
        columns: list[str] = list(split.column_names)
        text = _column("text", self.text, TEXT_NAMES, columns, where)
        label = _column("label", self.label, LABEL_NAMES, columns, where)
        names: list[str] | None = getattr(split.features[label], "names", None)
        rows = []
        for line, (words, value) in enumerate(zip(split[text], split[label], strict=True), 1):
            if not isinstance(words, str | None):
                raise BadInput(
                    f"{where}: row {line}: column {text!r} is {words!r}, which is no text."
                )
            told = None if value == -1 else label_of(value, f"{where}: row {line}")
            if names and told is not None:
                if not (told.isdecimal() and int(told) < len(names)):
                    raise BadInput(
                        f"{where}: row {line}: its label is {told}, of {len(names)} classes."
                    )
                told = names[int(told)]
            rows.append(Row(line, words, told))
        return rows, names


def _column(
    key: str, told: str | None, usual: Sequence[str], columns: Sequence[str], where: str
) -> str:
    found = told or next((name for name in usual if name in columns), None)
    if found is None or found not in columns:
        wrong = f"data.{key} = {told!r}: " if told else ""
        raise BadInput(f"{wrong}{where}: which column is the {key}? It has {', '.join(columns)}.")
    return found


@lru_cache(maxsize=1)
def _load(path: str, config: str | None, revision: str | None) -> Any:
    """All splits, by name. Raises BadInput, whatever goes wrong on the way."""
    where = f"data.path = {path!r}"
    try:
        from datasets import load_dataset
    except ImportError:
        raise BadInput(
            f"{where}: a data set of the hub needs the package datasets: pip install 'chelate[hub]'."
        ) from None
    try:
        return load_dataset(path, config, revision=revision)
    except Exception as error:  # of the network, the hub, the builder: dozens of kinds
        told = " ".join(f"{type(error).__name__} {error}".split())[:300]
        raise BadInput(
            f"{where}: neither in the cache nor to be had from the hub: {told}. Without a network, "
            "save it as TSV or Parquet and use data text-file."
        ) from None
