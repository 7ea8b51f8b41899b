"""LiRA: nothing to find where in and out are alike, and shadows that hold what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.lab.artifacts import load_tensors
from engine.lab.audits._likelihood import likelihood_ratios
from engine.lab.audits._membership import auc, hits_at
from engine.lab.audits.mia_lira import MIALiRA
from engine.lab.scene import ShadowScene, scene_of
from engine.lab.state import MODEL
from engine.spec.planned import Stage
from tests.helpers import LocalContext, Run, run_plan, small_experiment

SHADOWS = 16


def drawn(rows: int, gain: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target, shadows, inside and truth of rows whose confidence rises by `gain` once learned, on
    top of a difficulty of their own that no single threshold can see through."""
    generator = torch.Generator().manual_seed(seed)
    hard = 5 * torch.randn(rows, generator=generator, dtype=torch.float64)
    order = torch.rand(SHADOWS, rows, generator=generator).argsort(0)
    inside = order < SHADOWS // 2
    noise = torch.randn(SHADOWS + 1, rows, generator=generator, dtype=torch.float64)
    member = torch.rand(rows, generator=generator) < 0.5
    shadows = hard + gain * inside + noise[:-1]
    return hard + gain * member + noise[-1], shadows, inside, member


@pytest.mark.parametrize("own", [True, False])
def test_alike_in_and_out_give_the_false_positive_rate(own: bool) -> None:
    hits = trials = 0
    areas = []
    for seed in range(150):
        target, shadows, inside, member = drawn(300, 0.0, seed)
        scores = likelihood_ratios(target, shadows, inside, own).scores
        areas.append(auc(scores[member], scores[~member]))
        hits += hits_at(scores[member], scores[~member], 0.05) or 0
        trials += int(member.sum())
    assert abs(sum(areas) / 150 - 0.5) < 4 * ((1 / 150 + 1 / 150) / 12 / 150) ** 0.5
    assert abs(hits / trials - 0.05) < 4 * 2 * (0.05 * 0.95 / trials) ** 0.5


@pytest.mark.parametrize("own", [True, False])
def test_what_was_learned_is_found_where_one_threshold_is_blind(own: bool) -> None:
    target, shadows, inside, member = drawn(2000, 2.0, 1)
    scores = likelihood_ratios(target, shadows, inside, own).scores
    by_row, by_threshold = (
        auc(scores[member], scores[~member]),
        auc(target[member], target[~member]),
    )
    assert by_row is not None and by_threshold is not None
    assert by_row > 0.85 > 0.65 > by_threshold


@pytest.mark.parametrize("own", [True, False])
def test_the_score_turns_with_in_and_out(own: bool) -> None:
    target, shadows, inside, _ = drawn(50, 1.0, 2)
    one = likelihood_ratios(target, shadows, inside, own).scores
    assert torch.equal(likelihood_ratios(target, shadows, ~inside, own).scores, -one)
    order = torch.randperm(SHADOWS)
    again = likelihood_ratios(target, shadows[order], inside[order], own).scores
    assert torch.allclose(again, one, rtol=0, atol=1e-9), "the order of shadows is nothing"
    moved = likelihood_ratios(3 * target + 7, 3 * shadows + 7, inside, own).scores
    assert torch.allclose(moved, one, rtol=0, atol=1e-9), "nor are origin and unit of confidence"


