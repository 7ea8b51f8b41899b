"""Tables as text, and the text histogram."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.results.compare import Row, compare
from engine.results.histogram import counts, text_histogram
from engine.results.tables import HEADINGS, exported, summary, to_csv, to_latex, to_markdown
from engine.results.tidy import Measurement
from engine.results.verdict import show_p
from engine.spec.component import Metric


@dataclass(frozen=True)
class Audit:
    metrics: dict[str, Metric]
    primary: str


AUDITS = {
    "gaussian": Audit(
        {
            "mean_score": Metric("mean", "up", 0.15, "standard-normal"),
            "count": Metric("scores"),
            "std_score": Metric("spread"),
        },
        "mean_score",
    ),
    "accuracy": Audit({"test_accuracy": Metric("accuracy", "down", 0.02)}, "test_accuracy"),
}
SCORES = {"none": 0.8, "retrain": 0.0, "neg_grad & co|x": 0.3}


def rows(*, gaussian: bool = True) -> list[Row]:
    def one(method: str, seed: int, audit: str, metric: str, value: float) -> Measurement:
        role = method if method in ("none", "retrain") else "unlearn"
        budget = 0.04 if role == "unlearn" else None
        place = ("run", "digits", "gauss_50%", method, "", budget, seed, audit, metric, value)
        return Measurement(*place, role, 1.5, 2.0, "ok", "")

    table = []
    for method, score in SCORES.items():
        for seed in range(3):
            table.append(one(method, seed, "accuracy", "test_accuracy", 0.9 + 0.001 * seed))
            if gaussian:
                table.append(one(method, seed, "gaussian", "mean_score", score + 0.01 * (seed - 1)))
                table.append(one(method, seed, "gaussian", "count", 100.0))
                table.append(one(method, seed, "gaussian", "std_score", 1.0))
    return compare(table, AUDITS)


def test_summary_has_the_judged_audit_with_z_and_accuracy() -> None:
    lines = summary(rows())
    assert [(line.method, line.audit) for line in lines] == [(m, "gaussian") for m in SCORES]
    assert lines[0].z == pytest.approx(0.8 * math.sqrt(300))
    assert lines[0].accuracy == pytest.approx(0.901)
    assert [line.verdict for line in lines] == ["residue", "reference", "residue"]
    assert all(len(line.cells()) == len(HEADINGS) for line in lines)
    assert lines[2].cells()[HEADINGS.index("value")].startswith("0.300 ± 0.0")
    assert lines[1].cells()[HEADINGS.index("gap to retrain")] == "-"


def test_summary_shows_accuracy_when_it_is_all_there_is() -> None:
    lines = summary(rows(gaussian=False))
    assert {line.audit for line in lines} == {"accuracy"}
    assert {line.z for line in lines} == {None}


def test_csv_reads_back() -> None:
    table = rows()
    back = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(back) == len(table)
    assert list(back[0]) == list(table[0])
    for text, row in zip(back, table, strict=True):
        assert text["method"] == row["method"]
        assert json.loads(text["values"]) == row["values"]
        assert text["gap"] == ("" if row["gap"] is None else str(row["gap"]))
        assert text["verdict"] == (row["verdict"] or "")


# What pandas 3 reads as missing, by its documentation of read_csv.
MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
NUMBERS = ("budget", "n", "mean", "lo", "hi", "gap", "gap_lo", "gap_hi", "recovery", "recovery_lo",
           "recovery_hi", "rate_lo", "rate_hi", "p", "p_holm", "equivalence_p", "seeds_to_settle",
           "tee", "seconds", "search_tee", "search_seconds", "retrain_mean", "p_test", "p_hommel",
           "equivalence_test", "p_relative", "p_reinforced", "p_wrecked", "loss", "loss_lo",
           "loss_hi", "margin")  # fmt: skip


def csv_of(*changes: Row) -> list[dict[str, str]]:
    """One row as CSV, once with each of the changes."""
    row = next(row for row in rows() if row["primary"])
    return list(csv.DictReader(io.StringIO(to_csv([row | change for change in changes]))))


def test_no_cell_with_a_meaning_reads_as_missing() -> None:
    words = ("variant", "setting", "attack", "method", "reason", "class")
    for word in words:
        back = csv_of(*({word: text} for text in MISSING))
        assert [row[word] for row in back] == [f"'{text}" for text in MISSING]
    [row] = csv_of({"verdict": "n/a", "variant": "", "setting": ""})
    assert row["verdict"] == "not-applicable"
    assert row["variant"] == row["setting"] == "(default)"
    for row in csv.DictReader(io.StringIO(to_csv(rows()))):
        judged = row["primary"] == "true"
        empty = {name for name, cell in row.items() if cell == ""}
        texts = {"qualifier", "test", *(() if judged else ("verdict", "reason"))}
        assert empty <= {*NUMBERS, *texts}, row
        assert all(math.isfinite(float(row[name])) for name in NUMBERS if row[name])


def test_no_text_is_a_formula_and_numbers_stay_numbers() -> None:
    texts = ("=1+1", "+1+1", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "'=1", "-1-1")
    back = csv_of(*({"variant": text} for text in texts))
    assert [row["variant"] for row in back] == [f"'{text}".replace("\r", " ") for text in texts]
    plain = ("-1", "+1.5", "lr=0.1", "a-b", "5", "_x")
    assert [row["class"] for row in csv_of(*({"class": text} for text in plain))] == list(plain)
    below = csv_of({"mean": -0.25, "gap": -1e-7, "values": [-0.5, None], "units": ["=1", "-2"]})[0]
    assert (below["mean"], below["gap"]) == ("-0.25", "-1e-07")
    assert (below["values"], below["units"]) == ("[-0.5, null]", '["=1", "-2"]')


def test_programs_get_every_p_value_and_a_word_for_not_applicable() -> None:
    told = {row["method"]: row for row in rows() if row["primary"]}
    ours = told["neg_grad & co|x"]
    assert 0 < ours["p"] <= ours["p_holm"] < 0.05 < ours["equivalence_p"]
    assert ours["p_hommel"] <= ours["p_holm"]
    assert f"Hommel {show_p(ours['p_hommel'])}" in ours["reason"]
    assert f"TOST {show_p(ours['equivalence_test'])}" in ours["reason"]
    assert ours["seeds_to_settle"] is None
    assert told["retrain"]["p_holm"] is None
    nothing = ours | {"verdict": "n/a"}
    assert exported([nothing, ours]) == [ours | {"verdict": "not-applicable"}, ours]
    trial = {"outcome": "n/a", "reason": "n/a"}
    assert exported([trial]) == [{"outcome": "not-applicable", "reason": "n/a"}]


def test_markdown_is_a_rectangle() -> None:
    text = to_markdown(rows())
    assert len({len(line) for line in text.splitlines()}) == 1
    assert re.fullmatch(r"\|( -+:? \|)+", text.splitlines()[1])
    assert r"neg\_grad & co\|x" in text


def test_latex_is_escaped() -> None:
    text = to_latex(rows())
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(SCORES)
    assert all(line.replace(r"\&", "").count("&") == len(HEADINGS) - 3 for line in body)
    assert "rate" not in body[0], "no audit here has a rate to show"
    assert r"neg\_grad \& co|x" in text
    assert r"gauss\_50\%" in text
    assert "±" not in text


def test_no_rows_no_trouble() -> None:
    assert to_csv([]) == ""
    assert to_markdown([]).count("\n") == 2
    assert r"\end{tabular}" in to_latex([])
    assert summary([]) == []


def test_the_same_rows_give_the_same_text() -> None:
    again = json.loads(json.dumps(rows()))
    for render in (to_csv, to_markdown, to_latex):
        assert render(again) == render(rows())


# --- histogram -----------------------------------------------------------------------------------


def test_counts_are_those_inside_the_edges() -> None:
    scores = [-1.0, 0.0, 0.5, 1.0, 2.0, 7.0, math.nan, math.inf]
    assert counts(scores, [0, 1, 2]) == [2, 2]


def test_histogram_of_standard_normal_scores_follows_the_curve() -> None:
    text = text_histogram(np.random.default_rng(0).normal(size=5000), 72, 14, "retrain")
    assert text[0].startswith("retrain")
    assert "n = 5000" in text[0]
    assert "0" in text[-1]
    assert "-4" in text[-1]
    assert any("•" in line for line in text)
    assert any("█" in line for line in text)


def test_axis_widens_to_the_data() -> None:
    assert "12" in text_histogram([0.0, 12.0], 72, 12)[-1]


def test_ascii_is_ascii() -> None:
    assert "".join(text_histogram([0.1, 0.2, 3.0], 60, 10, "t", ascii=True)).isascii()


@pytest.mark.parametrize("scores", [[], [math.nan], [0.5] * 40, [1e300, -1e300], [math.inf, 0.0]])
def test_odd_input_still_fills_its_box(scores: list[float]) -> None:
    text = text_histogram(scores, 60, 10, "title")
    assert len(text) == 10
    assert {len(line) for line in text} == {60}


@settings(max_examples=60, deadline=None)
@given(arrays(float, st.integers(0, 30)), st.integers(1, 120), st.integers(1, 30), st.booleans())
def test_any_histogram_fills_its_box(
    scores: np.ndarray, width: int, height: int, ascii: bool
) -> None:
    text = text_histogram(scores, width, height, "a title", ascii)
    assert len(text) == max(height, 6)
    assert {len(line) for line in text} == {max(width, 24)}
