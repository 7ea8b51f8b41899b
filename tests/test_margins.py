"""Margins of runs in results: who is judged by which, how it is shown, and what must not be mixed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from test_compare import AUDITS, study

from engine.results.compare import compare
from engine.results.explain import explain
from engine.results.margins import audits_of, document, exactly, lines, with_margins
from engine.results.tidy import registered_audits
from engine.spec.errors import BadInput

WIDE = {"backdoor": {"asr": 0.9}}


def run(name: str, margins: dict[str, Any] | None = None, *audits: str) -> Any:
    """What is asked of a run: its id, its plan's cells, its preset's margins."""
    cells = [SimpleNamespace(audit=audit) for audit in audits or ("attack-success", "accuracy")]
    return SimpleNamespace(id=name, margins=margins or {}, plan=SimpleNamespace(cells=cells))


def test_verdicts_go_by_the_margin_that_is_set_and_nothing_else_changes() -> None:
    found = study(none=[0.9, 0.92, 0.91], retrain=[0.1, 0.12, 0.11], ga=[0.5, 0.53, 0.51])
    own, wide = compare(found, AUDITS), compare(found, with_margins(AUDITS, WIDE))
    judgements = {"verdict", "qualifier", "reason", "equivalence_p", "equivalence_test", "margin"}
    assert [r["verdict"] for r in own] != [r["verdict"] for r in wide]
    assert any("±0.9" in str(r["reason"]) for r in wide)
    for one, other in zip(own, wide, strict=True):
        measured = one.keys() - judgements - {"seeds_to_settle"}
        assert {k: one[k] for k in measured} == {k: other[k] for k in measured}


def test_only_the_margin_is_replaced() -> None:
    shipped = registered_audits()
    found = with_margins(shipped, {"attack-success": {"asr": 0.03}, "theirs": {"x": 1.0}})
    assert found.keys() == shipped.keys()
    for name, audit in found.items():
        assert audit.primary == shipped[name].primary
        if name != "attack-success":
            assert audit is shipped[name]
    mine, theirs = found["attack-success"].metrics, shipped["attack-success"].metrics
    assert mine["asr"] == replace(theirs["asr"], margin=0.03, shipped=0.05)
    assert {**mine, "asr": None} == {**theirs, "asr": None}
    assert shipped["attack-success"].metrics["asr"].margin == 0.05
    for same in ({"attack-success": {"asr": 0.05}}, {"attack-success": {"ars": 0.1}}, {}):
        assert with_margins(shipped, same) == shipped


def test_what_differs_is_told_and_only_that() -> None:
    audits = audits_of([run("a", {"attack-success": {"asr": 0.03}, "accuracy": {}})])
    assert lines(audits) == ["margin of attack-success.asr: ±0.03 (shipped: ±0.05)"]
    assert document(audits, ["attack-success", "accuracy", "shift", "theirs"]) == {
        "accuracy": {"test_accuracy": {"margin": 0.02, "shipped": 0.02}},
        "attack-success": {"asr": {"margin": 0.03, "shipped": 0.05}},
    }
    old = audits_of([run("of before")])
    assert old == registered_audits() and lines(old) == []


def test_margins_that_differ_never_read_the_same() -> None:
    assert exactly(0.05) == "0.05" and exactly(0.05 + 1e-9) == repr(0.05 + 1e-9)
    assert exactly(None) == "-"


def test_explain_names_both_margins() -> None:
    shipped = registered_audits()
    page = " ".join(explain("asr", shipped).split())
    assert "±0.05, as shipped; a preset may set another ([verdicts.attack-success] asr = …)" in page
    mine = with_margins(shipped, {"attack-success": {"asr": 0.03}})
    page = " ".join(explain("asr", mine).split())
    assert "Equivalence margin: ±0.03, set by the preset (shipped: ±0.05)" in page


def test_two_margins_are_not_compared() -> None:
    narrow = {"attack-success": {"asr": 0.03}}
    for others in (run("b"), run("b", {"attack-success": {"asr": 0.05}})):
        with pytest.raises(BadInput) as caught:
            audits_of([run("a", narrow), others])
        message = str(caught.value)
        assert (
            "verdicts.attack-success.asr: run a is judged by ±0.03, run b by ±0.05 (shipped)"
            in message
        )
        assert "--set verdicts.attack-success.asr=0.03" in message
    with pytest.raises(BadInput, match=r"run b is judged by ±0\.05 \(shipped\), run a by ±0\.03"):
        audits_of([run("b"), run("a", narrow)])
    # What one of them does not audit it does not judge.
    for found in (
        [run("a", narrow), run("b", narrow)],
        [run("a", narrow), run("b", None, "gaussian")],
        [run("b", None, "gaussian"), run("a", narrow)],
        [run("a", narrow), run("b", {"theirs": {"x": 1.0}}, "accuracy")],
    ):
        assert lines(audits_of(found)) == ["margin of attack-success.asr: ±0.03 (shipped: ±0.05)"]
