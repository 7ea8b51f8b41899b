"""What data sets of texts share: the tokenizer's keys, limits, checks, a digest of the content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from engine.lab.data._files import key_of
from engine.lab.data._labels import classes_of, number
from engine.lab.data._tokenizers import facts
from engine.spec.component import Data, DataInfo
from engine.spec.data_report import DataReport, counted, merged
from engine.spec.errors import BadInput
from engine.spec.keys import digest
from engine.spec.path_keys import FolderOrName
from engine.spec.registry import component_name

if TYPE_CHECKING:
    import numpy as np

    from engine.lab.data._text_files import Row
    from engine.lab.tokens import Tokens

BPE = "bpe"
MOST_CLASSES = 100  # more different labels than that, and the column is another one
SAMPLE, SAMPLE_LENGTH = 5, 300  # texts that a report shows, characters of one
UNLABELLED, EMPTY = "unlabelled", "empty"  # why a row is dropped


@dataclass(frozen=True)
class Texts:
    """Texts as they were read, with int64 labels, indices into `classes`.

    `dropped` says what was left out and how often: "unlabelled", "empty", …; `told` how files were
    read, where that is not plain from them, a sentence each.
    """

    train: Sequence[str]
    train_y: np.ndarray
    test: Sequence[str]
    test_y: np.ndarray
    classes: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[Sequence[str], np.ndarray]]:
        return {"train": (self.train, self.train_y), "test": (self.test, self.test_y)}

    @property
    def digest(self) -> str:
        """sha256 of texts, labels and classes, in their order; what file they lay in is no part."""
        seen = hashlib.sha256()
        for texts, labels in self.parts.values():
            seen.update(b"%d\n" % len(texts))
            for text in texts:
                content = text.encode("utf-8")
                seen.update(b"%d\n" % len(content) + content)
            seen.update(labels.astype("<i8").tobytes())
        return digest([seen.hexdigest(), list(self.classes)])

    def limited(self, train: int | None, test: int | None) -> Texts:
        """At most so many rows, classes as equal as they can be, the same ones always."""
        from engine.lab.selection import stratified

        kept: dict[str, Any] = {}
        for (part, (texts, labels)), limit in zip(self.parts.items(), (train, test), strict=True):
            rows = stratified(labels, limit)
            kept |= {part: [texts[row] for row in rows], f"{part}_y": labels[rows]}
        return replace(self, **kept)


class Source(NamedTuple):
    """Rows, and where they come from in the words errors use; the rest as in `Rows`."""

    where: str
    rows: list[Row]
    told: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()


def gathered(
    train: Source,
    test: Source | float,
    classes: Sequence[str] | None,
    missing: str,
    joins: Mapping[str, str] | None = None,
) -> Texts:
    """Rows as a data set; `test` may be a share of each class of `train`.

    `classes` None: the labels in `train`, numbers by their value. `missing`: "error" or "drop" for
    rows that lack a text or a label. `joins`: data.labels. Raises BadInput naming the row.
    """
    import numpy as np

    from engine.lab.selection import held_out

    dropped: Counter[str] = Counter()
    kept = [
        (source, _complete(source, missing, dropped))
        for source in (train, test)
        if isinstance(source, Source)
    ]
    seen: dict[str, str] = {}
    for source, rows in kept:
        for row in rows:
            seen.setdefault(str(row.label), f"{source.where}: line {row.line}")
    _refuse_unread_headers(kept, {*(classes or ()), *(joins or {})})
    found = classes_of(seen, joins, classes)
    parts = []
    for _, rows in kept:
        labels = np.array([found.index[str(row.label)] for row in rows], dtype=np.int64)
        parts.append(([str(row.text) for row in rows], labels))
    if classes is None:
        _check_number(len(set(parts[0][1].tolist())), found.names, train.where)
        _refuse_unknown(kept, found.index, found.names)
    if isinstance(test, float):
        texts, labels = parts[0]
        held = held_out(labels, test, "texts")
        parts = [
            ([texts[row] for row in np.flatnonzero(mine)], labels[mine]) for mine in (~held, held)
        ]
    (first, first_y), (second, second_y) = parts
    told = [
        *(f"{key_of(source.where)}: {text}" for source, _ in kept for text in source.told),
        *found.told,
    ]
    return Texts(first, first_y, second, second_y, found.names, dict(dropped), tuple(told))


def _refuse_unread_headers(kept: Sequence[tuple[Source, list[Row]]], named: set[str]) -> None:
    """A label that only first rows have is most likely the name of a column, if it is no number and
    nobody `named` it. Raises BadInput."""
    first = [(source, rows[0]) for source, rows in kept if source.unnamed and rows
             and rows[0] is source.rows[0]]  # fmt: skip
    heads = [row for _, row in first]
    others = {
        str(r.label).strip() for _, rows in kept for r in rows if not any(r is h for h in heads)
    }
    for source, row in first:
        label = str(row.label).strip()
        if others and label not in others | named and number(label) is None:
            raise BadInput(
                f"{source.where}: line {row.line} was read as a row, and its label {label!r} "
                "occurs nowhere else: is it the header? Then data.header = true, and data.text and "
                f"data.label say which of {', '.join(map(repr, source.unnamed[:20]))} they are. If "
                "it is a row, data.classes lists all labels."
            )


def _refuse_unknown(
    kept: Sequence[tuple[Source, list[Row]]], index: Mapping[str, int], names: Sequence[str]
) -> None:
    """Labels that only the test rows have are no classes. Raises BadInput naming the row."""
    trained = {index[str(row.label)] for row in kept[0][1]}
    for source, rows in kept[1:]:
        for row in rows:
            if index[str(row.label)] not in trained:
                known = [name for place, name in enumerate(names) if place in trained]
                raise BadInput(
                    f"{source.where}: line {row.line}: its label is {row.label!r}, which is none "
                    f"of {', '.join(known[:20])}."
                )


def _complete(source: Source, missing: str, dropped: Counter[str]) -> list[Row]:
    """The rows that have a text and a label; what others lack is counted or refused."""
    kept = []
    for row in source.rows:
        lacks = EMPTY if not (row.text and row.text.strip()) else "" if row.label else UNLABELLED
        if not lacks:
            _refuse_half_characters(source.where, row)
            kept.append(row)
        elif missing == "drop":
            dropped[lacks] += 1
        else:
            what = "text is empty" if lacks == EMPTY else "label is missing"
            raise BadInput(
                f'{source.where}: line {row.line}: its {what}. data.missing = "drop" leaves such '
                "rows out."
            )
    return kept


def _refuse_half_characters(where: str, row: Row) -> None:
    """JSON's \\ud83d without its other half, and UTF-7's, are no characters."""
    try:
        f"{row.text}{row.label}".encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where}: line {row.line}: holds half a surrogate pair.") from None


def _check_number(count: int, names: Sequence[str], where: str) -> None:
    if not 2 <= count <= MOST_CLASSES:
        raise BadInput(
            f"{where}: has {count} different labels ({', '.join(map(repr, names[:3]))}, …); as "
            f"classes, 2 to {MOST_CLASSES} are needed. data.label says which column they are in."
        )


@dataclass(frozen=True)
class Encoded:
    """Token ids, int32 [N, L] with -1 behind a text's end, and int64 labels, as `Data.read` gives
    them; the tokenizer; the report, JSON."""

    arrays: dict[str, np.ndarray]
    tokens: Tokens
    report: dict[str, Any]


class TextData(Data):
    """A data set of texts; subclasses say how they are read.

    Where they lie and in what form is no part of the identity: equal texts, labels and classes are
    the same data set.
    """

    tokenizer: FolderOrName = Field(
        default=BPE,
        min_length=1,
        description='"bpe": trained on the training texts; or a folder with tokenizer.json, or a '
        "name on the hub such as gpt2.",
    )
    vocabulary: int = Field(
        default=4096, ge=257, le=1_000_000, description='Tokens that "bpe" may make.'
    )
    max_tokens: int = Field(
        default=64, ge=2, le=8192, description="Longer texts are cut, and counted in the report."
    )
    limit_train: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")
    limit_test: int | None = Field(default=None, ge=2, description="Rows kept, classes balanced.")

    packages: ClassVar = ("tokenizers",)

    def _texts(self) -> Texts:
        """Everything that can be used, without limits. Raises BadInput."""
        raise NotImplementedError

    def texts(self) -> Texts:
        """The rows in use. Raises BadInput."""
        import numpy as np

        found = self._texts()
        if not found.test:
            raise BadInput(f"data {self._name}: there is no labelled text to test on.")
        found = found.limited(self.limit_train, self.limit_test)
        counts = np.bincount(found.train_y, minlength=len(found.classes))
        if not counts.all():
            empty = found.classes[int(counts.argmin())]
            raise BadInput(f"data {self._name}: no text of class {empty!r} is left for training.")
        return found

    def inspect(self) -> DataInfo:
        """Reads the texts, but makes no tokens of them."""
        texts = self.texts()
        told, size = ("", self.vocabulary) if self.tokenizer == BPE else facts(self.tokenizer)
        counts, tests = Counter(texts.train_y.tolist()), Counter(texts.test_y.tolist())
        every = range(len(texts.classes))
        return DataInfo(
            digest=digest([texts.digest, told]),
            train=len(texts.train),
            test=len(texts.test),
            shape=(self.max_tokens, 1, 1),
            classes=texts.classes,
            train_per_class=tuple(counts[label] for label in every),
            kind="text",
            vocabulary=size,
            report=DataReport(
                kind="text",
                classes=list(texts.classes),
                train={"rows": len(texts.train), "per_class": [counts[label] for label in every]},
                test={"rows": len(texts.test), "per_class": [tests[label] for label in every]},
                dropped=dict(texts.dropped),
                read=list(texts.told),
                sample_names=["label", "text"],
                sample=[
                    [texts.classes[int(label)], text[:SAMPLE_LENGTH]]
                    for label, text in zip(
                        texts.train_y[:SAMPLE], texts.train[:SAMPLE], strict=True
                    )
                ],
            ),
        )

    def identity(self) -> dict[str, Any]:
        """The rest is in the digest: the texts, and a published tokenizer's content."""
        if self.tokenizer == BPE:
            return {"max_tokens": self.max_tokens, "tokenizer": BPE, "vocabulary": self.vocabulary}
        return {"max_tokens": self.max_tokens, "tokenizer": "published"}

    def encode(self) -> Encoded:
        """All texts in use as tokens. Raises BadInput."""
        from engine.lab.tokens import Tokens

        texts = self.texts()
        if self.tokenizer == BPE:
            tokens = Tokens.train(texts.train, self.vocabulary)
        else:
            tokens = Tokens.load(self.tokenizer)
        arrays, cut = {}, {}
        for part, (some, labels) in texts.parts.items():
            arrays[f"{part}_x"], cut[part] = tokens.encode(some, self.max_tokens)
            arrays[f"{part}_y"] = labels
        return Encoded(arrays, tokens, _report(texts, arrays, cut))

    def read(self) -> dict[str, np.ndarray]:
        return self.encode().arrays

    @property
    def _name(self) -> str:
        return component_name(type(self))

    def describe(self) -> tuple[DataReport, dict[str, np.ndarray]]:
        """Texts are compared before they are cut to tokens."""
        encoded = self.encode()
        return merged(self.inspect().known, encoded.report), encoded.arrays


def _report(
    texts: Texts, arrays: Mapping[str, np.ndarray], cut: Mapping[str, int]
) -> dict[str, Any]:
    """Texts are equal where all their characters are, also behind the limit."""
    told = counted(
        {part: own for part, (own, _) in texts.parts.items()},
        {part: labels.tolist() for part, (_, labels) in texts.parts.items()},
        len(texts.classes),
    )
    for part in texts.parts:
        lengths = (arrays[f"{part}_x"] >= 0).sum(1)
        told[part] |= {"cut": cut[part], "mean_tokens": round(float(lengths.mean()), 3)}
    return told | {"dropped": dict(texts.dropped)}