def test_the_score_of_known_densities_is_their_ratio() -> None:
    shadows = torch.tensor([[0.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    inside = torch.tensor([[True], [True], [False], [False]])
    target = torch.tensor([1.0], dtype=torch.float64)
    told = likelihood_ratios(target, shadows, inside, own=True)
    densities = [
        torch.distributions.Normal(mean, std).log_prob(torch.tensor(1.0))
        for mean, std in ((1.0, 2**0.5), (6.0, 8**0.5))
    ]
    assert float(told.scores) == pytest.approx(float(densities[0] - densities[1]), rel=1e-5)


def test_rows_without_two_shadows_on_a_side_are_dropped() -> None:
    target, shadows, inside, _ = drawn(6, 1.0, 3)
    inside[:, 0] = True
    inside[:, 1] = False
    inside[0, 1] = True
    whole = likelihood_ratios(target, shadows, inside, own=True)
    assert whole.kept.tolist() == [False, False, True, True, True, True]
    rest = likelihood_ratios(target[2:], shadows[:, 2:], inside[:, 2:], own=True)
    assert torch.equal(whole.scores, rest.scores)


# --- shadows in a run ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    audits = [
        {"name": "mia-lira", "shadows": 4, "retain_share": 0.5},
        {"name": "mia-ulira", "shadows": 4, "retain_share": 0.5},
        {"name": "accuracy"},
    ]
    methods: list[dict[str, Any]] = [{"name": name} for name in ("none", "retrain")]
    methods += [{"name": "gd", "batch_size": 32}, {"name": "ga", "batch_size": 8}]
    return run_plan(small_experiment(methods=methods, audits=audits, validation=0.2), workshop)


def shadows(run: Run, kind: str) -> list[Stage]:
    return [stage for stage in run.stages(kind) if "shadow" in stage.config]


def scene(run: Run, stage: Stage, tmp: Path) -> ShadowScene:
    context = LocalContext(run.root, stage)
    found = scene_of(context, stage.config)
    assert isinstance(found, ShadowScene)
    return found


def test_every_audit_ran_and_dropped_nobody(run: Run) -> None:
    assert not run.na
    for name in ("mia-lira", "mia-ulira"):
        for cell in run.cells(audit=name):
            told = run.metrics(audit=name, method=cell.method, budget=cell.budget)
            assert told.keys() == MIALiRA.metrics.keys()
            assert told["dropped"] == 0 and told["members"] == 32 == told["nonmembers"]


def test_a_shadow_holds_half_of_poison_and_decoys(run: Run, tmp_path: Path) -> None:
    split = load_tensors(run.root / run.stages("split")[0].key / "rows.safetensors")
    chosen = load_tensors(run.root / run.stages("select")[0].key / "rows.safetensors")["poisoned"]
    poison, validation = set(chosen.tolist()), set(split["validation"].tolist())
    clean = set(split["training"].tolist()) - poison
    found = [scene(run, stage, tmp_path) for stage in shadows(run, "train")]
    assert len(found) == 4
    for one in found:
        forget, retain = set(one.forget_rows.tolist()), set(one.retain_rows.tolist())
        assert len(forget & poison) == 16 == len(forget & validation) == len(forget) / 2
        assert retain <= clean and len(retain) == 144, "half of 288 retained rows"
        assert set(one.training_rows.tolist()) == forget | retain
        assert not set(one.validation_rows.tolist()) & forget
        seen = one.data.take(one.forget_rows).inputs
        assert (seen != one.clean.take(one.forget_rows).inputs).any(dim=(1, 2, 3)).all()
    for a, b in ((0, 1), (2, 3)):
        assert not set(found[a].forget_rows.tolist()) & set(found[b].forget_rows.tolist())


def test_an_unlearned_shadow_forgets_what_its_start_learned(run: Run, tmp_path: Path) -> None:
    stages = shadows(run, "unlearn")
    assert len(stages) == 2 * 2 * 4
    for stage in stages:
        start = run.plan.stages[stage.inputs["start"]]
        mine, learned = (scene(run, s, tmp_path) for s in (stage, start))
        assert torch.equal(mine.forget_rows, learned.forget_rows)
        assert torch.equal(mine.retain_rows, learned.retain_rows)
        counters = LocalContext(run.root, stage).folder / "state.json"
        assert counters.exists()


def test_shadows_are_models_of_their_own(run: Run) -> None:
    models = [load_tensors(run.root / stage.key / MODEL) for stage in shadows(run, "train")]
    start = load_tensors(run.root / run.model_stage(method="none", audit="accuracy").key / MODEL)
    for n, one in enumerate(models):
        for other in [*models[:n], start]:
            assert not torch.equal(one["2.weight"], other["2.weight"])


def test_shadows_need_no_look_and_their_cost_is_told(run: Run) -> None:
    for stage in shadows(run, "train"):
        assert run.tee[stage.key] == pytest.approx(10 * (144 + 32) / 320) == stage.tee
        assert "attack" not in stage.config


def test_a_shadow_before_unlearning_judges_what_was_not_unlearned(run: Run) -> None:
    for method in ("none", "retrain"):
        lira, ulira = (run.metrics(audit=f"mia-{n}", method=method) for n in ("lira", "ulira"))
        assert lira == ulira
    cells = [run.cells(audit=f"mia-{n}", method="gd", budget=0.2)[0] for n in ("lira", "ulira")]
    first, second = (load_tensors(run.root / cell.key / "scores.safetensors") for cell in cells)
    assert not torch.equal(first["members"], second["members"])
