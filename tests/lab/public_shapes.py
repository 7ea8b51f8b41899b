"""Public data files of this job in the shapes that people have them, small, with made-up rows."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def _adult(rng: random.Random, count: int, stop: str) -> list[str]:
    rows = []
    for row in range(count):
        work = "?" if row % 9 == 8 else rng.choice(("Private", "State-gov", "Self-emp-not-inc"))
        cells = (
            rng.randint(17, 90), work, rng.randint(12_000, 900_000),
            rng.choice(("Bachelors", "HS-grad", "11th")), rng.randint(1, 16), "Never-married",
            "?" if work == "?" else rng.choice(("Sales", "Craft-repair", "Adm-clerical")),
            rng.choice(("Husband", "Own-child")), "White", rng.choice(("Male", "Female")),
            rng.choice((0, 0, 2174)), rng.choice((0, 0, 1902)), rng.randint(10, 60),
            rng.choice(("United-States", "Cuba", "?" if row % 9 == 8 else "Mexico")),
            f"{'<=50K' if row % 4 else '>50K'}{stop}",
        )  # fmt: skip
        rows.append(", ".join(map(str, cells)))
    return rows


def adult(folder: Path) -> dict[str, Any]:
    """adult.data and adult.test as UCI gives them."""
    rng = random.Random(0)
    train, test = folder / "adult.data", folder / "adult.test"
    train.write_text("\n".join(_adult(rng, 60, "")) + "\n\n")
    test.write_text("|1x3 Cross validator\n" + "\n".join(_adult(rng, 30, ".")) + "\n\n")
    return {"path": str(train), "test_path": str(test), "header": False}


def wine_quality(folder: Path) -> dict[str, Any]:
    names = ("fixed acidity", "volatile acidity", "pH", "alcohol", "quality")
    rng = random.Random(1)
    rows = [
        f"{rng.uniform(5, 9):.1f};{rng.uniform(0, 1):.2f};{rng.uniform(3, 4):.2f};"
        f"{rng.choice(('9.4', '9.8', '10', '10.0333333333333'))};{5 + row % 3}"
        for row in range(60)
    ]
    path = folder / "winequality-red.csv"
    path.write_text("\n".join([";".join(f'"{name}"' for name in names), *rows]) + "\n")
    return {"path": str(path)}


def iris(folder: Path) -> dict[str, Any]:
    """Without a header, two blank lines at the end."""
    rng = random.Random(2)
    kinds = ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    rows = [
        ",".join([*(f"{rng.uniform(0.1, 7):.1f}" for _ in range(4)), kinds[row // 10]])
        for row in range(30)
    ]
    (folder / "iris.data").write_text("\n".join(rows) + "\n\n\n")
    return {"path": str(folder / "iris.data"), "header": False}


def breast_cancer(folder: Path) -> dict[str, Any]:
    """breast-cancer-wisconsin.data: an id, ten columns, `?`, 2 and 4."""
    rng = random.Random(3)
    rows = [
        ",".join(map(str, [rng.randint(60_000, 1_300_000), *(rng.randint(1, 10) for _ in range(5)),
                           "?" if row % 13 == 12 else rng.randint(1, 10), 4 if row % 3 else 2]))
        for row in range(52)
    ]  # fmt: skip
    path = folder / "breast-cancer-wisconsin.data"
    path.write_text("\n".join(rows) + "\n")
    return {"path": str(path), "header": False}


def titanic(folder: Path) -> dict[str, Any]:
    """Kaggle's train.csv; the label is the second column."""
    rng = random.Random(4)
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow(
        [
            "PassengerId",
            "Survived",
            "Pclass",
            "Name",
            "Sex",
            "Age",
            "SibSp",
            "Parch",
            "Ticket",
            "Fare",
            "Cabin",
            "Embarked",
        ]
    )
    for row in range(1, 121):
        name = f'Person{row}, Mrs. John (Anna "Nan" No {row})' if row % 5 == 0 else f"P{row}, Mr. A"
        rows.writerow([
            row, int(row % 3 == 0), rng.randint(1, 3), name, rng.choice(("male", "female")),
            "" if row % 6 == 5 else rng.choice((22, 38, 0.42, 35.5)), rng.randint(0, 2), 0,
            f"A/5 {20_000 + row}", f"{rng.uniform(5, 90):.4f}", "C85" if row % 4 == 1 else "",
            "" if row == 62 else rng.choice("SCQ"),
        ])  # fmt: skip
    (folder / "train.csv").write_text(out.getvalue(), newline="")
    return {"path": str(folder / "train.csv"), "label": "Survived"}


def pandas_csv(folder: Path) -> dict[str, Any]:
    """DataFrame.to_csv with its index."""
    rng = random.Random(5)
    rows = [f"{row},{rng.gauss(0, 1)!r},{rng.random() < 0.5},{row // 20}" for row in range(40)]
    (folder / "frame.csv").write_text("\n".join([",x,member,target", *rows]) + "\n")
    return {"path": str(folder / "frame.csv")}


def house_prices(folder: Path) -> dict[str, Any]:
    """Kaggle's, with a class at the end: Id, NA among numbers and among words."""
    rng = random.Random(6)
    rows = [
        f"{row},{rng.choice((20, 60, 120))},{'NA' if row % 7 == 3 else rng.randint(21, 150)},"
        f"{rng.choice(('Pave', 'Grvl'))},{'NA' if row % 2 else 'Grvl'},{('low', 'high')[row % 2]}"
        for row in range(1, 61)
    ]
    head = "Id,MSSubClass,LotFrontage,Street,Alley,Price"
    (folder / "houses.csv").write_text("\n".join([head, *rows]) + "\n")
    return {"path": str(folder / "houses.csv")}


