"""Whatever a screen or a table shows has a page: what it is, its null, what it cannot see."""

from __future__ import annotations

from typing import get_args

import pytest

from console import compare_model
from console.screens import live_view
from engine.results.compare import compare
from engine.results.explain import PAGES, explain
from engine.results.pages import ALIASES
from engine.results.tables import HEADINGS, Line
from engine.results.tidy import Measurement, registered_audits
from engine.results.verdict import Word

AUDITS = registered_audits()
METRICS = [f"{name}.{metric}" for name, audit in AUDITS.items() for metric in audit.metrics]
MEASURED = Measurement("r", "", "a", "m", "", None, 0, "x", "y", 1.0, "unlearn", 0, 0, "ok", "")
SHOWN = {
    *HEADINGS,
    *Line.__slots__,
    *compare([MEASURED], {})[0],
    *(heading.title for heading in compare_model.HEADINGS),
    *(heading.key for heading in compare_model.HEADINGS),
    *(column.title for column in live_view.COLUMNS if column.title),
    *("band", "histogram", "look", "mean", "std", "ks", "TPR@FPR", "recovery"),
}


@pytest.mark.parametrize("name", [*METRICS, *{metric.partition(".")[2] for metric in METRICS}])
def test_every_metric_has_a_page(name: str) -> None:
    page = explain(name, AUDITS)
    assert "Null: " in page
    assert "Cannot see: " in page


@pytest.mark.parametrize("name", [*AUDITS, *get_args(Word), *SHOWN])
def test_every_word_and_heading_has_a_page(name: str) -> None:
    if name != "verdict":  # the console's `explain verdict` prints the page of every verdict
        assert len(explain(name, AUDITS)) > 80


@pytest.mark.parametrize(
    "name", sorted({*SHOWN, *PAGES} - {"verdict", "known", *get_args(Word), *AUDITS})
)
def test_every_figure_names_its_null_and_its_blind_spots(name: str) -> None:
    page = explain(name, AUDITS)
    assert page.count("Null: ") == page.count("Cannot see: ") >= 1


def test_other_names_lead_to_pages() -> None:
    for name, page in ALIASES.items():
        assert name not in PAGES
        assert explain(name, AUDITS) == explain(page, AUDITS)
    assert explain("TEE", AUDITS) == explain("tee", AUDITS)
