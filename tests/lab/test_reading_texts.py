"""Random files of texts, in every form: texts to the letter, labels by the rules of docs/tables.md."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.lab.data.text_file import TextFile
from engine.spec.errors import BadInput
from tests.lab.table_forms import ENCODINGS, quoted
from tests.lab.table_meaning import remedies
from tests.lab.written_tables import labels

PIECES = (
    "the film", "was fine", "it 's", "NA", "null", "12", "1,5", "naïve", "東京", "🎬", "?", "—",
    "C++", "; and", "| or", "<br />", "#", "end.", "a  b", "x=1", 'said "no"', "5\u2033", "\u2028",
    "1e5", "-", "'", "\u00a0", "&amp;",
)  # fmt: skip
OUTER = ("", "", "", " ", "  ", "\u3000")
NAMES = (
    ("text", "label"), ("sentence", "label"), ("Review", "Sentiment"), ("text", "class"),
    ("body", "stars"), ("v2", "v1"), ("Ümlaut", "größe"),
)  # fmt: skip


@dataclass
class Row:
    text: str
    label: str  # as it is written
    meant: str
    typed: Any


def rows_of(rng: random.Random, form: str) -> tuple[list[Row], bool, bool]:
    """(rows, whether labels look alike, whether those that do are two classes)."""
    count = rng.randint(20, 40)
    found = labels(rng, count, count, typed=form in ("lines", "array", "parquet"))
    rows = []
    for cell in found.cells:
        words = " ".join(rng.choice(PIECES) for _ in range(rng.randint(1, 6)))
        if form != "tsv" and rng.random() < 0.1:
            words = rng.choice(("{}\nnext line", '"{}"', "{}\ttab", '"{}', "\n{}")).format(words)
        text = f"{rng.choice(OUTER)}{words or 'x'}{rng.choice(OUTER)}"
        text = text if text.strip() else "plain"
        value = cell.typed if found.typed else cell.written
        rows.append(Row(text, cell.written, str(cell.value), value))
    return rows, found.twins, found.apart


def write(
    rng: random.Random, form: str, rows: list[Row], folder: Path
) -> tuple[Path, dict[str, Any]]:
    """The file, and the keys that a person must give."""
    name, other = rng.choice(NAMES)
    usual = name.lower() in ("text", "sentence", "review") and other.lower() in (
        "label", "sentiment", "class",
    )  # fmt: skip
    keys: dict[str, Any] = {} if usual else {"text": name, "label": other}
    if form in ("lines", "array", "parquet"):
        keys = {"text": name, "label": other} if name[0].isupper() or keys else {}
        return _typed(rng, form, rows, folder, (name, other)), keys
    first = rng.random() < 0.3  # the label comes first
    header = rng.random() < 0.7
    extra = rng.random() < 0.3  # a column that is not wanted
    delimiter = "\t" if form == "tsv" else rng.choice(",;\t|")
    records = [[name, other]] if header else []
    records += [[row.text, row.label] for row in rows]
    if first:
        records = [[label, text] for text, label in records]
    if extra:
        own = ["split", *("ab"[n % 2] for n in range(len(rows)))][0 if header else 1 :]
        records = [[*record, cell] for record, cell in zip(records, own, strict=True)]
    if not header:
        keys = {"header": False}
        if extra or first:
            keys |= {"text": int(first), "label": int(not first)}
    if form == "csv":
        style = rng.choice(("minimal", "words", "all"))
        records = [[quoted(cell, delimiter, style) for cell in record] for record in records]
        keys["delimiter"] = delimiter
        if header and not any(sign in records[0][0] + records[0][1] for sign in ",;\t|"):
            keys.pop("delimiter")
    end = rng.choice(("\n", "\r\n"))
    text = "".join(delimiter.join(record) + end for record in records)
    text += end * rng.choice((0, 0, 1, 2))
    encoding, told = rng.choice(ENCODINGS)
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        content, told = text.encode(), False
    if encoding == "utf-16-be":
        content = ("\ufeff" + text).encode(encoding)
    path = folder / f"t.{form}"
    path.write_bytes(content)
    return path, keys | ({"encoding": encoding} if told else {})


def _typed(
    rng: random.Random, form: str, rows: list[Row], folder: Path, names: tuple[str, str]
) -> Path:
    pairs = [(row.text, row.typed) for row in rows]
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts, told = zip(*pairs, strict=True)
        if any(isinstance(label, float) for label in told):
            told = tuple(float(label) for label in told)
        pq.write_table(pa.table({names[0]: texts, names[1]: told}), folder / "t.parquet")
        return folder / "t.parquet"
    ascii = rng.random() < 0.5
    objects = [json.dumps(dict(zip(names, p, strict=True)), ensure_ascii=ascii) for p in pairs]
    path = folder / ("t.jsonl" if form == "lines" else "t.json")
    text = "\n".join(objects) if form == "lines" else f"[{','.join(objects)}]"
    path.write_text(text, encoding="utf-8")
    return path


def check(seed: int, folder: Path) -> bool:
    """One file, from its bytes to texts. Returns whether it was refused at first."""
    rng = random.Random(seed)
    form = rng.choice(("tsv", "tsv", "csv", "csv", "csv", "lines", "array", "parquet"))
    rows, twins, apart = rows_of(rng, form)
    path, keys = write(rng, form, rows, folder)
    data = TextFile.model_validate({"path": str(path), **keys})
    if twins:
        with pytest.raises(BadInput, match=r"^labels .* differ only in .*data\.labels") as told:
            data.texts()
        joined, kept = (value for key, value in remedies(str(told.value)) if key == "labels")
        data = data.model_copy(update={"labels": kept if apart else joined})
    texts = data.texts()
    read = [
        (text, texts.classes[label])
        for own, numbers in texts.parts.values()
        for text, label in zip(own, numbers, strict=True)
    ]
    assert Counter(read) == Counter((row.text, row.meant) for row in rows)
    names = {row.meant for row in rows}
    whole = all(re.fullmatch(r"-?\d+", name) for name in names)
    assert list(texts.classes) == sorted(names, key=int if whole else str)  # type: ignore[arg-type]
    return twins


def run(seeds: range, folder: Path) -> int:
    wrong, refused = [], 0
    for seed in seeds:
        try:
            refused += check(seed, folder)
        except (Exception, pytest.fail.Exception) as error:
            wrong.append(f"seed {seed}: {type(error).__name__}: {error}"[:600])
    assert not wrong, f"{len(wrong)} of {len(seeds)}:\n" + "\n".join(wrong[:20])
    return refused


def test_texts_are_read_to_the_letter(tmp_path: Path) -> None:
    assert run(range(150), tmp_path) > 15


@pytest.mark.slow
def test_texts_are_read_to_the_letter_in_many_files(tmp_path: Path) -> None:
    assert run(range(1000, 3000), tmp_path) > 200
