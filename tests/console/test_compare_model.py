"""The comparison without a screen: lines in order, cells, interval bars, what is remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staged import staged

from console.compare_model import (
    GROUPS,
    HIDEABLE,
    SORTS,
    Comparison,
    View,
    interval_bar,
    key_of,
    seed_table,
    value_of,
)
from console.comparing import rows_of
from engine.results.tables import summary


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_of([staged(tmp_path_factory.mktemp("compare")).run])


@pytest.fixture
def comparison(rows: list[dict[str, Any]]) -> Comparison:
    return Comparison(rows)


def keys(comparison: Comparison, view: View) -> list[str]:
    return [shown.key for shown in comparison.shown(view) if shown.line is not None]


def test_it_shows_the_lines_of_the_command_line(
    comparison: Comparison, rows: list[dict[str, Any]]
) -> None:
    lines = summary(rows)
    assert comparison.lines == lines
    for shown, line in zip(
        [s for s in comparison.shown(View(group="none")) if s.line], lines, strict=True
    ):
        assert shown.line == line
        assert shown.cells["verdict"][0].endswith(line.verdict)
        told = f"{line.z:+.2f}" if line.z is not None else f"{line.mean:.3f}"
        assert shown.cells["value"][0] == told


def test_a_line_whose_seeds_all_diverged_says_so(rows: list[dict[str, Any]]) -> None:
    lost = {"verdict": "n/a", "reason": "diverged (seed 0, step 12; seed 1, step 15)"}
    changed = [r | lost if r["method"] == "gd" and r["primary"] else r for r in rows]
    comparison = Comparison(changed)
    for view in (View(), View(group="verdict", sort="verdict"), View(matrix=True)):
        shown = comparison.matrix(view) if view.matrix else comparison.shown(view)
        for one in shown:
            if one.line is not None and one.line.method == "gd":
                cells = [text for text, _ in one.cells.values()]
                assert any(text.startswith("n/a: diverged") for text in cells)
    width = next(h.width for h in comparison.headings(View()) if h.key == "verdict")
    assert all(len(comparison.verdict(line)) <= width for line in comparison.lines)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("sort", SORTS)
def test_no_order_loses_or_doubles_a_line(comparison: Comparison, group: str, sort: str) -> None:
    found = keys(comparison, View(group=group, sort=sort))
    assert sorted(found) == sorted(map(key_of, comparison.lines))


def test_keys_are_names_and_unique(comparison: Comparison) -> None:
    found = [key_of(line) for line in comparison.lines]
    assert len(set(found)) == len(found)


def test_pinned_lines_stand_on_top_and_stay_in_their_group(comparison: Comparison) -> None:
    key = key_of(comparison.lines[3])
    view = View().pin(key)
    shown = comparison.shown(view)
    assert shown[0].key == f"pin\t{key}"
    assert shown[0].line == comparison.lines[3]
    assert key in keys(comparison, view)
    assert view.pin(key).pinned == ()


def test_sorting_by_gap_puts_the_widest_first(comparison: Comparison) -> None:
    lines = [s.line for s in comparison.shown(View(group="none", sort="gap")) if s.line]
    gaps = [abs(line.gap) for line in lines if line.gap is not None]
    assert gaps == sorted(gaps, reverse=True)
    assert all(line.gap is None for line in lines[len(gaps) :])


def test_the_matrix_has_a_column_for_each_attack_and_audit(comparison: Comparison) -> None:
    families = comparison.families()
    assert len(families) == 2
    for shown in comparison.matrix(View()):
        for family in families:
            text, style = shown.cells[family]
            assert any(word in text for word in ("residue", "removed", "inconclusive",
                                                 "wrecked", "reference", "n/a"))  # fmt: skip
            assert style


def test_every_verdict_has_a_sign_of_its_own_in_ascii_too(rows: list[dict[str, Any]]) -> None:
    for signs in (Comparison(rows).signs, Comparison(rows, ascii_only=True).signs):
        assert len(set(signs.values())) == len(signs)
    assert all(sign.isascii() for sign in Comparison(rows, ascii_only=True).signs.values())


def test_columns_can_be_hidden_and_empty_ones_hide_themselves(comparison: Comparison) -> None:
    for name in HIDEABLE:
        view = replace(View(), hidden=frozenset({name}))
        assert name not in [heading.key for heading in comparison.headings(view)]
    alone = Comparison([row for row in comparison.rows if row["method"] == "none"])
    assert "budget" not in [heading.key for heading in alone.headings(View())]


def test_nothing_measured_shows_nothing() -> None:
    empty = Comparison([])
    assert empty.shown(View()) == []
    assert empty.matrix(View()) == []
    assert empty.families() == []


def test_the_view_is_remembered_and_nonsense_is_not(comparison: Comparison) -> None:
    view = View().next_group().next_sort().toggle("tee").pin("a\tb")
    assert View.of(json.loads(json.dumps(view.state()))) == view
    odd = {"group": 3, "sort": "??", "hidden": ["nope", 4], "pinned": "x", "matrix": "yes"}
    assert View.of(odd) == View(hidden=frozenset())
    assert View.of({}) == View()


def test_seeds_of_a_line(comparison: Comparison) -> None:
    line = next(line for line in comparison.lines if line.method == "gd")
    head, *body = seed_table(comparison.metrics(line))
    assert head == ["metric", "mean", "95 % interval", "s0", "s1", "s2"]
    assert body[0][0] == line.metric
    assert body[-1][0] == "test_accuracy"
    assert set(comparison.yardsticks(line)) == {"retrain", "none"}


def test_value_is_z_where_there_is_one(comparison: Comparison) -> None:
    for line in comparison.lines:
        assert value_of(line).startswith(("+", "-")) == (line.audit == "gaussian")


# --- interval bars -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "lo", "hi", "bar"),
    [
        (0.0, -0.5, 0.5, "  ├──●──┤  "),
        (0.6, 0.4, 0.8, "     ┊ ├●┤ "),
        (-0.6, -0.8, -0.4, " ├●┤ ┊     "),
        (0.6, None, None, "     ┊  ●  "),
        (0.9, 0.5, 3.0, "     ┊ ├──●▸"[:11]),
        (5.0, 4.0, 6.0, "     ┊    ▸"),
        (-5.0, -6.0, -4.0, "◂    ┊     "),
        (None, None, None, "     ┊     "),
        (float("nan"), None, None, "     ┊     "),
    ],
)
def test_bars(mean: float | None, lo: float | None, hi: float | None, bar: str) -> None:
    drawn = interval_bar(mean, lo, hi, (-1.0, 1.0), 11)
    if mean != 0.9:
        assert drawn == bar
    assert len(drawn) in (0, 11)


def test_the_axis_of_the_bars_leaves_no_room_where_nothing_is() -> None:
    assert interval_bar(0.6, 0.4, 0.8, (-0.1, 1.0), 12) == " ┊   ├─●─┤  "


def test_a_class_has_its_name_in_the_drill_down(rows: list[dict[str, Any]]) -> None:
    line = Comparison(rows).lines[0]
    own = Comparison(rows).metrics(line)[0]
    told = own | {"metric": "class_accuracy.3", "class": "cat", "primary": False}
    body = seed_table(Comparison([*rows, told]).metrics(line))
    assert "class_accuracy.3 (cat)" in [cells[0] for cells in body]


numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers, numbers, st.floats(1e-6, 1e6), st.integers(3, 60), st.booleans())
def test_bars_always_fit(
    a: float, b: float, c: float, reach: float, width: int, ascii_only: bool
) -> None:
    lo, mean, hi = sorted((a, b, c))
    drawn = interval_bar(mean, lo, hi, (-reach, reach), width, ascii_only)
    assert len(drawn) == width
    assert not ascii_only or drawn.isascii()
    inside = [end for end in (lo, hi) if abs(end) <= reach]
    if lo < -0.2 * reach and hi > 0.2 * reach and inside:
        assert drawn[width // 2] not in "┊|", "an interval across zero covers the line"
