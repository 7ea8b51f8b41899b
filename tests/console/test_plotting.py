"""`plot`: what is gathered, the text of it, and figures that come out the same every time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from staged import POISONED, Staged, staged
from typer.testing import CliRunner

from console.cli import app
from console.exporting import FORMS, export
from console.plotting import (
    budget_series,
    figure_of,
    loss_panels,
    panels_of,
    score_panels,
    show_plot,
    text_of,
)
from console.screens.choose import free_path
from console.viewmodel import elided
from engine.results.curves import (
    BudgetPanel,
    Curve,
    Level,
    LossPanel,
    ScorePanel,
    Trace,
    budget_panels,
    mean_trace,
    pooled_trace,
)
from engine.results.figures import inline_svg, render, write
from engine.spec.errors import BadInput


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return staged(tmp_path_factory.mktemp("plot"))


def rows(there: Staged) -> list[dict[str, object]]:
    from console.comparing import rows_of

    return rows_of([there.run])


# --- gathering -----------------------------------------------------------------------------------


def test_every_budget_panel_has_both_yardsticks(there: Staged) -> None:
    panels = budget_panels(rows(there))
    assert [(p.attack, p.audit) for p in panels] == [
        ("badnets", "attack-success"), ("badnets", "accuracy"),
        ("gaussian", "gaussian"), ("gaussian", "accuracy"),
    ]  # fmt: skip
    for panel in panels:
        assert panel.retrain is not None
        assert panel.none is not None
        assert {curve.label for curve in panel.curves} == {
            "gd", "ngd grad_noise_std=0.1", "ngd grad_noise_std=0.3",
        }  # fmt: skip
        assert all(curve.budgets == (0.25, 0.5) for curve in panel.curves)
        names = [one.name for one in budget_series(panel)]
        assert {"retrain", "none"} <= set(names)
        assert any(one.kind == "band" for one in budget_series(panel))


def test_scores_are_pooled_over_seeds_at_the_last_budget(there: Staged) -> None:
    panels = score_panels([there.run])
    assert [panel.title for panel in panels] == [
        "gaussian: no unlearning", "gaussian: retrain", "gaussian: gd at budget 0.5",
        "gaussian: ngd grad_noise_std=0.1 at budget 0.5",
        "gaussian: ngd grad_noise_std=0.3 at budget 0.5",
    ]  # fmt: skip
    assert all(len(panel.scores) == 3 * POISONED for panel in panels)
    twice = score_panels([there.run, there.run])
    assert [len(panel.scores) for panel in twice] == [3 * POISONED] * 5


def test_losses_come_from_the_attempts_and_one_trace_a_seed(there: Staged) -> None:
    panels = {panel.title: panel for panel in loss_panels([there.run])}
    assert {"gaussian: training", "gaussian: unlearning"} <= set(panels)
    training = panels["gaussian: training"].traces
    assert sorted({trace.label for trace in training}) == ["poisoned", "retrain"]
    assert len(training) == 6
    assert training[0].steps == tuple(range(0, 40, 4))


def test_losses_of_stored_stages_come_from_the_run_that_computed_them(
    there: Staged, tmp_path: Path
) -> None:
    from engine.jobs import runs

    copy = tmp_path / "home"
    shutil.copytree(there.home.root, copy)
    place = runs.Home(copy)
    other = runs.Run(place, "other-run")
    shutil.copytree(place.runs / there.run.id, other.folder)
    shutil.rmtree(other.folder / "attempts")
    assert loss_panels([other])


def test_traces() -> None:
    assert pooled_trace("a", [(2, 1.0), (1, 3.0), (2, 5.0)]) == Trace("a", (1, 2), (3.0, 5.0))
    mean = mean_trace("m", [Trace("a", (0, 4), (0.0, 4.0)), Trace("b", (1, 3, 5), (1.0, 1.0, 1.0))])
    assert mean.steps == (1, 3, 4)
    assert mean.values == pytest.approx((1.0, 2.0, 2.5))
    assert mean_trace("m", []).steps == ()


# --- text ----------------------------------------------------------------------------------------

ODD = [
    BudgetPanel("", "a", "b", "m", (Curve("c", (0.1,), (Level(0.5),)),), None, None),
    BudgetPanel("s", "a", "b", "m", (Curve("c" * 90, (0.1, 1.0), (Level(0.5, 0.4, 0.6),) * 2),),
                Level(0.1), Level(0.9, 0.8, 1.0)),
    ScorePanel("none left", ()),
    ScorePanel("odd", ((float("nan"), 1e9, 0.1), (0.2,))),
    ScorePanel("one", ((0.5,),)),
    LossPanel("flat", (Trace("a", (0.0,), (1.0,)),)),
    LossPanel("negative", (Trace("a", (0.0, 1.0), (-1.0, 2.0)),)),
]  # fmt: skip


@pytest.mark.parametrize("panel", ODD)
@pytest.mark.parametrize("width", [24, 80])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_odd_panels_are_drawn_in_the_width_given(
    panel: BudgetPanel | ScorePanel | LossPanel, width: int, ascii_only: bool
) -> None:
    lines = text_of(panel, width, 12, ascii_only)
    assert all(len(line) <= max(width, len(panel.title)) for line in lines)
    assert not ascii_only or all(line.isascii() for line in lines if "…" not in line)
    assert inline_svg(figure_of([panel]), "odd").startswith("<svg")


@pytest.mark.parametrize("kind", ["loss", "z", "budget"])
def test_plot_prints_every_panel(
    there: Staged, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_plot(kind, ["staged"], there.home.root, None)
    out = capsys.readouterr().out
    for panel in panels_of(kind, [there.run]):
        assert panel.title in out
    if kind == "budget":
        assert "none" in out
        assert "retrain" in out


def test_plot_refuses_what_it_cannot_draw(there: Staged, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be one of loss, z, budget"):
        show_plot("losss", ["staged"], there.home.root, None)
    with pytest.raises(BadInput, match=r"ends in \.svg, \.pdf, \.png"):
        show_plot("z", ["staged"], there.home.root, tmp_path / "fig.jpg")
    with pytest.raises(BadInput, match="cannot be written"):
        show_plot("z", ["staged"], there.home.root, tmp_path / "no" / "fig.svg")


def test_the_commands_answer_and_refuse(there: Staged, tmp_path: Path) -> None:
    runner, home = CliRunner(), ["--home", str(there.home.root)]
    drawn = runner.invoke(
        app, ["plot", "budget", "staged", "--out", str(tmp_path / "f.svg"), *home]
    )
    assert (drawn.exit_code, (tmp_path / "f.svg").is_file()) == (0, True)
    page = runner.invoke(app, ["report", "staged", "--out", str(tmp_path / "r"), *home])
    assert (page.exit_code, (tmp_path / "r" / "report.html").is_file()) == (0, True)
    saved = runner.invoke(app, ["presets", "save", "staged", str(tmp_path / "p.toml"), *home])
    assert (saved.exit_code, (tmp_path / "p.toml").is_file()) == (0, True)
    for words in (["plot", "budgets", "staged"], ["report", "nobody", "--out", "x"],
                  ["presets", "save", "staged", str(tmp_path / "p.toml")]):  # fmt: skip
        refused = runner.invoke(app, [*words, *home])
        assert refused.exit_code == 2
        assert "Traceback" not in refused.output


def test_names_lose_their_middle() -> None:
    assert elided("ngd grad_noise_std=0.1", 12) == "ngd gr…d=0.1"
    assert elided("gd", 12) == "gd"
    assert all(len(elided("abcdefghij", width)) <= width for width in range(12))


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_figures_are_the_same_every_time(there: Staged, form: str) -> None:
    panels = budget_panels(rows(there))[:2]
    first, second = (render(figure_of(panels), form) for _ in range(2))
    assert first == second


def test_a_readers_matplotlibrc_changes_nothing(there: Staged) -> None:
    import matplotlib as mpl

    panels = budget_panels(rows(there))[:1]
    before = render(figure_of(panels), "svg")
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        assert render(figure_of(panels), "svg") == before


def test_labels_are_never_mathematics(there: Staged) -> None:
    panel = BudgetPanel("", "$x$", "b_c", "m", (Curve("$y^2$", (0.1,), (Level(0.5),)),), None, None)
    svg = inline_svg(figure_of([panel]), "n")
    assert "$x$" in svg
    assert "$y^2$" in svg


def test_every_panel_of_a_figure_says_what_its_yardsticks_are(there: Staged) -> None:
    panels = budget_panels(rows(there))
    figure = figure_of(panels)
    for plot in figure.axes[: len(panels)]:
        labels = plot.get_legend_handles_labels()[1]
        assert {"retraining (95 % band)", "no unlearning"} <= set(labels)
        assert plot.get_xlabel()
        assert plot.get_ylabel()
    markers = {line.get_marker() for line in figure.axes[0].lines} - {"None", "_", ""}
    assert len(markers) >= 3, "curves are told apart without colour"


# --- exports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_exports_write_a_new_file_and_never_another(
    there: Staged, form: str, tmp_path: Path
) -> None:
    if form.endswith(("pdf", "png")) and not form.startswith("z"):
        pytest.skip("one figure in each format is enough")
    path = free_path(tmp_path, "c", form)
    export(form, path, [there.run], rows(there))
    content = path.read_bytes()
    assert content
    with pytest.raises((BadInput, FileExistsError)):
        export(form, path, [there.run], rows(there))
    assert path.read_bytes() == content
    assert free_path(tmp_path, "c", form) != path


def test_write_names_the_reason(there: Staged, tmp_path: Path) -> None:
    write(figure_of(ODD[:1]), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