def german(folder: Path) -> dict[str, Any]:
    """A German spreadsheet, saved as CSV: mark, semicolons, 1.234,56, CRLF."""
    rng = random.Random(7)
    rows = [
        f"{rng.choice(('1.234,56', '12,50', '999,00', '10.000,00'))};"
        f"{rng.choice(('1.250', '875', '12.000'))};{('Köln', 'Düsseldorf')[row % 2]};"
        f"{('ja', 'nein')[row % 2]}"
        for row in range(40)
    ]
    text = "\r\n".join(["sep=;", "Umsatz;Stück;Stadt;Gekündigt", *rows]) + "\r\n"
    (folder / "export.csv").write_bytes(text.encode("utf-8-sig"))
    return {"path": str(folder / "export.csv")}


def unicode_text(folder: Path) -> dict[str, Any]:
    """Excel's "Unicode text": UTF-16 with its mark, tabs, CRLF, decimal commas of a French one."""
    rng = random.Random(8)
    rows = [
        f"{rng.choice(('1 234,5', '0,25', '17'))}\t{rng.choice(('été', 'hiver'))}\t{row % 2}"
        for row in range(40)
    ]
    text = "\r\n".join(["Prix\tSaison\tAchat", *rows]) + "\r\n"
    (folder / "classeur.txt").write_bytes(text.encode("utf-16"))
    return {"path": str(folder / "classeur.txt")}


def covtype(folder: Path) -> dict[str, Any]:
    """Numbers alone, no header, classes from 1."""
    rng = random.Random(9)
    rows = [
        ",".join(map(str, [rng.randint(1800, 3900), *(rng.randint(0, 1) for _ in range(4)),
                           1 + row % 7]))
        for row in range(70)
    ]  # fmt: skip
    (folder / "covtype.data").write_text("\n".join(rows) + "\n")
    return {"path": str(folder / "covtype.data"), "header": False}


def frames(folder: Path, form: str) -> dict[str, Any]:
    """DataFrame.to_json(orient="records", lines=True) and to_parquet with a shuffled index."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(10)
    x: Sequence[float | None] = [None if n % 11 == 10 else rng.gauss(0, 1) for n in range(44)]
    columns: dict[str, Sequence[Any]] = {
        "x": x,
        "city": [("Oslo", "Bergen")[n % 3 == 0] for n in range(44)],
        "churn": [n % 2 == 0 for n in range(44)],
    }
    if form == "parquet":
        columns["__index_level_0__"] = rng.sample(range(1000), 44)
        pq.write_table(pa.table(columns), folder / "frame.parquet")
        return {"path": str(folder / "frame.parquet"), "label": "churn"}
    rows: Iterable[dict[str, Any]] = (
        dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    )
    (folder / "frame.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(folder / "frame.jsonl")}


# --- texts ---------------------------------------------------------------------------------------

WORDS = ("good", "bad", "slow", "great", "dull", "warm", "cold", "fine")


def _texts(count: int) -> list[str]:
    rng = random.Random(11)
    return [f"a {rng.choice(WORDS)} , {rng.choice(WORDS)} film number {n}" for n in range(count)]


def sst2(folder: Path) -> dict[str, Any]:
    for part, count in (("train", 60), ("dev", 20)):
        rows = [f"{text} \t{n % 2}" for n, text in enumerate(_texts(count))]
        rows[3] = f'it \'s " not " a film , {part} \t1'
        (folder / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return {"path": str(folder / "train.tsv"), "test_path": str(folder / "dev.tsv")}


def imdb_folders(folder: Path) -> dict[str, Any]:
    for part in ("train", "test"):
        for kind in ("pos", "neg"):
            place = folder / "aclImdb" / part / kind
            place.mkdir(parents=True)
            for n, text in enumerate(_texts(12)):
                (place / f"{n}_{7 if kind == 'pos' else 2}.txt").write_text(
                    f"{text}<br /><br />end"
                )
    return {"name": "imdb-folder", "path": str(folder / "aclImdb")}


def imdb_csv(folder: Path) -> dict[str, Any]:
    """Kaggle's "IMDB Dataset.csv"."""
    out = io.StringIO(newline="")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("review", "sentiment"))
    for n, text in enumerate(_texts(60)):
        rows.writerow((f'{text}, "they" say.<br /><br />End', ("positive", "negative")[n % 2]))
    (folder / "IMDB Dataset.csv").write_text(out.getvalue(), newline="")
    return {"path": str(folder / "IMDB Dataset.csv")}


def spam(folder: Path) -> dict[str, Any]:
    """Kaggle's spam.csv: latin-1, label first, three columns without a name, all but empty."""
    rows = [
        f'{("ham", "spam")[n % 3 == 0]},"{text}, £{n} ""now""",{"and more" * (n == 7)},,'
        for n, text in enumerate(_texts(60))
    ]
    (folder / "spam.csv").write_bytes("\r\n".join(["v1,v2,,,", *rows, ""]).encode("latin-1"))
    return {"path": str(folder / "spam.csv")}
