"""Quotes that people forget: no row is lost to one in silence, whatever else the file holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.lab.data.csv_table import CSVTable
from engine.lab.data.text_file import TextFile
from engine.spec.errors import BadInput

NOTES = ("ok", "good", "late", "so so")


def rows_of(rng: random.Random, count: int, delimiter: str) -> list[list[str]]:
    """Rows of a note, a number and a class; the note stands first or in the middle."""
    middle = rng.random() < 0.5
    rows = []
    for row in range(count):
        cells = [f"{rng.choice(NOTES)}", f"{rng.uniform(-5, 5):.2f}", str(row % 2)]
        rows.append([cells[1], cells[0], cells[2]] if middle else cells)
    if delimiter == ";":
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    return rows


@pytest.mark.parametrize("seed", range(40))
def test_a_quote_that_swallows_rows_is_refused_with_the_line_where_it_begins(
    seed: int, tmp_path: Path
) -> None:
    """One that is never closed, or one that closes rows later at the end of a cell."""
    rng = random.Random(seed)
    delimiter = rng.choice(",;\t|")
    rows = rows_of(rng, 40, delimiter)
    opened = rng.randint(2, 30)
    note = next(at for at, cell in enumerate(rows[0]) if cell in NOTES)
    rows[opened][note] = f'"{rows[opened][note]}'
    if seed % 2:
        closed = rng.randint(opened + 1, 38)
        rows[closed][note] = f'{rows[closed][note]}"'
    end = rng.choice(("\n", "\r\n"))
    names = ["a", "b", "risk"]
    text = end.join(delimiter.join(row) for row in [names, *rows]) + end
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    told = delimiter if delimiter == ";" else rng.choice((None, delimiter))
    with pytest.raises(BadInput, match=rf"line {opened + 2}\b.*quote"):
        CSVTable(path=str(tmp_path / "t.csv"), delimiter=told).inspect()


def test_a_lone_quote_among_semicolons_and_decimal_commas_is_named(tmp_path: Path) -> None:
    notes = ("ok", '"ok')
    body = "".join(f"{n % 7},5;{notes[n == 9]};{n % 2}\n" for n in range(20))
    (tmp_path / "t.csv").write_text("x;note;risk\n" + body)
    with pytest.raises(BadInput, match=r"line 11\b.*quote"):
        CSVTable(path=str(tmp_path / "t.csv")).inspect()


def test_a_quote_that_is_not_the_first_character_of_a_cell_is_part_of_it(tmp_path: Path) -> None:
    sizes = ('pipe 5"', '7" nail', 'a "b" c')
    body = "".join(f"{sizes[n % 3]},{n % 7}.5,{n % 2}\n" for n in range(12))
    (tmp_path / "t.csv").write_text("size,x,y\n" + body.replace('7" nail', 'nail 7"'))
    table = CSVTable(path=str(tmp_path / "t.csv"))._table()
    assert table.names[:3] == ['size=a "b" c', 'size=nail 7"', 'size=pipe 5"']
    assert len(table.labels) == 12


def swallowing(inner: list[str], where: int) -> str:
    lines = [f"the film number {n} was fine,{n % 2}" for n in range(20)]
    lines[where] = f'"{lines[where]}'
    lines[where + 1 : where + 3] = inner
    lines[where + 4] = lines[where + 4].replace(",", '",')
    return "text,label\n" + "\n".join(lines) + "\n"


INNER = {
    "a blank line": ["one more,0", ""],
    "a label of its own": ["one more,0", "and one,7"],
    "a comma in a text": ["one more,0", "and one, with a comma,1"],
    "a line of only commas": ["one more,0", ","],
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@pytest.mark.parametrize("kind", [CSVTable, TextFile])
def test_rows_are_not_swallowed_because_one_of_them_is_odd(
    kind: type[CSVTable | TextFile], inner: list[str], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(swallowing(inner, 5))
    with pytest.raises(BadInput, match=r"line 7\b.*quote"):
        kind(path=str(tmp_path / "t.csv")).inspect()


def test_a_text_of_many_lines_is_read(tmp_path: Path) -> None:
    poem = "roses are red,\nviolets are blue,\n\nand so on"
    body = "".join(f'"{poem} {n}",{n % 2}\n' for n in range(12))
    (tmp_path / "t.csv").write_text("text,label\n" + body)
    texts = TextFile(path=str(tmp_path / "t.csv")).texts()
    assert sorted([*texts.train, *texts.test]) == sorted(f"{poem} {n}" for n in range(12))
